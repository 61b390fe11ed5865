"""The output types of jobs: domains register them, and the union and the lookup of outputs use the registry."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from strawberry.types.base import StrawberryType
from strawberry.types.union import StrawberryUnion

from graph.core.context import Context
from graph.core.ids import Node
from graph.core.loading import Batch

NodeType = TypeVar("NodeType", bound=type[Node])


class OutputRegistration(NamedTuple):
    """The type of outputs of a kind, and the batch that looks them up."""

    type: type[Node]
    found_by: Batch


OUTPUT_REGISTRY: dict[str, OutputRegistration] = {}


def job_output(found_by: Batch) -> Callable[[NodeType], NodeType]:
    """Register a type as an output of jobs; its prefix is the `kind` of the rows. Unlike the batch of `node`, `found_by` returns deleted rows."""

    def mark(node_type: NodeType) -> NodeType:
        OUTPUT_REGISTRY[node_type.prefix] = OutputRegistration(node_type, found_by)
        return node_type

    return mark


class _OutputUnion(StrawberryUnion):
    """A union of all registered types, evaluated when the schema is built: by then every domain is imported."""

    @property
    def types(self) -> tuple[StrawberryType, ...]:
        members = sorted((registration.type for registration in OUTPUT_REGISTRY.values()), key=lambda member: member.__name__)
        return tuple(members)  # pyright: ignore[reportReturnType] - Strawberry treats a decorated class as a StrawberryType too


JobOutput = _OutputUnion("JobOutput", description="An output of a job. It exists only once the job has completed.")


async def load_outputs(context: Context, rows: Sequence[Any]) -> list[Any]:
    """Load the outputs in the order of the rows, one batch per kind. Skip those that the viewer may not see, and kinds of a newer release."""
    registrations = [(OUTPUT_REGISTRY[row.kind], row.target_id) for row in rows if row.kind in OUTPUT_REGISTRY]
    loads = (context.loaders.one(registration.found_by, registration.type.of).load(key) for registration, key in registrations)
    return [output for output in await asyncio.gather(*loads) if output is not None]
