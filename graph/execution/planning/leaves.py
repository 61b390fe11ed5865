"""Compiled writers: from sources, rows or instances, to the objects of a result with their leaf fields.

A writer is a Python function made of one dict display, which calls the resolvers that depend on their object alone. It raises for any value
that is not plainly valid; then the objects are written one value at a time, as graphql-core does, and such values become failures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from graphql import GraphQLBoolean, GraphQLEnumType, GraphQLID, GraphQLInt, GraphQLString, Undefined
from graphql.execution import Executor

from db.core.prepared import RecordColumn
from graph.core.ids import column_of
from graph.core.scalars import is_encoded_alike

if TYPE_CHECKING:
    from graph.execution.planning.fields import Field, Run

Writer: TypeAlias = Callable[["Run", Sequence[Any]], list[dict[str, Any]]]
_TEXT = RecordColumn(kind=str)


class Access(Protocol):
    """How attributes are read from the sources of a level."""

    def code(self, attribute: str, constants: dict[str, Any]) -> tuple[str, RecordColumn | None]:
        """Python code for the attribute of the source `s`, and the column whose stored values it yields, if it does."""
        ...

    def get(self, source: Any, attribute: str) -> Any:
        """The value of an attribute."""
        ...

    def keys(self, sources: Sequence[Any], attribute: str) -> list[Any]:
        """The values of an attribute that is a key."""
        ...


class InstanceAccess:
    """Instances of Strawberry types."""

    def code(self, attribute: str, constants: dict[str, Any]) -> tuple[str, RecordColumn | None]:  # noqa: ARG002 - one signature for both
        return f"s.{attribute}", None

    def get(self, source: Any, attribute: str) -> Any:
        return getattr(source, attribute)

    def keys(self, sources: Sequence[Any], attribute: str) -> list[Any]:
        return [getattr(source, attribute) for source in sources]


INSTANCES = InstanceAccess()


class RecordAccess:
    """Records of a prepared select, which stand for instances of a type that are made from columns."""

    def __init__(self, names: Sequence[str], columns: Mapping[str, RecordColumn], node_type: Any) -> None:
        self._positions = {name: position for position, name in enumerate(names)}
        self._columns = columns
        self._node_type = node_type

    def code(self, attribute: str, constants: dict[str, Any]) -> tuple[str, RecordColumn | None]:
        name = column_of(attribute)
        code = f"s[{self._positions[name]}]"
        if attribute != "id":
            return code, self._columns[name]
        constants["prefix"] = f"{self._node_type.prefix}_"
        return f"(prefix + {code}.hex)", _TEXT

    def get(self, source: Any, attribute: str) -> Any:
        name = column_of(attribute)
        value = self._columns[name].read(source[self._positions[name]])
        return f"{self._node_type.prefix}_{value.hex}" if attribute == "id" else value

    def keys(self, sources: Sequence[Any], attribute: str) -> list[Any]:
        position = self._positions[column_of(attribute)]
        return [source[position] for source in sources]


class _NotPlain(Exception):
    """A value is null in a non-null field, or cannot be serialized."""


def _require(value: Any) -> Any:
    if value is None:
        raise _NotPlain
    return value


def _serializer(type_: Any, column: RecordColumn | None, *, is_non_null: bool) -> Callable[[Any], Any]:
    """Return a function from a value, or a stored one, to the one in the result."""
    coerce = type_.coerce_output_value
    process = None if column is None else column.process

    def serialize(value: Any) -> Any:
        if value is not None and process is not None:
            value = process(value)
        if value is None:
            if is_non_null:
                raise _NotPlain
            return None
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise _NotPlain
        return coerced

    return serialize


def _leaf_code(field: Field, access: Access, constants: dict[str, Any]) -> str:
    """Return the code for the value of a leaf field, and add the functions that it calls."""
    type_, is_non_null = field.named_type, field.is_non_null
    if field.getter is None:
        code, column = access.code(field.strawberry_field.python_name, constants)
    else:
        name = f"f{len(constants)}"
        constants[name] = field.getter
        code, column = f"{name}(s)", None
    is_text = type_ is GraphQLString or type_ is GraphQLID
    name = f"f{len(constants)}"
    if column is not None:
        if column.members is not None and isinstance(type_, GraphQLEnumType):
            constants[name] = member_names(type_, column.members, is_non_null=is_non_null)
            return f"{name}[{code}]"
        if (column.kind is str and is_text) or (column.kind is int and type_ is GraphQLInt):
            return f"({code} or require({code}))" if is_non_null else code
        if column.kind is bool and type_ is GraphQLBoolean:
            return f"({code} if {code} is not None else require(None))" if is_non_null else code
    constants[name] = _serializer(type_, column, is_non_null=is_non_null)
    if is_encoded_alike(type_) and (column is None or column.kind is datetime):
        return f"(v if type(v := {code}) is datetime and v.microsecond and v.tzinfo is UTC else {name}(v))"
    return f"(v if type(v := {code}) is str else {name}(v))" if column is None and is_text else f"{name}({code})"


def member_names(type_: Any, members: Mapping[str, Any], *, is_non_null: bool) -> dict[str | None, str | None]:
    """Return the name in the schema for each stored value."""
    names: dict[str | None, str | None] = {} if is_non_null else {None: None}
    for stored, member in members.items():
        try:
            names[stored] = type_.coerce_output_value(member)
        except Exception:  # noqa: BLE001, S112 - it has no name, and a row that holds it gets graphql-core's error
            continue
    return names


def compile_plain_writer(entries: Mapping[str, Field | str | None], access: Access) -> Callable[[Sequence[Any]], list[dict[str, Any]]]:
    """Compile a writer that raises for any value that is not plainly valid."""
    constants: dict[str, Any] = {"require": _require, "datetime": datetime, "UTC": UTC}
    items: list[str] = []
    for name, entry in entries.items():
        items.append(f"{name!r}: {repr(entry) if entry is None or isinstance(entry, str) else _leaf_code(entry, access, constants)}")
    source = f"lambda sources: [{{{', '.join(items)}}} for s in sources]"
    return eval(source, constants)  # noqa: S307 - made of names of the schema and of a valid document


def compile_writer(entries: Mapping[str, Field | str | None], access: Access) -> Writer:
    """Compile the writer of objects with these entries: leaf fields, constant texts, and None for what steps fill in."""
    write_plain = compile_plain_writer(entries, access)

    def write(run: Run, sources: Sequence[Any]) -> list[dict[str, Any]]:
        try:
            return write_plain(sources)
        except Exception:  # noqa: BLE001 - what it is will be seen value by value
            return [_write_object(run, source, entries, access) for source in sources]

    return write


def _write_object(run: Run, source: Any, entries: Mapping[str, Field | str | None], access: Access) -> dict[str, Any]:
    return {
        name: entry if entry is None or isinstance(entry, str) else _complete_attribute(run, source, entry, access)
        for name, entry in entries.items()
    }


def _complete_attribute(run: Run, source: Any, field: Field, access: Access) -> Any:
    try:
        value = access.get(source, field.strawberry_field.python_name) if field.getter is None else field.getter(source)
    except Exception as error:  # noqa: BLE001 - it becomes the field's error, masked where it was not meant for clients
        return run.fail(error, field)
    return complete_leaf(run, field, field.named_type, value, is_non_null=field.is_non_null)


def complete_leaf(run: Run, field: Field, type_: Any, value: Any, *, is_non_null: bool) -> Any:
    """Return the value of a leaf as graphql-core completes it, or a failure."""
    if isinstance(value, Exception):
        return run.fail(value, field)
    if value is None or value is Undefined:
        return run.null(field) if is_non_null else None
    try:
        return Executor.complete_leaf_value(type_, value)
    except Exception as error:  # noqa: BLE001 - as above
        return run.fail(error, field)
