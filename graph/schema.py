"""The whole graph. A domain is one line here: its root fields are found in its modules `queries`, `mutations` and `subscriptions`."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import strawberry
from strawberry.schema.config import StrawberryConfig

from graph.core.ids import NODE_REGISTRY
from graph.core.permissions import require_declared_scopes
from graph.core.scalars import SCALARS
from graph.execution.extensions import ObservationExtension, OperationExtension
from graph.execution.limits.admission import AdmissionExtension
from graph.execution.schema import Schema

# In the order in which their root fields stand in the schema.
DOMAINS = (
    "accounts",
    "tags",
    "datasets",
    "items",
    "pipelines",
    "jobs",
    "proposals",
    "models",
    "predictions",
    "experiments",
    "tracking",
    "exports",
    "explanations",
    "search",
    "studies",
    "deletions",
    "saved_searches",
    "billing",
    "notifications",
    "mail",
    "webhooks",
    "learning",
    "audit",
    "usage",
)


for _domain in DOMAINS:  # a domain without roots is reached by edges alone
    if find_spec(f"graph.{_domain}.types") is not None:
        import_module(f"graph.{_domain}.types")


def _root(name: str, module: str, description: str) -> type[Any]:
    """Compose a root type from the domains' mixins: `graph.<domain>.queries`, where it exists, has one class `…Queries`.

    Raises `TypeError` for a module with none or several of them.
    """
    suffix = module.capitalize()
    mixins: list[type[Any]] = []
    for path in (f"graph.{domain}.{module}" for domain in DOMAINS):
        if find_spec(path) is None:
            continue
        members = vars(import_module(path)).values()
        classes = [
            member for member in members if isinstance(member, type) and member.__module__ == path and member.__name__.endswith(suffix)
        ]
        if len(classes) != 1:
            raise TypeError(f"{path} has {len(classes)} classes whose name ends with {suffix}; it must have one.")
        mixins += classes
    return strawberry.type(type(name, tuple(mixins), {}), description=description)


Query = _root(
    "Query", "queries", "The reads. You see what is yours; admins see everything. What you may not see is treated as if it did not exist."
)
Mutation = _root(
    "Mutation",
    "mutations",
    "The writes. The result of each mutation is a union of its payload and its possible problems; end a selection with"
    " `... on Problem { message code }`.",
)
Subscription = _root(
    "Subscription",
    "subscriptions",
    "Live streams, over a websocket (graphql-transport-ws) or as server-sent events (graphql-sse).",
)


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[registration.type for registration in NODE_REGISTRY.values()],
    extensions=[OperationExtension, ObservationExtension, AdmissionExtension],
    config=StrawberryConfig(scalar_map=SCALARS),
)
require_declared_scopes(schema)
