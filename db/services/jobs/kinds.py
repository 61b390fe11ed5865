"""The kinds of jobs. Each is declared once, in the module of its domain; the engine reads the declaration and knows no kind by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, and_, or_, select

from db.core.base import Table
from db.core.discovery import import_submodules
from db.core.prices import PRICE_REFUSALS
from db.core.queues import QUEUES
from db.core.work import Work
from db.tables.datasets import DatasetVersion, Modality
from db.tables.jobs import Job, JobInput, JobKind

Hook = Callable[[Work, Row[Any]], Awaitable[None]]
RetryHook = Callable[[Work, Row[Any], Row[Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class JobKindSpec:
    """The declaration of a kind of job. A worker without a task for it ends the job as FAILED with NOT_SUPPORTED.

    title: Its name for people, in lower case; log files are named by it.
    queue: The queue of its jobs; None for the queue of the dataset's modality.
    max_tries: Tries before a job is FAILED; None for the setting.
    price_refusal: Why it has no price, as a sentence; None where it may have one.
    outputs: The tables whose rows may be its outputs.
    target: The parameter that holds the id of the dataset to which its outputs are added; None if that is the dataset it works on, or none.
    on_begin: Runs in the claim's unit of work, with the job's row, before `on_change`.
    on_change: Runs in the unit of work of every change of status except dispatch and cancel request, with the changed row. It runs after
        the rows of job and attempt are written and, for COMPLETED, before the task writes its results.
    on_retry: Runs in the unit of work that submits a retry, with the old and the new job's row. It raises `WrongState` to refuse.
    """

    kind: JobKind
    title: str
    queue: str | None = None
    max_tries: int | None = None
    price_refusal: str | None = None
    outputs: tuple[type[Table], ...] = ()
    target: str | None = None
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
    """Return the declaration of a kind; a default without hooks for a kind that only another release declares."""
    return declared_kinds().get(kind) or JobKindSpec(kind, title=kind.value)


def target_of(job: Row[Any]) -> UUID:
    """Return the id of the dataset to which a job of a kind with a `target` adds its outputs."""
    target = spec_of(job.kind).target
    assert target is not None, f"{job.kind.name} declares no target"
    return UUID(job.parameters[target])


def uses_dataset(dataset_id: UUID) -> ColumnElement[bool]:
    """Whether a job works on this dataset, reads a version of it, or adds its outputs to it."""
    targets = [(kind, spec.target) for kind, spec in declared_kinds().items() if spec.target is not None]
    adds = [and_(Job.kind == kind, Job.parameters[target].astext == str(dataset_id)) for kind, target in targets]
    versions = select(DatasetVersion.id).where(DatasetVersion.dataset_id == dataset_id)
    reads = Job.id.in_(select(JobInput.job_id).where(JobInput.dataset_version_id.in_(versions)))
    return or_(Job.dataset_id == dataset_id, reads, *adds)


def queue_for(kind: JobKind, modality: Modality | None) -> str:
    """Return the queue of a job of this kind on a dataset of this modality; None where it works on no dataset."""
    queue = spec_of(kind).queue
    if queue is not None:
        return queue
    return "default" if modality is None or modality.value not in QUEUES else modality.value
