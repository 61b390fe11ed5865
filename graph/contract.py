"""Compatibility of the schema with the released one: nothing is removed before the date that its deprecation names.

`released.graphql` is the schema last promised to clients. A deprecation names the replacement and the date:
`deprecation_reason="Use `b`. Removed after 2027-06-30."`
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from graphql import (
    REMOVE,
    DirectiveNode,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    Node,
    StringValueNode,
    Visitor,
    build_ast_schema,
    build_schema,
    find_breaking_changes,
    parse,
    print_ast,
    visit,
)

RELEASED = Path(__file__).parent / "released.graphql"

_REMOVAL_DAY = re.compile(r"\bRemoved after (\d{4}-\d{2}-\d{2})\.$")


def release(current: str, today: date) -> list[str]:
    """Write `current` as the released schema. If it has breaking changes, write nothing and return them."""
    changes = breaking_changes(RELEASED.read_text(), current, today) if RELEASED.exists() else []
    if not changes:
        RELEASED.write_text(current)
    return changes


def breaking_changes(released: str, current: str, today: date) -> list[str]:
    """Return the breaking changes from `released` to `current`, both SDL, without the removals whose deprecation date is before `today`."""
    promised_schema, current_schema = _promised_schema(released, today), build_schema(current)
    return [
        *(change.description for change in find_breaking_changes(promised_schema, current_schema)),
        *_changed_inputs(promised_schema, current_schema),
        *_shortened_deprecations(build_ast_schema(parse(released), assume_valid=True), current_schema, today),
    ]


def undated_deprecations(sdl: str) -> list[str]:
    """Return the deprecated places whose reason does not end with the date of their removal."""
    return [
        place for place, reason in _deprecations(build_ast_schema(parse(sdl), assume_valid=True)).items() if _removal_day(reason) is None
    ]


def _changed_inputs(promised_schema: GraphQLSchema, current_schema: GraphQLSchema) -> Iterator[str]:
    """Yield changes that graphql-core does not report as breaking: requests that become incomplete or change their meaning."""
    current_inputs = dict(_inputs(current_schema))
    for place, promised_input in _inputs(promised_schema):
        current_input, promised_default = current_inputs.get(place), _default_value(promised_input)
        if current_input is None or promised_default is None:
            continue
        if _default_value(current_input) is None:
            yield f"{place} no longer has a default."
        elif _default_value(current_input) != promised_default:
            yield f"The default of {place} was {promised_default} and is {_default_value(current_input)}."
    for name, type_ in promised_schema.type_map.items():
        current_type = current_schema.type_map.get(name)
        takes_several = isinstance(type_, GraphQLInputObjectType) and not type_.is_one_of
        if takes_several and isinstance(current_type, GraphQLInputObjectType) and current_type.is_one_of:
            yield f"{name} now takes exactly one field, but took several."


def _shortened_deprecations(released: GraphQLSchema, current_schema: GraphQLSchema, today: date) -> Iterator[str]:
    """Yield deprecations whose date is earlier than promised, or has passed."""
    promised_days = {place: _removal_day(reason) for place, reason in _deprecations(released).items()}
    for place, reason in _deprecations(current_schema).items():
        day, promised_day = _removal_day(reason), promised_days.get(place)
        if day is None or day == promised_day:
            continue
        if promised_day is not None and day < promised_day:
            yield f"{place} was to stay until {promised_day}, but is now removed after {day}."
        elif promised_day is None and day < today:
            yield f"{place} is deprecated with a date that has passed: {day}."


def _inputs(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLArgument | GraphQLInputField]]:
    """Yield arguments and input fields with their places."""
    for name, type_ in _defined_types(schema):
        if isinstance(type_, GraphQLInputObjectType):
            yield from ((f"{name}.{field}", definition) for field, definition in type_.fields.items())
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for field, declared in type_.fields.items():
                yield from ((f"{name}.{field}({argument})", definition) for argument, definition in declared.args.items())
    for directive in schema.directives:
        yield from ((f"@{directive.name}({argument})", definition) for argument, definition in directive.args.items())


def _default_value(definition: GraphQLArgument | GraphQLInputField) -> str | None:
    """Return the default as SDL."""
    node = definition.ast_node
    return None if node is None or node.default_value is None else print_ast(node.default_value)


def _deprecations(schema: GraphQLSchema) -> dict[str, str]:
    """Return the deprecation reasons by place."""
    reasons: list[tuple[str, str | None]] = [(place, definition.deprecation_reason) for place, definition in _inputs(schema)]
    for name, type_ in _defined_types(schema):
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            reasons += ((f"{name}.{field}", declared.deprecation_reason) for field, declared in type_.fields.items())
        elif isinstance(type_, GraphQLEnumType):
            reasons += ((f"{name}.{value}", declared.deprecation_reason) for value, declared in type_.values.items())
    return {place: reason for place, reason in reasons if reason is not None}


def _defined_types(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLNamedType]]:
    return ((name, type_) for name, type_ in schema.type_map.items() if not name.startswith("__"))


def _promised_schema(sdl: str, today: date) -> GraphQLSchema:
    class RemoveDue(Visitor):
        def enter(self, node: Node, *_: Any) -> object:
            directives: tuple[DirectiveNode, ...] = getattr(node, "directives", None) or ()
            days = (_removal_day(_reason(directive)) for directive in directives if directive.name.value == "deprecated")
            return REMOVE if any(day is not None and day < today for day in days) else None

    promised_schema = build_ast_schema(visit(parse(sdl), RemoveDue()), assume_valid=True)
    # Rebuilding drops the types that only removed fields referred to.
    implementing = [type_ for type_ in promised_schema.type_map.values() if isinstance(type_, GraphQLObjectType) and type_.interfaces]
    return GraphQLSchema(
        promised_schema.query_type,
        promised_schema.mutation_type,
        promised_schema.subscription_type,
        types=implementing,
        directives=promised_schema.directives,
        assume_valid=True,
    )


def _reason(node: DirectiveNode) -> str:
    values = (argument.value for argument in node.arguments or () if argument.name.value == "reason")
    return next((value.value for value in values if isinstance(value, StringValueNode)), "")


def _removal_day(reason: str) -> date | None:
    """Return the date in the reason; None if there is none or it is invalid."""
    match = _REMOVAL_DAY.search(reason)
    try:
        return None if match is None else date.fromisoformat(match[1])
    except ValueError:
        return None
