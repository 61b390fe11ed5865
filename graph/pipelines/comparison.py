"""Comparison of two snapshots: which nodes, parameters and links differ."""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import orjson
import strawberry

from db.queries import pipelines
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.enums import describe
from graph.core.loading import identity
from graph.core.scalars import JSON
from graph.pipelines.types import PipelineLink, PipelineSnapshot


class NodeChange(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


describe(
    NodeChange,
    "How a node of two snapshots differs.",
    ADDED="Only the second snapshot has it.",
    REMOVED="Only the first snapshot has it.",
    CHANGED="Both have it, with another step or other parameters.",
)


@strawberry.type(description="A parameter of a node that differs between two snapshots.")
class ComparedNodeParameter:
    name: str = strawberry.field(description="The parameter.")
    from_: JSON | None = strawberry.field(
        name="from",
        description="Its value in the first snapshot: where it was left out, the step's default; null if the node is not there.",
    )
    to: JSON | None = strawberry.field(
        description="Its value in the second snapshot: where it was left out, the step's default; null if the node is not there."
    )


@strawberry.type(description="A node that differs between two snapshots.")
class ComparedNode:
    key: str = strawberry.field(description="Its name within the definitions.")
    change: NodeChange = strawberry.field(description="How it differs.")
    from_step_key: str | None = strawberry.field(description="Its step in the first snapshot; null if it is not there.")
    to_step_key: str | None = strawberry.field(description="Its step in the second snapshot; null if it is not there.")
    parameters: list[ComparedNodeParameter] = strawberry.field(
        metadata=costs(entries=1),
        description="The parameters that differ, ordered by name; those of a node that only one snapshot has, all that were given.",
    )


@strawberry.type(description="Two snapshots, and how their definitions differ.")
class SnapshotComparison:
    from_: PipelineSnapshot = strawberry.field(name="from", description="The first snapshot.")
    to: PipelineSnapshot = strawberry.field(description="The second snapshot.")
    is_identical: bool = strawberry.field(description="Whether nothing differs that changes what a run does.")
    nodes: list[ComparedNode] = strawberry.field(metadata=costs(entries=10), description="The nodes that differ, ordered by key.")
    added_links: list[PipelineLink] = strawberry.field(
        metadata=costs(entries=1), description="The links that only the second snapshot has."
    )
    removed_links: list[PipelineLink] = strawberry.field(
        metadata=costs(entries=1), description="The links that only the first snapshot has."
    )


async def compare(info: Info, before: PipelineSnapshot, after: PipelineSnapshot) -> SnapshotComparison:
    """Compare two snapshots by the keys of their nodes."""
    definitions = info.context.loaders.one(pipelines.definition_of_snapshot, identity)
    first, second = [row.definition for row in await definitions.load_many([before.uuid, after.uuid])]
    steps = {row.key: row for row in await pipelines.steps(info.context.database)}
    nodes = list(_nodes(_by_key(first), _by_key(second), steps))
    links = [{(link["source"], link["target"]) for link in definition["links"]} for definition in (first, second)]
    added, removed = sorted(links[1] - links[0]), sorted(links[0] - links[1])
    return SnapshotComparison(
        from_=before,
        to=after,
        is_identical=not (nodes or added or removed),
        nodes=nodes,
        added_links=[PipelineLink(source=source, target=target) for source, target in added],
        removed_links=[PipelineLink(source=source, target=target) for source, target in removed],
    )


Nodes = Mapping[str, Mapping[str, Any]]


def _by_key(definition: Mapping[str, Any]) -> Nodes:
    return {node["key"]: node for node in definition["nodes"]}


def _nodes(before: Nodes, after: Nodes, steps: Mapping[str, Any]) -> Iterator[ComparedNode]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        parameters = _parameters(old, new, steps)
        if old is None or new is None:
            change = NodeChange.ADDED if old is None else NodeChange.REMOVED
        elif old["step"] != new["step"] or parameters:
            change = NodeChange.CHANGED
        else:
            continue
        yield ComparedNode(
            key=key,
            change=change,
            from_step_key=None if old is None else old["step"],
            to_step_key=None if new is None else new["step"],
            parameters=parameters,
        )


def _parameters(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, steps: Mapping[str, Any]) -> list[ComparedNodeParameter]:
    given: list[dict[str, Any]] = [{} if node is None else node.get("parameters") or {} for node in (old, new)]
    if old is not None and new is not None and old["step"] == new["step"] and old["step"] in steps:
        defaults = _defaults(steps[old["step"]].parameter_schema)
        given = [{**defaults, **parameters} for parameters in given]
    names: Sequence[str] = sorted(given[0].keys() | given[1].keys())
    return [
        ComparedNodeParameter(name=name, from_=given[0].get(name), to=given[1].get(name))
        for name in names
        if _text(given[0], name) != _text(given[1], name)
    ]


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: declared["default"] for name, declared in schema.get("properties", {}).items() if "default" in declared}


def _text(parameters: Mapping[str, Any], name: str) -> bytes | None:
    """The value as a text in which 1 and 1.0 are different, as they may be to a step; None if it is not there."""
    return orjson.dumps(parameters[name], option=orjson.OPT_SORT_KEYS) if name in parameters else None
