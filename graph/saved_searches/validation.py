"""Whether the list of a type takes a filter and an order: they are read by the list's own input types, as those of a request are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import strawberry
from graphql import GraphQLError
from graphql.utilities import (
    coerce_input_value,  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
    validate_input_value,  # pyright: ignore[reportUnknownVariableType] - the same
)
from strawberry.types.arguments import convert_argument

from db.errors import Issue
from db.tables.search import SearchType
from graph.core.errors import BadUserInput
from graph.core.list_lengths import overlong_lists

_LISTS = {
    "dataset": "datasets",
    "pipeline": "pipelines",
    "experiment": "experiments",
    "run": "runs",
    "model": "models",
    "study": "studies",
}
"""The root fields that list each type."""


def issues_of(schema: strawberry.Schema, target: SearchType, filter_: Any, order_by: Any) -> list[Issue]:
    """Return what the list does not take; nothing is wrong with None."""
    return [
        issue
        for argument, value in (("filter", filter_), ("orderBy", order_by))
        if value is not None
        for issue in _issues(schema, _LISTS[target.value], argument, value)
    ]


def _issues(schema: strawberry.Schema, list_name: str, argument: str, value: Any) -> Iterator[Issue]:
    core = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public accessor
    assert core.query_type is not None
    field = core.query_type.fields[list_name]
    input_type: Any = field.args[argument].type
    too_long = [
        Issue((argument, *path.split(".")[1:]), f"This has {length:,} entries; at most {limit:,} are allowed.")
        for path, length, limit in overlong_lists(input_type, value, argument)
    ]
    if too_long:
        yield from too_long
        return
    errors: list[tuple[GraphQLError, list[str | int]]] = []
    validate_input_value(value, input_type, lambda error, path: errors.append((error, path)))
    if errors:
        yield from (Issue((argument, *map(str, path)), error.message) for error, path in errors)
        return
    definition: Any = field.extensions["strawberry-definition"]
    (declared,) = (each for each in definition.arguments if schema.config.name_converter.from_argument(each) == argument)
    try:
        coerced = coerce_input_value(value, input_type)
        given: Any = convert_argument(coerced, declared.type, schema.schema_converter.scalar_registry, schema.config)
        given.to_criteria() if argument == "filter" else given.to_order()
    except GraphQLError as error:  # an input with exactly one key has another number of them
        yield Issue((argument,), error.message)
    except BadUserInput as error:  # limits that the types do not tell
        yield Issue((argument,), str(error))
