"""Selections as texts that PostgreSQL writes: leaf fields, and the edges below them if these can be written too, in one statement.

A selection is a template, made with the plan. Arguments make a text of it: the length of a list is a parameter, filters and orders are parts of the
statement. What has no template, or whose arguments have no text, is read as records or instances.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from graphql import GraphQLBoolean, GraphQLEnumType, GraphQLFloat, GraphQLID, GraphQLInt, GraphQLString

from db.core.row_text import Encoding, RowText, TextColumn, TextPart
from graph.core.ids import column_of
from graph.core.scalars import is_encoded_alike, is_integer
from graph.execution.planning.leaves import member_names
from graph.execution.planning.trace import TracedStep

if TYPE_CHECKING:
    from db.core.prepared import RecordColumn
    from graph.execution.planning.fields import Field, Run


class NestedEdge(TracedStep, Protocol):
    """A step whose value PostgreSQL can write."""

    @property
    def has_fixed_text(self) -> bool:
        """Whether its text is the same in every run."""
        ...

    def text_parts(self, run: Run, arguments: dict[str, Any]) -> Iterable[TextPart] | None:
        """The text of its value, with the parameters added to `arguments`; None if its arguments have none."""
        ...


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of an edge in a template."""

    edge: NestedEdge


class TextTemplate:
    """The text of the objects of a selection, with places for edges, whose arguments are not known yet."""

    def __init__(self, parts: Sequence[TextPart | _Place]) -> None:
        self._parts = parts
        self.edges = [part.edge for part in parts if isinstance(part, _Place)]
        self.has_fixed_text = all(edge.has_fixed_text for edge in self.edges)
        self._fixed: tuple[RowText, Mapping[str, Any]] | None = None

    def text(self, run: Run) -> tuple[RowText, Mapping[str, Any]] | None:
        """The text with the values of its parameters; None if it has none with the arguments of this run."""
        if self._fixed is not None:
            return self._fixed
        arguments: dict[str, Any] = {}
        row_text = self.nested_text(run, arguments)
        if row_text is None:
            return None
        if self.has_fixed_text:
            self._fixed = row_text, arguments
        return row_text, arguments

    def nested_text(self, run: Run, arguments: dict[str, Any]) -> RowText | None:
        """The same as a part of another text."""
        parts: list[TextPart] = []
        for part in self._parts:
            if not isinstance(part, _Place):
                parts.append(part)
                continue
            written = part.edge.text_parts(run, arguments)
            if written is None:
                return None
            parts += written
        return RowText(parts)


def text_template(
    leaves: Mapping[str, Field | str | None], edges: Mapping[str, NestedEdge], columns: Mapping[str, RecordColumn], node_type: Any
) -> TextTemplate | None:
    """The template of an object with these leaf fields and constants, and edges for None; None if one cannot be written."""
    parts: list[TextPart | _Place] = []
    separator = "{"
    for name, entry in leaves.items():
        parts.append(f"{separator}{quote(name)}:")
        separator = ","
        if isinstance(entry, str):
            parts.append(quote(entry))
        elif entry is None:
            parts.append(_Place(edges[name]))
        else:
            written = _leaf(entry, columns, node_type)
            if written is None:
                return None
            parts += written
    has_values = any(not isinstance(part, str) for part in parts)
    return TextTemplate([*parts, "}"]) if has_values else None


def _leaf(field: Field, columns: Mapping[str, RecordColumn], node_type: Any) -> list[str | TextColumn] | None:
    if field.getter is not None:
        return None
    attribute = field.strawberry_field.python_name
    column = columns.get(column_of(attribute))
    if column is None:
        return None
    if attribute == "id" and column.encoding is Encoding.HEX:
        return [f'"{node_type.prefix}_', TextColumn("id", Encoding.HEX), '"']
    text_column = _text_column(field, column_of(attribute), column)
    return None if text_column is None else [text_column]


def _text_column(field: Field, name: str, column: RecordColumn) -> TextColumn | None:
    type_, is_nullable = field.named_type, not field.is_non_null
    if column.members is not None:
        if not isinstance(type_, GraphQLEnumType):
            return None
        names = member_names(type_, column.members, is_non_null=True)
        return TextColumn(name, None, tuple((str(stored), quote(str(value))) for stored, value in names.items()), is_nullable)
    is_written = {
        Encoding.TEXT: type_ is GraphQLString or type_ is GraphQLID,
        Encoding.INTEGER: type_ is GraphQLInt if column.kind is int else is_integer(type_),
        Encoding.BOOLEAN: type_ is GraphQLBoolean,
        Encoding.FLOAT: type_ is GraphQLFloat,
        Encoding.FINITE: type_ is GraphQLFloat and is_nullable,
        Encoding.TIME: is_encoded_alike(type_),
    }
    return TextColumn(name, column.encoding, (), is_nullable) if column.encoding is not None and is_written.get(column.encoding) else None


def quote(text: str) -> str:
    """The text as JSON."""
    return orjson.dumps(text).decode()
