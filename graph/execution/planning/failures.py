"""Field errors within a result, and the nulls that they cause (GraphQL specification, 6.4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
from graphql import FieldNode, GraphQLError, GraphQLList, GraphQLNonNull, located_error


class Failure:
    """Stands in a result for the value of a field, or of an entry of a list, that could not be had. `nodes` are those of the field."""

    __slots__ = ("error", "nodes")

    def __init__(self, error: Exception, nodes: Sequence[FieldNode]) -> None:
        self.error: Final = error
        self.nodes: Final = nodes


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of the objects at a position, of all types that they may have: fields of one response name have one shape."""

    fields: dict[str, FieldShape]


@dataclass(frozen=True, slots=True)
class FieldShape:
    """The type of a field, and the shape of the objects in its value."""

    type: Any
    shape: Shape | None


def merge_shapes(fields: dict[str, FieldShape], other: Shape) -> None:
    """Add the fields of another shape. A field that both have has the same type, so only the shapes below are merged."""
    for name, field in other.fields.items():
        existing = fields.get(name)
        if existing is None or existing.shape is None or field.shape is None:
            fields[name] = field
        else:
            merged = dict(existing.shape.fields)
            merge_shapes(merged, field.shape)
            fields[name] = FieldShape(field.type, Shape(merged))


class NonNullViolation(Exception):
    """A non-null position has no value: the position around it becomes null."""

    def __init__(self, error: GraphQLError) -> None:
        super().__init__(error)
        self.error = error


def settle_object(value: dict[str, Any], shape: Shape, path: list[str | int], errors: list[GraphQLError]) -> dict[str, Any]:
    """Return the object with null for each failure, and add the errors with their paths in the order of the document.

    An object may stand at several positions, so it is copied. Raises `NonNullViolation`.
    """
    fields = shape.fields
    return {name: settle(inner, fields[name].type, fields[name].shape, [*path, name], errors) for name, inner in value.items()}


def settle(value: Any, type_: Any, shape: Shape | None, path: list[str | int], errors: list[GraphQLError]) -> Any:
    """Return the value of a position without failures. Raises `NonNullViolation` if it is non-null and has none."""
    is_non_null = isinstance(type_, GraphQLNonNull)
    if isinstance(value, Failure):
        error = located_error(value.error, value.nodes, path)
        if is_non_null:
            raise NonNullViolation(error)
        errors.append(error)
        return None
    if value is None or isinstance(value, orjson.Fragment):  # nothing has failed in what PostgreSQL wrote
        return value
    inner_type = cast("Any", type_).of_type if is_non_null else type_
    try:
        if isinstance(inner_type, GraphQLList):
            item_type = cast("Any", inner_type).of_type
            items = cast("list[Any]", value)
            return [settle(item, item_type, shape, [*path, index], errors) for index, item in enumerate(items)]
        return value if shape is None else settle_object(value, shape, path, errors)
    except NonNullViolation as violation:
        if is_non_null:
            raise
        errors.append(violation.error)
        return None
