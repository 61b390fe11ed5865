"""Filters and orders of lists of jobs, and inputs of mutations on jobs."""

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, order_input, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.jobs.enums import JobKind, JobStatus


@strawberry.input(description="Conditions on jobs, all of which must hold. A list of values means any of them.")
class JobFilter(Filter):
    kind: list[JobKind] | None = strawberry.field(description="What it does.")
    status: list[JobStatus] | None = strawberry.field(description="Its current status.")
    queue: list[str] | None = strawberry.field(description="The queue that it waits in, or was claimed from.")
    dataset_id: ID | None = reference("dataset", description="The dataset that it works on.")
    pipeline_id: ID | None = reference("pipeline", description="The pipeline that it runs.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was submitted.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


JobOrder = order_input(
    "Job",
    "jobs",
    created_at="When it was submitted.",
    priority="Its priority as submitted, 1 to 10, then its age.",
)


@strawberry.input(description="The job to cancel.")
class CancelJobInput:
    id: ID = strawberry.field(description="The job.")


@strawberry.input(description="The jobs to cancel: these, or those that meet conditions, but not both.")
class CancelJobsInput:
    ids: list[ID] | None = strawberry.field(default=None, description="The jobs, at most 100.")
    filter: JobFilter | None = strawberry.field(
        default=None, description="Conditions on the jobs, of which those that wait or run are cancelled; `{}` for all of yours."
    )


@strawberry.input(description="The job to run again.")
class RetryJobInput:
    id: ID = strawberry.field(description="The job, which must have ended.")
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)
