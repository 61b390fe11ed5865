"""The parts of a job: nodes, attempts, events and errors."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry

from db.queries import artifacts, billing, jobevents, jobs
from graph.core.context import Info
from graph.core.edges import one
from graph.core.scalars import JSON, BigInt
from graph.datasets.files import Artifact
from graph.jobs.enums import JobEventType, JobNodeStatus, JobStatus

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.type(description="The failure of a job, of one of its attempts or of one of its nodes, or of a run.")
class JobError:
    owner_id: strawberry.Private[UUID]
    stored_traceback: strawberry.Private[str | None]
    code: str = strawberry.field(description="The kind of failure, such as OUT_OF_MEMORY or BAD_INPUT, to branch on.")
    message: str = strawberry.field(description="What happened, where, and what to do next; for display.")
    retryable: bool = strawberry.field(description="Whether a retry may succeed. If so, the job was retried until its tries were used up.")

    @strawberry.field(description="The Python traceback; visible to the job's owner and to admins only.")
    def traceback(self, info: Info) -> str | None:
        viewer = info.context.signed_in_viewer
        return self.stored_traceback if viewer.sees_all or self.owner_id in viewer.accounts else None

    @classmethod
    def of(cls, failure: Mapping[str, Any] | None, owner_id: UUID) -> Self | None:
        """Make it from a stored error, {code, message, retryable, traceback}; None for None."""
        if failure is None:
            return None
        return cls(
            owner_id=owner_id,
            stored_traceback=failure.get("traceback"),
            code=failure["code"],
            message=failure["message"],
            retryable=bool(failure.get("retryable")),
        )


@strawberry.type(description="What a job holds of its payer's credits, and what it took.")
class JobCredits:
    job_id: strawberry.Private[UUID]
    held: BigInt = strawberry.field(description="The credits that it holds, which cannot be spent otherwise; 0 once it has ended.")
    charged: BigInt | None = strawberry.field(
        description="The credits that it took: all that it held if it completed, 0 if it failed or was cancelled. Null until it has ended."
    )

    @strawberry.field(description="The credits that an admin gave back of those that it took; see `refundJob`.")
    async def refunded(self, info: Info) -> BigInt:
        if not self.charged:
            return BigInt(0)
        return await info.context.loaders.one(billing.refund_by_job, _amount).load(self.job_id) or BigInt(0)


def _amount(row: Any) -> BigInt:
    return BigInt(row.amount)


@strawberry.type(description="A part of a job in its latest attempt: a node of its pipeline, or a stage of an ingest.")
class JobNode:
    key: str = strawberry.field(description="Its name within the job: the key of the node in the definition, or the name of the stage.")
    step: str = strawberry.field(description="The key of the step that it runs.")
    status: JobNodeStatus = strawberry.field(description="Its current status.")
    progress: int = strawberry.field(description="Its progress in percent, 0 to 100.")
    output: JSON | None = strawberry.field(description="Its results, such as row counts or scores; null until it has ended.")
    error: JobError | None = strawberry.field(description="Why it failed; null if it did not.")
    started_at: datetime | None = strawberry.field(description="When it started.")
    completed_at: datetime | None = strawberry.field(description="When it ended, successfully or not.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            key=row.key,
            step=row.step,
            status=row.status,
            progress=row.progress,
            output=row.output,
            error=JobError.of(row.failure, row.owner_id),
            started_at=row.started_at,
            completed_at=row.completed_at,
        )


@strawberry.type(description="One claim of the job by a worker. Deploys and lost workers add attempts; only failures use up tries.")
class JobAttempt:
    log_id: strawberry.Private[UUID | None]
    number: int = strawberry.field(description="Counts up from 1.")
    worker: str = strawberry.field(description="The name of the worker that claimed it.")
    started_at: datetime = strawberry.field(description="When the worker claimed it.")
    ended_at: datetime | None = strawberry.field(description="When it ended; null while it runs.")
    heartbeat_at: datetime | None = strawberry.field(description="When its worker last sent a heartbeat.")
    outcome: str | None = strawberry.field(
        description="How it ended: completed, failed, cancelled, retrying, given_back (the worker shut down) or lost (the worker disappeared)."
    )
    error: JobError | None = strawberry.field(description="Why it failed; null if it did not.")
    log: Artifact | None = one(
        artifacts.by_id,
        key="log_id",
        description="Its complete output and log, each line with its time, however it ended. Null while it runs, if there was no output,"
        " and if its worker disappeared.",
    )

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            log_id=row.log_id,
            number=row.number,
            worker=row.worker,
            started_at=row.started_at,
            ended_at=row.ended_at,
            heartbeat_at=row.heartbeat_at,
            outcome=row.outcome,
            error=JobError.of(row.failure, row.owner_id),
        )


@strawberry.type(description="An event of a job. Events are numbered without gaps and never change.")
class JobEvent:
    job_id: strawberry.Private[UUID]
    sequence: BigInt = strawberry.field(description="Counts up from 1 within the job.")
    attempt: int = strawberry.field(description="The number of its attempt; 0 before the first.")
    type: JobEventType = strawberry.field(description="What happened.")
    status: JobStatus = strawberry.field(description="The status of the job after the event.")
    progress: int = strawberry.field(description="The progress of the job in percent, 0 to 100.")
    step: str | None = strawberry.field(
        description="The part of the job that it concerns. Parts that start or complete at about the same time share an event; `data.nodes` has their keys."
    )
    message: str | None = strawberry.field(description="Its text, for display.")
    data: JSON | None = strawberry.field(description="Its structured data; the keys depend on the type.")
    created_at: datetime = strawberry.field(description="When it happened.")
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The job in its present state, not as it was at the event."
    )

    @strawberry.field(description="Its position: pass it as `after` to `jobEvents` or to `Job.events` to continue after this event.")
    def cursor(self) -> str:
        return jobevents.cursor_of(self.job_id, self.sequence)

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            job_id=row.job_id,
            sequence=row.sequence,
            attempt=row.attempt,
            type=row.type,
            status=row.status,
            progress=row.progress,
            step=row.step,
            message=row.message,
            data=row.data,
            created_at=row.created_at,
        )
