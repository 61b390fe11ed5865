"""The selection on one object type, and how the objects of a level are completed: written at once, then filled in by steps."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from graphql import GraphQLObjectType

from db.core.prepared import RecordColumn
from graph.core.ids import column_of, is_made_from_columns
from graph.execution.planning.failures import FieldShape, Shape
from graph.execution.planning.fields import Field, Run, Selection
from graph.execution.planning.leaves import INSTANCES, Access, RecordAccess, Writer, compile_writer
from graph.execution.planning.row_texts import NestedEdge, TextTemplate, text_template

SLICE = 500  # objects that are written before other requests of the process have their turn


@dataclass(frozen=True, slots=True)
class Level:
    """The sources of all objects at one place of a plan, and the objects that are made from them, in the same order."""

    sources: Sequence[Any]
    access: Access
    objects: list[dict[str, Any]]

    def keys(self, attribute: str) -> list[Any]:
        return self.access.keys(self.sources, attribute)

    def fill(self, name: str, values: Sequence[Any]) -> None:
        """Set a field of all objects."""
        for target, value in zip(self.objects, values, strict=True):
            target[name] = value


class Step(Protocol):
    """Reads or computes one field of a level, with everything below it.

    `attribute` is what it needs of records; None if it needs instances or nothing. `reads` describes for people what it runs. It raises no
    exceptions of fields.
    """

    @property
    def field(self) -> Field: ...

    @property
    def attribute(self) -> str | None: ...

    @property
    def needs_instances(self) -> bool: ...

    @property
    def shape(self) -> Shape | None: ...

    @property
    def reads(self) -> str: ...

    @property
    def written_steps(self) -> Sequence[NestedEdge]: ...

    @property
    def is_text(self) -> bool:
        """Whether PostgreSQL can write its value into the text of the objects; it is a `NestedEdge` then."""
        ...

    def run(self, run: Run, level: Level) -> Coroutine[Any, Any, None]: ...


def run_step(run: Run, step: Step, level: Level) -> Coroutine[Any, Any, None]:
    """Run a step, and trace it where that is requested."""
    running = step.run(run, level)
    return running if run.trace is None else run.trace.run(step, len(level.sources), running)


class ObjectSelection(Selection):
    """The fields selected on an object type. An entry is a leaf field, the text of `__typename`, or a step."""

    def __init__(self, type_: GraphQLObjectType, entries: Mapping[str, Field | str | Step]) -> None:
        self.type = type_
        self.leaves = {name: entry if isinstance(entry, Field | str) else None for name, entry in entries.items()}
        self.steps = [entry for entry in entries.values() if not isinstance(entry, Field | str)]
        fields = [leaf for leaf in self.leaves.values() if isinstance(leaf, Field)]
        self.needs_instances = any(step.needs_instances for step in self.steps) or any(field.getter for field in fields)
        self._shape: Shape | None = None  # only results with failures need it
        self._write_instances: Writer | None = None
        self._write_records: dict[tuple[str, ...], tuple[RecordAccess, Writer]] = {}

    @property
    def shape(self) -> Shape:
        if self._shape is None:
            self._shape = self._make_shape()
        return self._shape

    def _make_shape(self) -> Shape:
        steps = {step.field.name: step for step in self.steps}
        fields: dict[str, FieldShape] = {}
        for name, leaf in self.leaves.items():
            if name in steps:
                fields[name] = FieldShape(steps[name].field.type, steps[name].shape)
            else:
                fields[name] = FieldShape(leaf.type if isinstance(leaf, Field) else None, None)
        return Shape(fields)

    def leaf_attributes(self) -> set[str]:
        """The attributes that the leaf fields have their values from."""
        return {leaf.strawberry_field.python_name for leaf in self.leaves.values() if isinstance(leaf, Field) and leaf.getter is None}

    def columns(self, node_type: Any, columns: Mapping[str, RecordColumn]) -> set[str] | None:
        """The columns that the selection needs of records; None if it needs instances, or what is not a column."""
        if self.needs_instances or not is_made_from_columns(node_type):
            return None
        names = {column_of(attribute) for attribute in self.leaf_attributes()}
        names |= {column_of(step.attribute) for step in self.steps if step.attribute is not None}
        return names if names <= columns.keys() else None

    def text_template(self, node_type: Any, columns: Mapping[str, RecordColumn]) -> TextTemplate | None:
        """The text of an object, if PostgreSQL can write it with all that is below it."""
        if self.columns(node_type, columns) is None:
            return None
        steps: dict[str, Any] = {step.field.name: step for step in self.steps}
        if not all(step.is_text for step in steps.values()):
            return None
        return text_template(self.leaves, steps, columns, node_type)

    async def complete_instances(self, run: Run, instances: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the objects of instances of the type."""
        if self._write_instances is None:
            self._write_instances = compile_writer(self.leaves, INSTANCES)
        return await self._complete(run, instances, INSTANCES, self._write_instances)

    async def complete_records(
        self, run: Run, records: Sequence[Any], names: tuple[str, ...], columns: Mapping[str, RecordColumn], node_type: Any
    ) -> list[dict[str, Any]]:
        """Return the objects of records with the columns `names`."""
        cached = self._write_records.get(names)
        if cached is None:
            access = RecordAccess(names, columns, node_type)
            cached = self._write_records[names] = access, compile_writer(self.leaves, access)
        return await self._complete(run, records, *cached)

    async def _complete(self, run: Run, sources: Sequence[Any], access: Access, write: Writer) -> list[dict[str, Any]]:
        objects = write(run, sources) if len(sources) <= SLICE else await _write_slices(run, sources, write)
        if self.steps and objects:
            level = Level(sources, access, objects)
            if len(self.steps) == 1:
                await run_step(run, self.steps[0], level)
            else:
                await asyncio.gather(*(run_step(run, step, level) for step in self.steps))
        return objects


async def _write_slices(run: Run, sources: Sequence[Any], write: Writer) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = []
    for start in range(0, len(sources), SLICE):
        objects += write(run, sources[start : start + SLICE])
        await asyncio.sleep(0)
    return objects
