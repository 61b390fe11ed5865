"""Steps that run the declared edges, `graph.core.edges`: one call of the batch for all objects of a level."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any

import orjson
from graphql import VariableNode, is_object_type

from db.core.batch import RecordBatch, RowsByKey, RowsByParent
from db.core.nested_text import NestedObject, NestedRows
from db.core.row_text import RowText, TextPart
from db.errors import Unavailable
from graph.core.edges import EdgeField, Lookup, Many, One
from graph.core.ids import column_of
from graph.core.loading import MAX_KEYS, Batch
from graph.core.permissions import require_scope
from graph.execution.planning.completion import complete
from graph.execution.planning.failures import Failure, Shape
from graph.execution.planning.fields import Field, Run, Selection
from graph.execution.planning.row_texts import NestedEdge
from graph.execution.planning.selections import Level


class Target:
    """The objects at the end of an edge: read as records where the selection needs columns alone, and otherwise as instances."""

    def __init__(self, field: Field, edge: EdgeField, source: Any, selection: Selection | None) -> None:
        self.field = field
        self.edge = edge
        self.selection = selection
        names = selection.columns(edge.node_type, source.columns) if selection is not None and hasattr(source, "columns") else None
        self.names = None if names is None else tuple(sorted(names))
        self.template = None if names is None or selection is None else selection.text_template(edge.node_type, source.columns)
        self._source = source

    async def complete_records(self, run: Run, records: Sequence[Any], names: tuple[str, ...]) -> list[Any]:
        assert self.selection is not None
        return await self.selection.complete_records(run, records, names, self._source.columns, self.edge.node_type)


async def read_keys(read: Callable[[Sequence[Any]], Awaitable[Mapping[Any, Any]]], keys: Sequence[Any]) -> Mapping[Any, Any]:
    """Call a batch for keys that are all different; several times if there are more than one statement takes."""
    if len(keys) <= MAX_KEYS:
        return await read(keys)
    rows: dict[Any, Any] = {}
    for start in range(0, len(keys), MAX_KEYS):
        rows |= await read(keys[start : start + MAX_KEYS])
    return rows


def _name(batch: Any) -> str:
    """The column of a batch's keys, or the name of the function that it is."""
    return str(batch.key_column) if isinstance(batch, RecordBatch | RowsByParent) else getattr(batch, "__name__", type(batch).__name__)


class EdgeStep(ABC):
    """Base of the steps: `_values` returns the completed values of all objects of a level."""

    needs_instances = False
    is_text = False

    def __init__(self, field: Field, edge: EdgeField, attribute: str | None) -> None:
        self.field = field
        self.edge = edge
        self.attribute = attribute

    @property
    def shape(self) -> Shape | None:
        return self.field.shape

    async def run(self, run: Run, level: Level) -> None:
        try:
            if self.edge.scope is not None:
                require_scope(self.edge.scope, run.context, self.field.field_name)
            values = await self._values(run, level)
        except Exception as error:  # noqa: BLE001 - it becomes the error of the field, masked where it was not meant for clients
            values = [run.fail(error, self.field)] * len(level.sources)
        level.fill(self.field.name, values)

    @property
    @abstractmethod
    def reads(self) -> str: ...

    @property
    def written_steps(self) -> Sequence[NestedEdge]:
        return ()

    @abstractmethod
    async def _values(self, run: Run, level: Level) -> Sequence[Any]: ...


class BatchStep(EdgeStep):
    """Base of the steps whose edge is read by a batch; `records` is its class if it can read records."""

    def __init__(self, field: Field, edge: EdgeField, batch: Batch, key: str, records: type[Any]) -> None:
        super().__init__(field, edge, key)
        selection = field.selection(field.named_type) if is_object_type(field.named_type) else None
        self._batch = batch
        self._target = Target(field, edge, batch if isinstance(batch, records) else None, selection)
        self.is_text = self._target.template is not None and edge.scope is None

    @property
    def written_steps(self) -> Sequence[NestedEdge]:
        return () if self._target.template is None else self._target.template.edges

    @property
    def has_fixed_text(self) -> bool:
        return self._target.template is not None and self._target.template.has_fixed_text

    def text_parts(self, run: Run, arguments: dict[str, Any]) -> Sequence[TextPart] | None:
        """The value as a part of its parent's text; see `NestedEdge`."""
        assert self._target.template is not None
        assert self.attribute is not None
        row_text = self._target.template.nested_text(run, arguments)
        return None if row_text is None else [self._nested(column_of(self.attribute), row_text)]

    @abstractmethod
    def _nested(self, key: str, row_text: RowText) -> TextPart:
        """What is written for the value of a column."""


class OneStep(BatchStep):
    """A to-one edge. Objects with equal keys share one value."""

    def __init__(self, field: Field, edge: EdgeField, declaration: One) -> None:
        super().__init__(field, edge, declaration.batch, declaration.key, RecordBatch)

    @property
    def reads(self) -> str:
        return f"a row by {_name(self._batch)}"

    def _nested(self, key: str, row_text: RowText) -> TextPart:
        assert isinstance(self._batch, RecordBatch)
        return NestedObject(self._batch, key, row_text, is_nullable=not self.field.is_non_null)

    async def _values(self, run: Run, level: Level) -> Sequence[Any]:
        return await self._load(run, self._keys(run, level))

    def _keys(self, run: Run, level: Level) -> Sequence[Any]:  # noqa: ARG002 - `run` has the arguments of a lookup
        assert self.attribute is not None
        return level.keys(self.attribute)

    async def _load(self, run: Run, keys: Sequence[Any]) -> Sequence[Any]:
        wanted = list(dict.fromkeys(key for key in keys if key is not None))
        values: Mapping[Any, Any] = {}
        if wanted:
            try:
                values = await self._objects(run, wanted)
            except Exception as error:  # noqa: BLE001 - objects without a key did not need the batch
                values = dict.fromkeys(wanted, run.fail(error, self.field))
        missing = self.field.null_or_failure(run) if len(values) < len(wanted) or None in keys else None
        return [values.get(key, missing) for key in keys]

    async def _objects(self, run: Run, keys: list[Any]) -> Mapping[Any, Any]:
        """Return the completed object of each key that has a row."""
        texts = await self._texts(run, keys)
        if texts is not None:
            return {key: orjson.Fragment(text) for key, text in texts.items()}
        rows = await self._rows(run, keys)
        existing = [key for key in keys if rows.get(key) is not None]
        if self._target.names is not None:
            objects: Sequence[Any] = await self._target.complete_records(run, [rows[key] for key in existing], self._target.names)
        else:
            instances = [self.edge.make(rows[key]) for key in existing]
            objects = await complete(run, self.field, self.field.type, instances)
        return dict(zip(existing, objects, strict=True))

    async def _texts(self, run: Run, keys: list[Any]) -> Mapping[Any, str] | None:
        """Return the objects as texts with all that is below them; None if there is nothing below, or if one cannot be written."""
        batch, template = self._batch, self._target.template
        if template is None or not template.edges or not isinstance(batch, RowsByKey):
            return None
        text = template.text(run)
        if text is None:
            return None
        viewer, database = run.viewer, run.context.database
        texts: dict[Any, str] = {}
        try:
            for start in range(0, len(keys), MAX_KEYS):
                found = await batch.texts(database, viewer, keys[start : start + MAX_KEYS], *text)
                if found is None:
                    return None
                texts |= found
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - only reading one after the other shows what has failed
            return None
        if run.trace is not None:
            run.trace.add_written(template.edges, len(texts))
        return texts

    async def _rows(self, run: Run, keys: list[Any]) -> Mapping[Any, Any]:
        """Return the rows of the keys; those that the run has read before are not read again."""
        batch, names = self._batch, self._target.names
        viewer, database = run.viewer, run.context.database

        async def read(wanted: Sequence[Any]) -> Mapping[Any, Any]:
            if isinstance(batch, RecordBatch) and names is not None:
                return await batch.records(database, viewer, wanted, names)
            return await batch(database, viewer, wanted)

        known: dict[Any, Any] = run.rows_of((batch, names))
        unknown = [key for key in keys if key not in known]
        if unknown:
            rows = await read_keys(read, unknown)
            known.update((key, rows.get(key)) for key in unknown)
        return known


class LookupStep(OneStep):
    """A root field: the object that the argument `id` names."""

    def __init__(self, field: Field, edge: EdgeField, declaration: Lookup) -> None:
        super().__init__(field, edge, One(declaration.batch, ""))
        self.attribute = None
        self.is_text = False
        self._declaration = declaration
        values = [argument.value for argument in field.nodes[0].arguments or ()]
        self._variable = values[0].name.value if len(values) == 1 and isinstance(values[0], VariableNode) else None

    def _keys(self, run: Run, level: Level) -> Sequence[Any]:
        return [self._declaration.wanted_key(self._arguments(run))] * len(level.sources)

    async def _load(self, run: Run, keys: Sequence[Any]) -> Sequence[Any]:
        """The same for one key whose row is read as a record with nothing below it, as most are: without the steps of batches."""
        batch, names, key = self._batch, self._target.names, keys[0]
        if len(keys) != 1 or key is None or names is None or self.written_steps or not isinstance(batch, RowsByKey):
            return await super()._load(run, keys)
        try:
            rows = run.rows_of((batch, names))
            if key not in rows:
                rows[key] = (await batch.shared_records(run.context.database, run.viewer, key, names)).get(key)
            record = rows[key]
            objects = [] if record is None else await self._target.complete_records(run, [record], names)
        except Exception as error:  # noqa: BLE001 - it becomes the error of the field
            return [run.fail(error, self.field)]
        return objects or [self.field.null_or_failure(run)]

    def _arguments(self, run: Run) -> dict[str, Any]:
        """The arguments as Strawberry passes them, which is as they are where the id is a variable."""
        value = None if self._variable is None else run.executor.variable_values.coerced.get(self._variable)
        return {"id": value} if type(value) is str else self.field.python_arguments(run)


class ManyStep(BatchStep):
    """An unpaged to-many edge."""

    def __init__(self, field: Field, edge: EdgeField, declaration: Many) -> None:
        super().__init__(field, edge, declaration.batch, declaration.key, RowsByParent)

    @property
    def reads(self) -> str:
        return f"rows by {_name(self._batch)}"

    def _nested(self, key: str, row_text: RowText) -> TextPart:
        assert isinstance(self._batch, RowsByParent)
        return NestedRows(self._batch, key, row_text)

    async def _values(self, run: Run, level: Level) -> Sequence[Any]:
        assert self.attribute is not None
        keys = level.keys(self.attribute)
        wanted = list(dict.fromkeys(keys))
        batch, names = self._batch, self._target.names
        viewer, database = run.viewer, run.context.database
        if isinstance(batch, RowsByParent) and names is not None:
            records = await read_keys(lambda keys: batch.records(database, viewer, keys, names), wanted)
            lists = [records.get(key, ()) for key in wanted]
            flat = [record for rows in lists for record in rows]
            completed = iter(await self._target.complete_records(run, flat, names))
            values = [[next(completed) for _ in rows] for rows in lists]
        else:
            rows_by_key = await read_keys(lambda keys: batch(database, viewer, keys), wanted)
            make = self.edge.make
            instances = [[make(row) for row in rows_by_key.get(key, ())] for key in wanted]
            values = await complete(run, self.field, self.field.type, instances)
        by_key: dict[Hashable, Any | Failure] = dict(zip(wanted, values, strict=True))
        return [by_key[key] for key in keys]
