"""Jobs and what they make."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import strawberry

from db.queries import accounts, datasets, jobevents, jobs, pipelines, versions
from db.tables.jobstates import WAITING
from graph.accounts.types import User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.paging import Connection
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.types import Dataset, DatasetVersion
from graph.jobs.enums import JobKind, JobStatus, WaitReason
from graph.jobs.inputs import JobFilter, JobOrder
from graph.jobs.outputs import JobOutput, load_outputs
from graph.jobs.parts import JobAttempt, JobError, JobEvent, JobNode
from graph.pipelines.types import Pipeline, PipelineSnapshot


@strawberry.type(description="A piece of work: who asked for it, where it stands, what it made. Follow it with `jobEvents`.")
class Job(Node, prefix="job", found_by=jobs.by_id):
    owner_id: strawberry.Private[UUID]
    failure: strawberry.Private[Mapping[str, Any] | None]
    retry_of_id: strawberry.Private[UUID | None]
    dataset_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID | None]
    pipeline_id: strawberry.Private[UUID | None]
    snapshot_id: strawberry.Private[UUID | None]
    estimated_completed_at: strawberry.Private[datetime | None]
    kind: JobKind = strawberry.field(description="What it does.")
    status: JobStatus = strawberry.field(description="Where it stands.")
    progress: int = strawberry.field(description="How far it is, 0 to 100; 100 only once it has completed.")
    current_step: str | None = strawberry.field(description="What it is at.")
    priority: int = strawberry.field(description="1 to 10, 10 first; waiting raises it by one every 5 minutes, which this does not show.")
    queue: str = strawberry.field(description="The queue that it waits in, or was taken from.")
    attempt: int = strawberry.field(description="How often a worker has taken it.")
    tries: int = strawberry.field(description="How many tries failures have used up.")
    max_tries: int = strawberry.field(description="How many it may use before it is FAILED.")
    timeout_seconds: float | None = strawberry.field(description="How long each attempt may run; null where the workers' own limit holds.")
    parameters: JSON = strawberry.field(description="What it was asked to do, as an object; its keys depend on the kind.")
    credit_cost: BigInt = strawberry.field(
        description="What it costs in credits, by the price on the day it was asked for: held from then on, charged once it has completed,"
        " and given back if it fails or is cancelled. 0 for what costs nothing."
    )
    created_at: datetime = strawberry.field(description="When it was asked for.")
    queued_at: datetime | None = strawberry.field(description="When it was first sent to the workers.")
    started_at: datetime | None = strawberry.field(description="When a worker first took it.")
    completed_at: datetime | None = strawberry.field(description="When it ended, in whatever way.")
    retry_of: Job | None = one(jobs.by_id, key="retry_of_id", description="The job that this one does again.")
    owner: User = one(accounts.by_id, key="owner_id", description="Whose it is.")
    dataset: Dataset | None = one(datasets.by_id, key="dataset_id", description="The dataset that it works on.")
    dataset_version: DatasetVersion | None = one(
        versions.by_id, key="dataset_version_id", description="The version that it works on; of an ingest the one that it fills."
    )
    pipeline: Pipeline | None = one(
        pipelines.by_id, key="pipeline_id", description="The pipeline that it runs, as that is now; `snapshot` is what runs."
    )
    snapshot: PipelineSnapshot | None = one(pipelines.snapshot_by_id, key="snapshot_id", description="The frozen definition that it runs.")
    nodes: list[JobNode] = many(
        jobs.nodes, metadata=costs(entries=10), description="Its parts in their order, as they stand in the latest attempt."
    )
    attempts: list[JobAttempt] = many(
        jobs.attempts, metadata=costs(entries=3), description="The times that a worker took it, the first one first."
    )
    events: Connection[JobEvent] = connection(jobevents.of_job, description="What happened to it, the first event first.")

    @strawberry.field(description="Why it failed; also why its last attempt failed, while it waits for the next.")
    def error(self) -> JobError | None:
        return JobError.of(self.failure, self.owner_id)

    @strawberry.field(description="From its first start to its end, pauses between attempts included; so far, while it has not ended.")
    def duration(self) -> Duration | None:
        return duration(self.started_at, self.completed_at)

    @strawberry.field(
        description="How long it will probably still take, from how fast its progress moves. Null while it does not run, while that is not"
        " known yet, and once it has taken longer than was foreseen."
    )
    def time_left(self) -> Duration | None:
        if self.status is not JobStatus.RUNNING or self.estimated_completed_at is None:
            return None
        seconds_left = (self.estimated_completed_at - datetime.now(UTC)).total_seconds()
        return Duration(seconds_left) if seconds_left >= 0 else None

    @strawberry.field(description="Why it has not started; null when it does not wait.")
    async def wait_reason(self, info: Info) -> WaitReason | None:
        wait_info = await self._wait_info(info)
        return None if wait_info is None else WaitReason(wait_info.reason)

    @strawberry.field(
        description="Its place among the jobs that wait in its queue, everybody's, 1 being next: by priority with ageing, then owners in turn,"
        " then age, and behind them those that only a limit on what runs at once holds back. Null when it does not wait, or not yet again."
    )
    async def queue_position(self, info: Info) -> int | None:
        wait_info = await self._wait_info(info)
        return None if wait_info is None else wait_info.position

    async def _wait_info(self, info: Info) -> Any:
        if self.status not in WAITING:
            return None
        return await info.context.loaders.one(jobs.wait_info, identity).load(self.uuid)

    @strawberry.field(
        graphql_type=list[JobOutput],
        metadata=costs(entries=5),
        description="What it made, in the order it made it; empty until it has completed.",
    )
    async def outputs(self, info: Info) -> list[Any]:
        return await load_outputs(info.context, await info.context.loaders.many(jobs.outputs, identity).load(self.uuid))


def duration(started_at: datetime | None, completed_at: datetime | None) -> Duration | None:
    """Seconds between the two, or until now; None before the start."""
    if started_at is None:
        return None
    end = datetime.now(UTC) if completed_at is None else completed_at
    return Duration(max(end - started_at, timedelta()).total_seconds())


extend(
    User,
    "jobs",
    Connection[Job],
    connection(jobs.of_owner, filtered_by=JobFilter, ordered_by=JobOrder, description="The jobs that are theirs."),
)
extend(
    Dataset,
    "jobs",
    Connection[Job],
    connection(jobs.of_dataset, filtered_by=JobFilter, ordered_by=JobOrder, description="The jobs that worked on it."),
)
extend(DatasetVersion, "jobs", Connection[Job], connection(jobs.of_version, description="The jobs that worked on it, newest first."))
extend(
    Pipeline,
    "jobs",
    Connection[Job],
    connection(jobs.of_pipeline, filtered_by=JobFilter, ordered_by=JobOrder, description="The jobs that ran it."),
)
