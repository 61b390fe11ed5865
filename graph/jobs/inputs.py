"""What lists of jobs can be narrowed and ordered by, and what the mutations on jobs take."""

from __future__ import annotations

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, order_input, reference
from graph.jobs.enums import JobKind, JobStatus


@strawberry.input(description="Conditions on jobs, all of which must hold. A list of values means any of them.")
class JobFilter(Filter):
    kind: list[JobKind] | None = strawberry.field(description="What it does.")
    status: list[JobStatus] | None = strawberry.field(description="Where it stands.")
    queue: list[str] | None = strawberry.field(description="The queue that it waits in, or was taken from.")
    dataset_id: ID | None = reference("dataset", description="The dataset that it works on.")
    pipeline_id: ID | None = reference("pipeline", description="The pipeline that it runs.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was asked for.")
    owner_id: ID | None = reference("user", description="Whose it is; of use to admins, who see everybody's.")


JobOrder = order_input(
    "Job",
    "jobs",
    created_at="When it was asked for.",
    priority="Its priority as it was given, 1 to 10, and then its age.",
)


@strawberry.input(description="A job to be stopped.")
class CancelJobInput:
    id: ID = strawberry.field(description="The job.")


@strawberry.input(description="A job to be done again.")
class RetryJobInput:
    id: ID = strawberry.field(description="The job; it must have ended.")
    idempotency_key: str | None = strawberry.field(
        description="The same key with the same input answers what the first call answered; with another input it is a Conflict. Kept for a day."
    )
