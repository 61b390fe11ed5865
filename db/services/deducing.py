"""Deduce a schema for a version that exists: a DEDUCE_SCHEMA job proposes one from its profile and its first rows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from db.core.work import Work
from db.services import jobs, outputs, proposals, version_jobs
from db.services.outputs import Result
from db.tables import SchemaProposal
from db.tables.jobs import JobKind

OPERATION = "proposeSchema"
DEDUCE_SCHEMA = jobs.declare(jobs.JobKindSpec(JobKind.DEDUCE_SCHEMA, title="schema proposal", queue="default", outputs=(SchemaProposal,)))


async def propose(work: Work, version_id: UUID, idempotency_key: str | None = None) -> UUID:
    """Submit the job; see `version_jobs.submit`."""
    return await version_jobs.submit(work, DEDUCE_SCHEMA, OPERATION, "propose_schema", version_id, idempotency_key)


async def complete(work: Work, job: Row[Any], proposal: Result) -> None:
    """Add the proposal in the transaction that settles its job."""
    proposal_id = await proposals.add(work, job, job.dataset_version_id, proposal)
    await outputs.add_outputs(work, job, [(SchemaProposal, proposal_id)])
