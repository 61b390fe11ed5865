"""Users."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from db.core.viewer import UserRole, UserTier
from db.queries import accounts, datasets, experiments, jobs, models, pipelines
from graph.core.edges import connection
from graph.core.enums import describe
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.scalars import BigInt
from graph.datasets.inputs import DatasetFilter, DatasetOrder
from graph.experiments.inputs import ExperimentFilter, ExperimentOrder
from graph.jobs.inputs import JobFilter, JobOrder
from graph.models.inputs import ModelFilter, ModelOrder
from graph.pipelines.inputs import PipelineFilter, PipelineOrder

if TYPE_CHECKING:
    from graph.datasets.types import Dataset
    from graph.experiments.types import Experiment
    from graph.jobs.types import Job
    from graph.models.types import Model
    from graph.pipelines.types import Pipeline

describe(
    UserRole,
    "What a user may do.",
    VIEWER="Read what is theirs, and change nothing.",
    MEMBER="Read and change what is theirs.",
    ADMIN="Read and change everything.",
)
describe(
    UserTier,
    "How much a user may use up. It sets limits, never permissions.",
    FREE="What everybody starts with.",
    PRO="More of all that is limited.",
    ENTERPRISE="The most, or without a limit.",
)


@strawberry.type(description="Somebody who owns things here. You see yourself; admins see everyone.")
class User(Node, prefix="user", found_by=accounts.live_by_id):
    email: str = strawberry.field(description="Their e-mail address.")
    username: str = strawberry.field(description="Their short name, unique here.")
    full_name: str | None = strawberry.field(description="Their name as people say it.")
    role: UserRole = strawberry.field(description="What they may do.")
    tier: UserTier = strawberry.field(description="How much they may use up.")
    credit_balance: BigInt = strawberry.field(
        description="The credits that they can spend. What jobs under way hold is not among them any more."
    )
    credits_held: BigInt = strawberry.field(
        description="The credits that jobs under way hold: each is charged once its job has completed, or given back to `creditBalance`."
    )
    created_at: datetime = strawberry.field(description="When they were added.")
    updated_at: datetime = strawberry.field(description="When something about them was last changed.")
    deleted_at: datetime | None = strawberry.field(description="When they were deleted; edges still lead to them.")
    datasets: Connection[Annotated[Dataset, strawberry.lazy("graph.datasets.types")]] = connection(
        datasets.of_owner, filtered_by=DatasetFilter, ordered_by=DatasetOrder, description="The datasets that are theirs."
    )
    pipelines: Connection[Annotated[Pipeline, strawberry.lazy("graph.pipelines.types")]] = connection(
        pipelines.of_owner, filtered_by=PipelineFilter, ordered_by=PipelineOrder, description="The pipelines that are theirs."
    )
    jobs: Connection[Annotated[Job, strawberry.lazy("graph.jobs.types")]] = connection(
        jobs.of_owner, filtered_by=JobFilter, ordered_by=JobOrder, description="The jobs that are theirs."
    )
    models: Connection[Annotated[Model, strawberry.lazy("graph.models.types")]] = connection(
        models.of_owner, filtered_by=ModelFilter, ordered_by=ModelOrder, description="The models that are theirs."
    )
    experiments: Connection[Annotated[Experiment, strawberry.lazy("graph.experiments.types")]] = connection(
        experiments.of_owner, filtered_by=ExperimentFilter, ordered_by=ExperimentOrder, description="The experiments that are theirs."
    )
