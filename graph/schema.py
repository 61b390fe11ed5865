"""The whole graph: one mixin a domain for each of the three roots."""

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
    description="What can be asked. Everything is yours or, for admins, everybody's; what you may not see does not exist for you."
)
class Query(AccountQueries, DatasetQueries, PipelineQueries, JobQueries, ModelQueries, ExperimentQueries):
    pass


@strawberry.type(
    description="What can be done. Each mutation names every way in which it can end; end a selection with `... on Problem { message code }`."
)
class Mutation(DatasetMutations, PipelineMutations, JobMutations, ModelMutations, ExperimentMutations):
    pass


@strawberry.type(description="What can be followed live: over a websocket (graphql-transport-ws) or as server-sent events (graphql-sse).")
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
