"""Jobs and their outputs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import strawberry

from db.core.queues import entry_id
from db.queries import accounts, artifacts, datasets, jobevents, jobs, pipelines, versions
from db.tables.jobstates import TERMINAL, WAITING
from graph.accounts.types import Profile, User
from graph.core.context import Info
from graph.core.costs import RESULT, costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node, encode
from graph.core.loading import identity
from graph.core.paging import Connection, PrunableConnection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.files import Artifact
from graph.datasets.types import Dataset, DatasetVersion
from graph.jobs.enums import JobKind, JobStatus, WaitReason
from graph.jobs.inputs import JobFilter, JobOrder
from graph.jobs.outputs import JobOutput, load_outputs
from graph.jobs.parts import JobAttempt, JobCredits, JobError, JobEvent, JobNode
from graph.pipelines.types import Pipeline, PipelineSnapshot

# The parameters that are stored as keys of rows, of whatever kind the job is: what `node` takes are ids.
_PARAMETER_PREFIXES = {
    "outputDatasetId": "dataset",
    "fromVersionId": "version",
    "toVersionId": "version",
    "explanationId": "explanation",
    "exportId": "export",
    "study": "study",
}


@strawberry.type(description="A unit of background work, with its status, inputs and outputs. Follow it with `jobEvents`.")
class Job(Node, prefix="job", found_by=jobs.by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    failure: strawberry.Private[Mapping[str, Any] | None]
    stored_parameters: strawberry.Private[Mapping[str, Any]]
    retry_of_id: strawberry.Private[UUID | None]
    dataset_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID | None]
    pipeline_id: strawberry.Private[UUID | None]
    snapshot_id: strawberry.Private[UUID | None]
    model_version_id: strawberry.Private[UUID | None]
    estimated_completed_at: strawberry.Private[datetime | None]
    dispatch_no: strawberry.Private[int]
    kind: JobKind = strawberry.field(description="What it does.")
    status: JobStatus = strawberry.field(description="Its current status.")
    progress: int = strawberry.field(description="Its progress in percent, 0 to 100; 100 only once it has completed.")
    current_step: str | None = strawberry.field(description="The part that is running.")
    priority: int = strawberry.field(
        description="1 to 10, 10 being the highest. Waiting raises it by one every 5 minutes, which this value does not show."
    )
    queue: str = strawberry.field(description="The queue that it waits in, or was claimed from.")
    attempt: int = strawberry.field(description="How often a worker has claimed it.")
    tries: int = strawberry.field(description="How many tries failures have used up.")
    max_tries: int = strawberry.field(description="How many tries failures may use up before it is FAILED.")
    timeout_seconds: float | None = strawberry.field(
        description="The time limit of each attempt in seconds; null if the workers' default applies."
    )
    credit_cost: BigInt = strawberry.field(
        description="Its cost in credits, by the prices on the day of its submission: held from then on, charged when it completes,"
        " and returned if it fails or is cancelled. 0 for a free job."
    )
    created_at: datetime = strawberry.field(description="When it was submitted.")
    queued_at: datetime | None = strawberry.field(description="When it was first dispatched to the workers.")
    started_at: datetime | None = strawberry.field(description="When a worker first claimed it.")
    completed_at: datetime | None = strawberry.field(description="When it ended, successfully or not.")
    retry_of: "Job | None" = one(jobs.by_id, key="retry_of_id", description="The job that this one retries.")
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )
    dataset: Dataset | None = one(datasets.by_id, key="dataset_id", description="The dataset that it works on.")
    dataset_version: DatasetVersion | None = one(
        versions.by_id, key="dataset_version_id", description="The version that it works on; for an ingest, the version that it fills."
    )
    pipeline: Pipeline | None = one(
        pipelines.by_id,
        key="pipeline_id",
        description="The pipeline that it runs, in its present state; `snapshot` is the definition that runs.",
    )
    snapshot: PipelineSnapshot | None = one(pipelines.snapshot_by_id, key="snapshot_id", description="The frozen definition that it runs.")
    config: Artifact | None = one(
        artifacts.config_of_job,
        description="What ran, as a JSON file for reports and repetitions: the frozen definition, parameters and seed, the versions that were read with their"
        " SHA-256, and the packages. Null unless it is a pipeline's and has completed.",
    )
    nodes: list[JobNode] = many(
        jobs.nodes, metadata=costs(entries=10), description="Its parts in order, with their status in the latest attempt."
    )
    attempts: list[JobAttempt] = many(jobs.attempts, metadata=costs(entries=3), description="Its attempts, the first one first.")
    events: PrunableConnection[JobEvent] = connection(
        jobevents.of_job,
        pruned=jobevents.pruned,
        description="Its events, the first one first. Some time after its end, as the operators set it, the last event alone is left.",
    )

    @strawberry.field(
        description="The id of its last entry in the queue in Redis, to find it there while it waits; null until it is dispatched. Each dispatch has another."
        " The logs of workers name the job and its attempt instead."
    )
    def queue_job_id(self) -> str | None:
        return entry_id(self.uuid, self.dispatch_no) if self.dispatch_no else None

    @strawberry.field(
        description="The parameters that it was submitted with, as an object; the keys depend on the kind. The ids in it are those of this API."
    )
    def parameters(self) -> JSON:
        return {
            name: encode(_PARAMETER_PREFIXES[name], UUID(value)) if name in _PARAMETER_PREFIXES else value
            for name, value in self.stored_parameters.items()
        }

    @strawberry.field(description="What became of its cost; null for a free job.")
    def credits(self) -> JobCredits | None:
        if self.credit_cost == 0:
            return None
        if self.status not in TERMINAL:
            return JobCredits(job_id=self.uuid, held=self.credit_cost, charged=None)
        charged = self.credit_cost if self.status is JobStatus.COMPLETED else BigInt(0)
        return JobCredits(job_id=self.uuid, held=BigInt(0), charged=charged)

    @strawberry.field(description="Why it failed or, while it waits for a retry, why its last attempt failed.")
    def error(self) -> JobError | None:
        return JobError.of(self.failure, self.owner_id)

    @strawberry.field(
        description="The time from its first start to its end, or until now while it has not ended. Includes the pauses between attempts."
    )
    def duration(self) -> Duration | None:
        return duration(self.started_at, self.completed_at)

    @strawberry.field(
        description="The estimated remaining time, computed from the rate of its progress. Null if it is not running, while there is no"
        " estimate yet, and once the estimate has passed."
    )
    def time_left(self) -> Duration | None:
        if self.status is not JobStatus.RUNNING or self.estimated_completed_at is None:
            return None
        seconds_left = (self.estimated_completed_at - datetime.now(UTC)).total_seconds()
        return Duration(seconds_left) if seconds_left >= 0 else None

    @strawberry.field(description="Why it has not started; null if it is not waiting.")
    async def wait_reason(self, info: Info) -> WaitReason | None:
        wait_info = await self._wait_info(info)
        return None if wait_info is None else WaitReason(wait_info.reason)

    @strawberry.field(
        description="Its position among everybody's waiting jobs of its queue, 1 being next: ordered by priority with ageing, then owners in turn,"
        " then age; jobs held back by a concurrency limit come last. Null if it is not waiting, or is waiting for a retry."
    )
    async def queue_position(self, info: Info) -> int | None:
        wait_info = await self._wait_info(info)
        return None if wait_info is None else wait_info.position

    async def _wait_info(self, info: Info) -> Any:
        if self.status not in WAITING:
            return None
        return await info.context.loaders.one(jobs.wait_info, identity).load(self.uuid)

    @strawberry.field(
        metadata=costs(RESULT),
        description="What it answers, once it has completed: of a PREDICT, an object with the `predictions` of its rows or, for a dataset version,"
        " how many rows have one and the columns that hold them; with `issues`, each {code, message, column, count, firstRow, values}, and the"
        " `classes` of a classifier; of a PROFILE, the `profilerVersion`, and whether the profile `isNew`; of a COMPARE, what `compareRows`"
        " says. Null for a kind that has none.",
    )
    async def result(self, info: Info) -> JSON | None:
        row = await info.context.loaders.one(jobs.results, identity).load(self.uuid)
        return None if row is None else row.result

    @strawberry.field(
        graphql_type=list[JobOutput],
        metadata=costs(entries=5),
        description="Its outputs, in the order of their creation; empty until it has completed.",
    )
    async def outputs(self, info: Info) -> list[Any]:
        return await load_outputs(info.context, await info.context.loaders.many(jobs.outputs, identity).load(self.uuid))


def duration(started_at: datetime | None, completed_at: datetime | None) -> Duration | None:
    """Return the seconds between the two times, or until now; None before the start."""
    if started_at is None:
        return None
    end = datetime.now(UTC) if completed_at is None else completed_at
    return Duration(max(end - started_at, timedelta()).total_seconds())


extend(
    User,
    "jobs",
    Connection[Job],
    connection(jobs.of_owner, filtered_by=JobFilter, ordered_by=JobOrder, description="The jobs that the user owns."),
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
extend(
    PipelineSnapshot,
    "jobs",
    Connection[Job],
    connection(jobs.of_snapshot, description="The jobs that ran exactly this definition, newest first."),
)
