"""The parts of a job: nodes, attempts, events and errors."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry

from db.queries import artifacts, jobevents, jobs
from graph.core.context import Info
from graph.core.edges import one
from graph.core.scalars import JSON, BigInt
from graph.datasets.files import Artifact
from graph.jobs.enums import JobEventType, JobNodeStatus, JobStatus

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.type(description="Why a job, one of its attempts or one of its nodes ended badly.")
class JobError:
    owner_id: strawberry.Private[UUID]
    stored_traceback: strawberry.Private[str | None]
    code: str = strawberry.field(description="The kind of failure, for programs, such as OUT_OF_MEMORY or BAD_INPUT.")
    message: str = strawberry.field(description="What happened, where, and what to do next, for people.")
    retryable: bool = strawberry.field(
        description="Whether trying again may help. If so, the job was tried again until its tries were used up."
    )

    @strawberry.field(description="Where in the code it happened; only for the job's owner and for admins.")
    def traceback(self, info: Info) -> str | None:
        viewer = info.context.signed_in_viewer
        return self.stored_traceback if viewer.sees_all or viewer.id == self.owner_id else None

    @classmethod
    def of(cls, failure: Mapping[str, Any] | None, owner_id: UUID) -> Self | None:
        """Of a stored error, {code, message, retryable, traceback}; None of none."""
        if failure is None:
            return None
        return cls(
            owner_id=owner_id,
            stored_traceback=failure.get("traceback"),
            code=failure["code"],
            message=failure["message"],
            retryable=bool(failure.get("retryable")),
        )


@strawberry.type(description="A part of a job: a node of its pipeline, or a stage of an ingest; as it stands in the latest attempt.")
class JobNode:
    key: str = strawberry.field(description="Its name within the job: the node's key in the definition, or the stage's name.")
    step: str = strawberry.field(description="The key of the step that it carries out.")
    status: JobNodeStatus = strawberry.field(description="Where it stands.")
    progress: int = strawberry.field(description="How far it is, 0 to 100.")
    output: JSON | None = strawberry.field(description="What it found out, such as counts of rows or scores; null until it has ended.")
    error: JobError | None = strawberry.field(description="Why it ended badly.")
    started_at: datetime | None = strawberry.field(description="When it began.")
    completed_at: datetime | None = strawberry.field(description="When it ended, in whatever way.")

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


@strawberry.type(description="One time that a worker took the job. Deploys and lost workers add attempts; only failures use up tries.")
class JobAttempt:
    log_id: strawberry.Private[UUID | None]
    number: int = strawberry.field(description="Counts up from 1.")
    worker: str = strawberry.field(description="The name of the worker that took it.")
    started_at: datetime = strawberry.field(description="When the worker took it.")
    ended_at: datetime | None = strawberry.field(description="When it was over; null while it runs.")
    heartbeat_at: datetime | None = strawberry.field(description="When its worker was last heard of.")
    outcome: str | None = strawberry.field(
        description="How it was over: completed, failed, cancelled, retrying, given_back (the worker was stopped) or lost (it vanished)."
    )
    error: JobError | None = strawberry.field(description="Why it ended badly.")
    log: Artifact | None = one(
        artifacts.by_id,
        key="log_id",
        description="All that it printed and logged, each line with its time, however it ended. Null while it runs, where it said nothing,"
        " and of an attempt whose worker vanished.",
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


@strawberry.type(description="Something that happened to a job. Events are numbered without a gap and never change.")
class JobEvent:
    job_id: strawberry.Private[UUID]
    sequence: BigInt = strawberry.field(description="Counts up from 1 within the job.")
    attempt: int = strawberry.field(description="The attempt that it belongs to; 0 before the first.")
    type: JobEventType = strawberry.field(description="What happened.")
    status: JobStatus = strawberry.field(description="Where the job stood after it.")
    progress: int = strawberry.field(description="How far the job was, 0 to 100.")
    step: str | None = strawberry.field(description="The part of the job that it is about.")
    message: str | None = strawberry.field(description="What it says, for people.")
    data: JSON | None = strawberry.field(description="What it says, for programs; its shape depends on the type.")
    created_at: datetime = strawberry.field(description="When it happened.")
    job: Annotated[Job, strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The job, as it is when this is answered."
    )

    @strawberry.field(description="Its place: `jobEvents(after:)` goes on after it, and so does a page of the job's events.")
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
