"""Submit a job: insert its row, inputs and first event in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Row, Select, Table, Uuid, any_, bindparam, func, insert, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.services import credits, quota
from db.services.jobs.kinds import spec_of
from db.services.jobs.transitions import notify_change
from db.settings import DEFAULT_PRIORITY, state_settings
from db.tables import DatasetVersion, Job, JobEvent, JobInput, PipelineInput
from db.tables.jobs import JobEventType, JobKind
from db.tables.jobstates import JobStatus


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be submitted. It belongs to `owner_id`, whoever submits it, and counts in the limits of `db.queries.storage.payer`.

    `timeout` is in seconds; `max_tries` defaults to its kind's.
    `extras` of the package are those that its worker must have. With `requires_space`, it is refused if its owner is at the storage quota.
    """

    owner_id: UUID
    kind: JobKind
    queue: str
    priority: int = DEFAULT_PRIORITY
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    dataset_id: UUID | None = None
    dataset_version_id: UUID | None = None
    pipeline_id: UUID | None = None
    snapshot_id: UUID | None = None
    model_version_id: UUID | None = None
    retry_of_id: UUID | None = None
    inputs: list[UUID] = field(default_factory=list[UUID])
    max_tries: int | None = None
    timeout: float | None = None
    extras: Sequence[str] = ()
    requires_space: bool = False
    created_by_id: UUID | None = None
    """Whose it is to be, if not the viewer's; for what the system submits for somebody."""


def _submit_statement() -> Select[*tuple[Any, ...]]:
    # One statement, built once: building three took as long as running them.
    values: dict[str, Any] = {name: bindparam(f"p_{name}", type_=Job.__table__.c[name].type) for name in _INSERTED_COLUMNS}
    use = quota.USE.cte("storage_use")
    owner_id = values["owner_id"]
    payer_id = select(func.nullif(use.c.payer_id, owner_id)).scalar_subquery()
    job = insert(_JOBS).values(values | {"payer_id": payer_id}).returning(*_JOBS.c).cte("job")
    event_values = {
        "job_id": job.c.id,
        "sequence": job.c.last_sequence,
        "attempt": literal(0),
        "type": literal(JobEventType.CREATED, _EVENTS.c.type.type),
        "status": job.c.status,
        "progress": literal(0),
    }
    created = insert(_EVENTS).from_select(list(event_values), select(*event_values.values())).cte("created")
    versions = bindparam("p_inputs", type_=ARRAY(Uuid))
    inputs = insert(_INPUTS).from_select(["job_id", "dataset_version_id"], select(job.c.id, func.unnest(versions))).cte("inputs")
    datasets = select(job.c.pipeline_id, DatasetVersion.dataset_id).distinct().join(DatasetVersion, DatasetVersion.id == any_(versions))
    of_pipeline = upsert(PipelineInput).from_select(["pipeline_id", "dataset_id"], datasets.where(job.c.pipeline_id.is_not(None)))
    pipeline_inputs = of_pipeline.on_conflict_do_nothing().cte("pipeline_inputs")
    return select(job, use.c.used_bytes, use.c.quota_bytes).join(use, true()).add_cte(created, inputs, pipeline_inputs)


_JOBS, _EVENTS, _INPUTS = (cast("Table", table.__table__) for table in (Job, JobEvent, JobInput))
_INSERTED_COLUMNS = (
    "owner_id",
    "created_by_id",
    "kind",
    "status",
    "queue",
    "extras",
    "priority",
    "parameters",
    "dataset_id",
    "dataset_version_id",
    "pipeline_id",
    "snapshot_id",
    "model_version_id",
    "retry_of_id",
    "max_tries",
    "timeout_seconds",
    "credit_cost",
)
_SUBMIT_STATEMENT = _submit_statement()


async def submit(work: Work, new: NewJob) -> Row[Any]:
    """Insert the job as PENDING and return its row. Workers are notified after the commit; a lost notice delays the job by a poll interval.

    Raises `QuotaExceeded` if the job requires space. If the owner has too few credits, the end of the unit of work raises
    `InsufficientCredits`.
    """
    max_tries = new.max_tries or spec_of(new.kind).max_tries or state_settings().max_tries
    values = {
        "owner_id": new.owner_id,
        "created_by_id": new.created_by_id or work.viewer.maker_id,
        "kind": new.kind,
        "status": JobStatus.PENDING,
        "queue": new.queue,
        "extras": sorted(new.extras) or None,
        "priority": new.priority,
        "parameters": new.parameters,
        "dataset_id": new.dataset_id,
        "dataset_version_id": new.dataset_version_id,
        "pipeline_id": new.pipeline_id,
        "snapshot_id": new.snapshot_id,
        "model_version_id": new.model_version_id,
        "retry_of_id": new.retry_of_id,
        "max_tries": max_tries,
        "timeout_seconds": new.timeout,
        "credit_cost": credits.price(new.kind),
        "inputs": list(dict.fromkeys(new.inputs)),
    }
    job = await work.one(_SUBMIT_STATEMENT, {f"p_{name}": value for name, value in values.items()})
    if new.requires_space:
        quota.require_space(job.used_bytes, job.quota_bytes)
    credits.hold_for_job(work, job)
    notify_change(work, job)
    return job
