"""Mutations that cancel and retry jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from db.queries import jobs as job_queries
from db.queries import runs
from db.services import jobs
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, QuotaExceeded, WrongState
from graph.jobs.inputs import CancelJobInput, RetryJobInput
from graph.jobs.types import Job

if TYPE_CHECKING:
    from graph.experiments.types import Run


@strawberry.type(description="The job is cancelled, or is being stopped.")
class CancelJobPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(job_queries.by_id, key="job_id", description="The job: CANCELLED if it was waiting, else CANCELLING.")


@strawberry.type(description="A new job runs the same work again.")
class RetryJobPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(
        job_queries.by_id,
        key="job_id",
        description="The new job, with the same inputs, parameters and seed. Its `retryOf` is the old job, which is unchanged.",
    )
    run: Annotated[Run, strawberry.lazy("graph.experiments.types")] | None = one(
        runs.of_job, key="job_id", description="The new run, if the job trains."
    )


CancelJobResult = Annotated[
    CancelJobPayload | NotFound | WrongState,
    strawberry.union("CancelJobResult", description="The possible results of `cancelJob`."),
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

    @mutation(scope=Scope.RUN, metadata=costs(JOB), description="Run a job that has ended again, as a new job.")
    async def retry_job(
        self, info: Info, input: Annotated[RetryJobInput, strawberry.argument(description="The job to run again.")]
    ) -> RetryJobResult:
        async with info.context.work() as work:
            job_id = await jobs.retry(work, decode("job", input.id), input.idempotency_key)
        return RetryJobPayload(job_id=job_id)
