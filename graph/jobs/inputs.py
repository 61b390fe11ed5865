"""What lists of jobs can be narrowed and ordered by, and what the mutations on jobs take."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID

from db.queries import jobs
from graph.core.filters import DateTimeFilter, OrderDirection, field_order
from graph.core.ids import filter_id
from graph.jobs.enums import JobKind, JobOrderField, JobStatus


@strawberry.input(description="Conditions on jobs, all of which must hold. A list of values means any of them.")
class JobFilter:
    kind: list[JobKind] | None = strawberry.field(description="What it does.")
    status: list[JobStatus] | None = strawberry.field(description="Where it stands.")
    queue: list[str] | None = strawberry.field(description="The queue that it waits in, or was taken from.")
    dataset_id: ID | None = strawberry.field(description="The dataset that it works on.")
    pipeline_id: ID | None = strawberry.field(description="The pipeline that it runs.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was asked for.")
    owner_id: ID | None = strawberry.field(description="Whose it is; of use to admins, who see everybody's.")

    def to_criteria(self) -> jobs.JobFilter:
        return jobs.JobFilter(
            kind=None if self.kind is None else tuple(self.kind),
            status=None if self.status is None else tuple(self.status),
            queue=None if self.queue is None else tuple(self.queue),
            dataset_id=filter_id("dataset", self.dataset_id),
            pipeline_id=filter_id("pipeline", self.pipeline_id),
            created_at=self.created_at.to_criteria() if self.created_at else None,
            owner_id=filter_id("user", self.owner_id),
        )


@strawberry.input(description="The order of a list of jobs.")
class JobOrder:
    field: JobOrderField = strawberry.field(description="What to order by.")
    direction: OrderDirection = strawberry.field(default=OrderDirection.DESC, description="Which end comes first.")

    def to_order(self) -> Any:
        return field_order(self.field, self.direction)


@strawberry.input(description="A job to be stopped.")
class CancelJobInput:
    id: ID = strawberry.field(description="The job.")


@strawberry.input(description="A job to be done again.")
class RetryJobInput:
    id: ID = strawberry.field(description="The job; it must have ended.")
    idempotency_key: str | None = strawberry.field(
        description="The same key with the same input answers what the first call answered; with another input it is a Conflict. Kept for a day."
    )
