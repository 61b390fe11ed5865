"""Mutations that cancel and retry jobs."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import invalid
from db.queries import jobs as job_queries
from db.queries import runs
from db.services import jobs
from db.services.jobs.cancelling import MAX_JOBS
from graph.core.context import Info
from graph.core.costs import COMPUTED, JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, filter_id
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, QuotaExceeded, WrongState
from graph.core.scalars import BigInt
from graph.jobs.enums import JobStatus
from graph.jobs.inputs import CancelJobInput, CancelJobsInput, RetryJobInput
from graph.jobs.types import Job

if TYPE_CHECKING:
    from graph.experiments.types import Run


@strawberry.type(description="The job is cancelled, or is being stopped.")
class CancelJobPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(job_queries.by_id, key="job_id", description="The job: CANCELLED if it was waiting, else CANCELLING.")


@strawberry.type(description="A job that was not cancelled.")
class UnchangedJob:
    job_id: ID = strawberry.field(description="Its id, as given.")
    status: JobStatus | None = strawberry.field(
        description="Its status: it has ended, or is being stopped already. Null if there is no such job that you may see."
    )


@strawberry.type(description="What became of the jobs. The counts are of this call alone: called again, it changes nothing more.")
class CancelJobsPayload:
    cancelled_count: int = strawberry.field(description="How many waited, and are CANCELLED.")
    cancelling_count: int = strawberry.field(description="How many were running, and are CANCELLING.")
    unchanged: list[UnchangedJob] = strawberry.field(
        metadata=costs(entries=1), description="Those of `ids` that were not cancelled, each once and in their order."
    )
    remaining_count: BigInt = strawberry.field(
        description=f"How many more jobs meet `filter` and wait or run: at most {MAX_JOBS} are cancelled at once, the newest first. Call again until it is 0."
    )


@strawberry.type(description="A new job runs the same work again.")
class RetryJobPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(
        job_queries.by_id,
        key="job_id",
        description="The new job, with the same inputs, parameters and seed. Its `retryOf` is the old job, which is unchanged.",
    )
    run: Annotated["Run", strawberry.lazy("graph.experiments.types")] | None = one(
        runs.of_job, key="job_id", description="The new run, if the job trains."
    )


CancelJobResult = Annotated[
    CancelJobPayload | NotFound | WrongState,
    strawberry.union("CancelJobResult", description="The possible results of `cancelJob`."),
]
CancelJobsResult = Annotated[
    CancelJobsPayload | InvalidInput,
    strawberry.union("CancelJobsResult", description="The possible results of `cancelJobs`."),
]
RetryJobResult = Annotated[
    RetryJobPayload | NotFound | InvalidInput | WrongState | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("RetryJobResult", description="The possible results of `retryJob`."),
]


@strawberry.type
class JobMutations:
    @mutation(
        scope=Scope.RUN, description="Cancel a job: at once if it waits, within seconds if it runs. Once accepted, the job never completes."
    )
    async def cancel_job(
        self, info: Info, input: Annotated[CancelJobInput, strawberry.argument(description="The job to cancel.")]
    ) -> CancelJobResult:
        job_id = decode("job", input.id)
        async with info.context.work() as work:
            await jobs.cancel(work, job_id)
        return CancelJobPayload(job_id=job_id)

    @mutation(
        scope=Scope.RUN,
        metadata=costs(COMPUTED),
        description="Cancel many jobs, all at once: each as `cancelJob` does. Jobs of a team that you may only see are not among those of a filter.",
    )
    async def cancel_jobs(
        self, info: Info, input: Annotated[CancelJobsInput, strawberry.argument(description="The jobs to cancel.")]
    ) -> CancelJobsResult:
        given = list(dict.fromkeys(input.ids or ()))
        async with info.context.work() as work:
            if input.filter is None:
                result = await jobs.cancel_named(work, [filter_id("job", id_) for id_ in given])
            elif input.ids is None:
                result = await jobs.cancel_matching(work, input.filter.to_criteria())
            else:
                raise invalid("filter", message="Give `ids` or `filter`, not both.")
        ids = {filter_id("job", id_): id_ for id_ in reversed(given)}
        return CancelJobsPayload(
            cancelled_count=result.cancelled,
            cancelling_count=result.cancelling,
            unchanged=[UnchangedJob(job_id=ids[key], status=status) for key, status in result.unchanged],
            remaining_count=BigInt(result.remaining),
        )

    @mutation(scope=Scope.RUN, metadata=costs(JOB), description="Run a job that has ended again, as a new job.")
    async def retry_job(
        self, info: Info, input: Annotated[RetryJobInput, strawberry.argument(description="The job to run again.")]
    ) -> RetryJobResult:
        async with info.context.work() as work:
            job_id = await jobs.retry(work, decode("job", input.id), input.idempotency_key)
        return RetryJobPayload(job_id=job_id)
