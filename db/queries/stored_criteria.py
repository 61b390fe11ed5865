"""Filters and orders of lists as JSON: those that a job applies later.

They are the values that `to_criteria` and `to_order` of the inputs make. Only the classes and enums named here are read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any, cast
from uuid import UUID

from db.core.criteria import AllOf, Criteria, Equals, OneOf, Order, Period, Range, TextMatch
from db.queries.annotations import AnnotationMatch
from db.queries.run_orders import ByColumn, ByMetric, ByParameter, RunOrder
from db.queries.runs import MetricBound, ParameterMatch

_CLASSES: Mapping[str, type[Any]] = {
    class_.__name__: class_
    for class_ in (
        *(Criteria, TextMatch, Period, Range, Equals, OneOf, AllOf, MetricBound, ParameterMatch, AnnotationMatch),
        *(Order, RunOrder, ByColumn, ByMetric, ByParameter),
    )
}
_TYPE, _VALUE = "type", "value"


@cache
def _enums() -> Mapping[str, type[StrEnum]]:
    """The enums of this package's tables, by name. The modules of the tables are imported by whatever reads them."""
    return {enum.__name__: enum for enum in StrEnum.__subclasses__() if enum.__module__.startswith(("db.tables", "db.core"))}


def to_json(value: Any) -> Any:
    """Return criteria, an order, or a value in them as JSON. Raises `TypeError` for what `from_json` could not read back."""
    if isinstance(value, StrEnum):
        if _enums().get(type(value).__name__) is not type(value):
            raise TypeError(f"{type(value)!r} is no enum of a table.")
        return {_TYPE: type(value).__name__, _VALUE: value.value}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, UUID):
        return {_TYPE: "UUID", _VALUE: value.hex}
    if isinstance(value, datetime):
        return {_TYPE: "datetime", _VALUE: value.isoformat()}
    if isinstance(value, bytes):
        return {_TYPE: "bytes", _VALUE: value.decode()}
    if isinstance(value, tuple):
        return [to_json(item) for item in cast("tuple[Any, ...]", value)]
    if is_dataclass(value) and _CLASSES.get(type(value).__name__) is type(value):
        return {_TYPE: type(value).__name__, _VALUE: {field.name: to_json(getattr(value, field.name)) for field in fields(value)}}
    raise TypeError(f"{value!r} is no part of criteria or orders that are stored.")


def from_json(document: Any) -> Any:
    """Return what `to_json` was given. Raises `KeyError`, `TypeError` or `ValueError` for what another release has written and this one does not know."""
    if isinstance(document, list):
        return tuple(from_json(item) for item in cast("list[Any]", document))
    if not isinstance(document, dict):
        return document
    tagged = cast("dict[str, Any]", document)
    name, value = tagged[_TYPE], tagged[_VALUE]
    match name:
        case "UUID":
            return UUID(hex=value)
        case "datetime":
            return datetime.fromisoformat(value)
        case "bytes":
            return value.encode()
        case _ if name in _CLASSES:
            return _CLASSES[name](**{field: from_json(item) for field, item in value.items()})
        case _:
            return _enums()[name](value)
