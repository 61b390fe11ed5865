"""From the words of a command line to a filter of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from db.core.criteria import Period
from db.queries.jobs import JobFilter
from db.services.jobs import QUEUES
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

E = TypeVar("E", bound=StrEnum)

_AGO = re.compile(r"(\d{1,6})\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class NotUnderstood(Exception):
    """An option has a value that means nothing; the message says which would."""


def wanted(
    status: Sequence[str] | None, queue: Sequence[str] | None, kind: Sequence[str] | None, since: str | None, owner_id: UUID | None
) -> JobFilter:
    """The filter. Raises `NotUnderstood`."""
    return JobFilter(
        status=_words("status", status, JobStatus),
        queue=None if not queue else named_queues(queue),
        kind=_words("kind", kind, JobKind),
        created_at=None if since is None else Period(gte=_time(since)),
        owner_id=owner_id,
    )


def named_queues(given: Iterable[str]) -> tuple[str, ...]:
    """Names of queues, separated by commas or given one by one. Raises `NotUnderstood`."""
    names = tuple(dict.fromkeys(_split(given)))
    if not names:
        raise NotUnderstood(f"No queue is named. The queues are {', '.join(QUEUES)}.")
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise NotUnderstood(f"There is no queue {', '.join(map(repr, unknown))}. The queues are {', '.join(QUEUES)}.")
    return names


def _split(given: Iterable[str]) -> list[str]:
    return [part.strip() for text in given for part in text.split(",") if part.strip()]


def _words(option: str, given: Sequence[str] | None, words: type[E]) -> tuple[E, ...] | None:
    if not given:
        return None
    try:
        return tuple(words(word.lower()) for word in _split(given))
    except ValueError:
        raise NotUnderstood(f"--{option} takes one or more of {', '.join(word.value for word in words)}.") from None


def _time(text: str) -> datetime:
    ago = _AGO.fullmatch(text.strip().lower())
    if ago is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise NotUnderstood(
            f"--since takes `90s`, `30m`, `2h` or `7d`, or an ISO time such as 2026-01-31T12:00Z; {text!r} is neither."
        ) from None
    return found if found.tzinfo else found.astimezone()
