"""Jobs that compute something of a version that exists."""

from __future__ import annotations

from uuid import UUID

from db.core.audit import ref
from db.core.work import Work
from db.services import idempotency, jobs, versions


async def submit(
    work: Work, kind: jobs.JobKindSpec, operation: str, action: str, version_id: UUID, idempotency_key: str | None = None
) -> UUID:
    """Submit such a job, which the audit records as `action`; return its id.

    Raises `NotFound`, `WrongState`, `InvalidInput` or `Conflict`; the end of the unit of work `InsufficientCredits`.
    """
    work.viewer.require_write()
    stored_answer = await idempotency.recall(work, operation, idempotency_key, {"version_id": version_id})
    if stored_answer is not None:
        return UUID(stored_answer["job"])
    _, dataset = await versions.lock_ready(work, version_id)
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=kind.kind,
            queue=jobs.queue_for(kind.kind, dataset.modality),
            dataset_id=dataset.id,
            dataset_version_id=version_id,
            inputs=[version_id],
        ),
    )
    await idempotency.remember(work, idempotency_key, {"job": str(job.id)})
    work.record(action, "version", version_id, dataset.owner_id, after={"job": ref("job", job.id)})
    return job.id
