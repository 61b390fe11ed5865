"""The nodes of a job's pipeline (or the stages of an ingest), attempt by attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from db.core.work import Work
from db.services.jobs.transitions import Claim, clock
from db.tables import JobNode
from db.tables.jobs import JobNodeStatus

_WAITING = frozenset({JobNodeStatus.PENDING, JobNodeStatus.SKIPPED})
_ENDED = frozenset({JobNodeStatus.COMPLETED, JobNodeStatus.FAILED, JobNodeStatus.SKIPPED, JobNodeStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class NodeChange:
    """The new state of a node; `output` is a small summary, `error` is {code, message, retryable}."""

    key: str
    status: JobNodeStatus
    progress: int
    output: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


async def begin(work: Work, claim: Claim, nodes: Sequence[tuple[str, str]]) -> None:
    """Insert the attempt's nodes, (key, step) each, in order. To be called once an attempt, in a fenced unit of work."""
    if nodes:
        rows = [
            {"job_id": claim.job_id, "attempt": claim.attempt, "key": key, "position": position, "step": step}
            for position, (key, step) in enumerate(nodes)
        ]
        await work.run(insert(JobNode), rows)


async def record(work: Work, claim: Claim, changes: Mapping[str, NodeChange]) -> None:
    """Update nodes, in a fenced unit of work."""
    for change in changes.values():
        statement = update(JobNode).where(JobNode.job_id == claim.job_id, JobNode.attempt == claim.attempt, JobNode.key == change.key)
        values: dict[str, Any] = {"status": change.status, "progress": change.progress, "error": change.error}
        if change.output is not None:
            values["output"] = change.output
        if change.status not in _WAITING:
            values["started_at"] = func.coalesce(JobNode.started_at, clock())
        if change.status in _ENDED:
            values["completed_at"] = clock()
        await work.run(statement.values(values))


async def failing(work: Work, claim: Claim) -> list[dict[str, Any]]:
    """Return the attempt's nodes that have failed or fail now, as events list them: [{key, status}]."""
    is_failing = JobNode.status.in_((JobNodeStatus.FAILED, JobNodeStatus.RUNNING))
    statement = select(JobNode.key).where(JobNode.job_id == claim.job_id, JobNode.attempt == claim.attempt, is_failing)
    return [{"key": row.key, "status": JobNodeStatus.FAILED.name} for row in await work.all(statement.order_by(JobNode.position))]


async def end(work: Work, job_id: UUID, attempt: int, status: JobNodeStatus, error: dict[str, Any] | None) -> None:
    """End the attempt's nodes: a running node gets `status`, a pending one SKIPPED."""
    statement = update(JobNode).where(JobNode.job_id == job_id, JobNode.attempt == attempt)
    pending = statement.where(JobNode.status == JobNodeStatus.PENDING)
    await work.run(pending.values(status=JobNodeStatus.SKIPPED, completed_at=clock()))
    running = statement.where(JobNode.status == JobNodeStatus.RUNNING)
    await work.run(running.values(status=status, completed_at=clock(), error=error))
