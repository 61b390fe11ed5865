"""The schema: each domain contributes a mixin to each of the three root types."""

from __future__ import annotations

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.accounts.queries import AccountQueries
from graph.core.ids import NODE_REGISTRY
from graph.core.permissions import require_declared_scopes
from graph.core.scalars import SCALARS
from graph.datasets.mutations import DatasetMutations
from graph.datasets.queries import DatasetQueries
from graph.execution.extensions import ObservationExtension, OperationExtension
from graph.execution.limits.admission import AdmissionExtension
from graph.execution.schema import Schema
from graph.experiments.mutations import ExperimentMutations
from graph.experiments.queries import ExperimentQueries
from graph.experiments.subscriptions import ExperimentSubscriptions
from graph.jobs.mutations import JobMutations
from graph.jobs.queries import JobQueries
from graph.jobs.subscriptions import JobSubscriptions
from graph.models.mutations import ModelMutations
from graph.models.queries import ModelQueries
from graph.pipelines.mutations import PipelineMutations
from graph.pipelines.queries import PipelineQueries


@strawberry.type(
    description="The reads. You see what is yours; admins see everything. What you may not see is treated as if it did not exist."
)
class Query(AccountQueries, DatasetQueries, PipelineQueries, JobQueries, ModelQueries, ExperimentQueries):
    pass


@strawberry.type(
    description="The writes. The result of each mutation is a union of its payload and its possible problems; end a selection with `... on Problem { message code }`."
)
class Mutation(DatasetMutations, PipelineMutations, JobMutations, ModelMutations, ExperimentMutations):
    pass


@strawberry.type(description="Live streams, over a websocket (graphql-transport-ws) or as server-sent events (graphql-sse).")
class Subscription(JobSubscriptions, ExperimentSubscriptions):
    pass


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[registration.type for registration in NODE_REGISTRY.values()],
    extensions=[OperationExtension, ObservationExtension, AdmissionExtension],
    config=StrawberryConfig(scalar_map=SCALARS),
)
require_declared_scopes(schema)
