"""Parse command-line options into a filter of jobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from db.core.criteria import Criteria, Equals, OneOf, Period
from db.services.jobs import QUEUES
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

_RELATIVE_TIME = re.compile(r"(\d{1,6})\s*([smhd])", re.ASCII)
_BYTES = re.compile(r"(\d{1,19})\s*(?:([kmgtp])(i?)b?|b)?", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class InvalidOption(Exception):
    """An option has an invalid value; the message names the valid ones."""


def job_filter(
    status: Sequence[str] | None, queue: Sequence[str] | None, kind: Sequence[str] | None, since: str | None, owner_id: UUID | None
) -> Criteria:
    """Raises `InvalidOption`."""
    return Criteria.of(
        status=_parse_enum("status", status, JobStatus),
        queue=None if not queue else OneOf(parse_queues(queue)),
        kind=_parse_enum("kind", kind, JobKind),
        created_at=None if since is None else Period(gte=_parse_time(since)),
        owner_id=None if owner_id is None else Equals(owner_id),
    )


def parse_queues(values: Iterable[str]) -> tuple[str, ...]:
    """Names of queues, separated by commas or repeated. Raises `InvalidOption`."""
    names = tuple(dict.fromkeys(_split_values(values)))
    if not names:
        raise InvalidOption(f"No queue is named. The queues are {', '.join(QUEUES)}.")
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise InvalidOption(f"There is no queue {', '.join(map(repr, unknown))}. The queues are {', '.join(QUEUES)}.")
    return names


def _split_values(values: Iterable[str]) -> list[str]:
    return [part.strip() for text in values for part in text.split(",") if part.strip()]


def _parse_enum(option: str, values: Sequence[str] | None, enum_type: type[StrEnum]) -> OneOf | None:
    if not values:
        return None
    try:
        return OneOf(tuple(enum_type(word.lower()) for word in _split_values(values)))
    except ValueError:
        raise InvalidOption(f"--{option} takes one or more of {', '.join(word.value for word in enum_type)}.") from None


def parse_duration(option: str, text: str) -> timedelta:
    """A duration such as `90d`. Raises `InvalidOption`."""
    match = _RELATIVE_TIME.fullmatch(text.strip().lower())
    if match is None or not int(match[1]):
        raise InvalidOption(f"--{option} takes a duration such as `12h` or `90d`; {text!r} is none.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_bytes(text: str) -> int:
    """A number of bytes, such as `500000000`, `20GB` or `20GiB`. Raises `InvalidOption`."""
    match = _BYTES.fullmatch(text.strip().lower())
    if match is None:
        raise InvalidOption(f"A quota is a number of bytes such as `500000000` or `20GiB`, or `tier`; {text!r} is neither.")
    base = 1024 if match[3] else 1000
    return int(match[1]) * base ** " kmgtp".index(match[2] or " ")


def _parse_time(text: str) -> datetime:
    match = _RELATIVE_TIME.fullmatch(text.strip().lower())
    if match is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidOption(
            f"--since takes `90s`, `30m`, `2h` or `7d`, or an ISO time such as 2026-01-31T12:00Z; {text!r} is neither."
        ) from None
    return parsed if parsed.tzinfo else parsed.astimezone()
