"""How long lists in inputs may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from graphql import (
    GraphQLInputObjectType,
    GraphQLList,
    get_named_type,
    get_nullable_type,  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
)

MAX_ENTRIES = 100
MAX_ENTRIES_BY_TYPE = {
    "PipelineNodeInput": 1_000,
    "PipelineLinkInput": 1_000,
    "MetricPointInput": 1_000,
    "UploadedPartInput": 10_000,  # as many as an object has
    "JSON": 10_000,  # rows
}  # a definition says itself what is wrong with it, its size too


def overlong_lists(type_: Any, value: Any, path: str) -> Iterator[tuple[str, int, int]]:
    """Yield each list that is too long, nested ones included. Recursion is bounded by the depth of the type, not by that of the JSON value."""
    type_ = cast("Any", get_nullable_type)(type_)
    if isinstance(type_, GraphQLList) and isinstance(value, list):
        entries, inner = cast("list[Any]", value), cast("Any", type_).of_type
        if len(entries) > max_entries(type_):
            yield path, len(entries), max_entries(type_)
            return
        for entry in entries:
            yield from overlong_lists(inner, entry, path)
    elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            if name in type_.fields:
                yield from overlong_lists(type_.fields[name].type, inner, f"{path}.{name}")


def max_entries(type_: Any) -> int:
    """Return how many entries a list of this type may have."""
    return MAX_ENTRIES_BY_TYPE.get(cast("Any", get_named_type)(type_).name, MAX_ENTRIES)
