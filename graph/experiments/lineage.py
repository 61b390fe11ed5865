"""Lineage: a graph of causes and effects."""

from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import exports, jobs, lineage, models, pipelines, runs, versions
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.ids import NODE_REGISTRY, Node, encode
from graph.core.loading import Batch
from graph.experiments.enums import LineageKind, LineageRelation

# The id prefix and the batch of each kind. The batches return deleted rows too, since edges lead to them.
_NODE_SOURCES: dict[LineageKind, tuple[str, Batch]] = {
    LineageKind.DATASET_VERSION: ("version", versions.by_id),
    LineageKind.PIPELINE_SNAPSHOT: ("snapshot", pipelines.snapshot_by_id),
    LineageKind.JOB: ("job", jobs.by_id),
    LineageKind.RUN: ("run", runs.by_id),
    LineageKind.MODEL_VERSION: ("mversion", models.version_by_id),
    LineageKind.EXPORT: ("export", exports.by_id),
}
KIND_BY_PREFIX = {prefix: kind for kind, (prefix, _) in _NODE_SOURCES.items()}


@strawberry.type(description="A node of a lineage.")
class LineageNode:
    key: strawberry.Private[UUID]
    node_id: strawberry.ID = strawberry.field(description="The id of the object itself, which edges refer to.")
    kind: LineageKind = strawberry.field(description="The kind of the object.")
    label: str = strawberry.field(description="A label for display.")
    status: str | None = strawberry.field(
        description="Its status, a value of its type's own status enum; null for a type without a status."
    )
    aliases: list[str] = strawberry.field(description="The aliases that point to it now; empty except for model versions.")
    is_in_production: bool = strawberry.field(
        description="Whether it is a model version to which the alias `production` points now. Those come first among nodes of the same depth, and stay when"
        " `maxNodes` cuts others off."
    )
    depth: int = strawberry.field(description="Its distance from the start in edges, by the shortest path; 0 for the start itself.")

    @strawberry.field(description="The object itself.")
    async def node(self, info: Info) -> Node:
        prefix, batch = _NODE_SOURCES[self.kind]
        return await info.context.loaders.one(batch, NODE_REGISTRY[prefix].type.of).load(self.key)

    @classmethod
    def of(cls, row: Any) -> Self:
        kind = LineageKind(row.kind)
        return cls(
            key=row.id,
            node_id=strawberry.ID(encode(_NODE_SOURCES[kind][0], row.id)),
            kind=kind,
            label=row.label,
            status=row.status,
            aliases=row.aliases,
            is_in_production=row.is_in_production,
            depth=row.depth,
        )


@strawberry.type(description="An edge from a cause to its effect.")
class LineageEdge:
    source: strawberry.ID = strawberry.field(description="The `nodeId` of the cause.")
    target: strawberry.ID = strawberry.field(description="The `nodeId` of the effect.")
    relation: LineageRelation = strawberry.field(description="The relation of the cause to the effect.")


@strawberry.type(description="The causes and effects of an object, as a graph whose edges lead from causes to effects.")
class Lineage:
    nodes: list[LineageNode] = strawberry.field(
        metadata=costs(entries=1),
        description="The nodes, including the start, the nearest first; of equally near ones, what is in production.",
    )
    edges: list[LineageEdge] = strawberry.field(metadata=costs(entries=1), description="The edges between these nodes.")
    is_partial: bool = strawberry.field(description="Whether `depth` or `maxNodes` cut the graph off.")

    @classmethod
    def of(cls, result: lineage.Lineage) -> Self:
        nodes = {row.id: LineageNode.of(row) for row in result.nodes}
        return cls(
            nodes=list(nodes.values()),
            edges=[
                LineageEdge(source=nodes[source].node_id, target=nodes[target].node_id, relation=relation)
                for source, target, relation in result.edges
            ],
            is_partial=result.is_partial,
        )
