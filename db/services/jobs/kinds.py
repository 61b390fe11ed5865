"""The kinds of jobs: each is declared once, in the module of its domain. The engine asks the declaration and knows no kind by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from db.core.base import Table
from db.core.discovery import import_submodules
from db.core.prices import PRICE_REFUSALS
from db.core.queues import QUEUES
from db.core.work import Work
from db.tables.datasets import Modality
from db.tables.jobs import JobKind

Hook = Callable[[Work, Row[Any]], Awaitable[None]]
RetryHook = Callable[[Work, Row[Any], Row[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JobKindSpec:
    """What the engine must know of a kind of job. A worker that has no task for it ends such a job as FAILED with NOT_SUPPORTED.

    title: Its name for people, in lower case; log files are named by it.
    queue: Where its jobs wait; None for the queue of the dataset's modality.
    max_tries: How often a job is tried before it is FAILED; None for the setting's number.
    price_refusal: Why it has no price, as a sentence; None where it may have one.
    outputs: The tables whose rows it may leave as outputs.
    on_begin: Runs in the work of the claim, with the job's row, before `on_change`.
    on_change: Runs in the work of every change of status but the dispatch and a request to cancel, with the job's row after the change.
        The job's record, checkpoints and credits are written before; COMPLETED comes before the task's own effects.
    on_retry: Runs in the work that makes a job anew, with the old job's row and the new one's. It raises `WrongState` to refuse the retry.
    """

    kind: JobKind
    title: str
    queue: str | None = None
    max_tries: int | None = None
    price_refusal: str | None = None
    outputs: tuple[type[Table], ...] = ()
    on_begin: Hook | None = None
    on_change: Hook | None = None
    on_retry: RetryHook | None = None


_SPECS: dict[JobKind, JobKindSpec] = {}


def declare(spec: JobKindSpec) -> JobKindSpec:
    """Register a kind of job. Raise `ValueError` for a second declaration."""
    if spec.kind in _SPECS:
        raise ValueError(f"The kind of job {spec.kind.name} is declared twice.")
    _SPECS[spec.kind] = spec
    PRICE_REFUSALS[spec.kind.name] = spec.price_refusal
    return spec


def declared_kinds() -> dict[JobKind, JobKindSpec]:
    """Return every declaration of `db.services`."""
    import_submodules("db.services")
    return _SPECS


def spec_of(kind: JobKind) -> JobKindSpec:
    """Return the declaration of a kind; one without hooks for a kind that this release does not declare, as a newer one may."""
    return declared_kinds().get(kind) or JobKindSpec(kind, title=kind.value)


def queue_for(kind: JobKind, modality: Modality | None) -> str:
    """Return the queue of a job of this kind on a dataset of this modality; None where it works on no dataset."""
    queue = spec_of(kind).queue
    if queue is not None:
        return queue
    return "default" if modality is None or modality.value not in QUEUES else modality.value
