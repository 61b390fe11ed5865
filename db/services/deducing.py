"""Deduce a schema for a version that exists: a DEDUCE_SCHEMA job proposes one from its profile and its first rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from db.core.audit import ref
from db.core.work import Work
from db.services import idempotency, jobs, outputs, proposals, versions
from db.services.outputs import Result
from db.tables import SchemaProposal
from db.tables.jobs import JobKind

OPERATION = "proposeSchema"
DEDUCE_SCHEMA = jobs.declare(jobs.JobKindSpec(JobKind.DEDUCE_SCHEMA, title="schema proposal", queue="default", outputs=(SchemaProposal,)))


async def propose(work: Work, version_id: UUID, idempotency_key: str | None = None) -> UUID:
    """Submit the job; return its id.

    Raises `NotFound`, `WrongState`, `InvalidInput` or `Conflict`; the end of the unit of work `InsufficientCredits`.
    """
    work.viewer.require_write()
    stored_answer = await idempotency.recall(work, OPERATION, idempotency_key, {"version_id": version_id})
    if stored_answer is not None:
        return UUID(stored_answer["job"])
    _, dataset = await versions.lock_ready(work, version_id)
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=DEDUCE_SCHEMA.kind,
            queue=jobs.queue_for(DEDUCE_SCHEMA.kind, dataset.modality),
            dataset_id=dataset.id,
            dataset_version_id=version_id,
            inputs=[version_id],
        ),
    )
    await idempotency.remember(work, idempotency_key, {"job": str(job.id)})
    work.record("propose_schema", "version", version_id, dataset.owner_id, after={"job": ref("job", job.id)})
    return job.id


async def complete(work: Work, job: Row[Any], proposal: Result) -> None:
    """Add the proposal in the transaction that settles its job."""
    proposal_id = await proposals.add(work, job, job.dataset_version_id, proposal)
    await outputs.add_outputs(work, job, [(SchemaProposal, proposal_id)])
