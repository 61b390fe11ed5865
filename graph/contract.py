"""The contract over time: what was released stays, until the date that its deprecation gave.

`released.graphql` is what clients were last promised. A deprecation names its successor and its day:
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

_DAY = re.compile(r"\bRemoved after (\d{4}-\d{2}-\d{2})\.$")


def release(current: str, today: date) -> list[str]:
    """Make `current` what clients are promised from now on; what would break instead, and then nothing is written."""
    found = broken(RELEASED.read_text(), current, today) if RELEASED.exists() else []
    if not found:
        RELEASED.write_text(current)
    return found


def broken(released: str, current: str, today: date) -> list[str]:
    """What clients of `released` lose with `current`, both SDL, besides what a deprecation had announced for before `today`."""
    promised, offered = _still_promised(released, today), build_schema(current)
    return [
        *(change.description for change in find_breaking_changes(promised, offered)),
        *_other_inputs(promised, offered),
        *_sooner(build_ast_schema(parse(released), assume_valid=True), offered, today),
    ]


def undated(sdl: str) -> list[str]:
    """The places of deprecations whose reason does not end with the day after which the thing goes."""
    return [place for place, reason in _deprecations(build_ast_schema(parse(sdl), assume_valid=True)).items() if _day(reason) is None]


def _other_inputs(promised: GraphQLSchema, offered: GraphQLSchema) -> Iterator[str]:
    """What graphql-core takes for dangerous at most, or does not see: requests that were complete and no longer are, or mean something else."""
    now = dict(_inputs(offered))
    for place, before in _inputs(promised):
        after, was = now.get(place), _default(before)
        if after is None or was is None:
            continue
        if _default(after) is None:
            yield f"{place} has lost its default."
        elif _default(after) != was:
            yield f"The default of {place} was {was} and is {_default(after)}."
    for name, kind in promised.type_map.items():
        after_kind = offered.type_map.get(name)
        takes_several = isinstance(kind, GraphQLInputObjectType) and not kind.is_one_of
        if takes_several and isinstance(after_kind, GraphQLInputObjectType) and after_kind.is_one_of:
            yield f"{name} takes one field alone, and took several."


def _sooner(released: GraphQLSchema, offered: GraphQLSchema, today: date) -> Iterator[str]:
    """Deprecations that leave less time than clients were given, or none."""
    before = {place: _day(reason) for place, reason in _deprecations(released).items()}
    for place, reason in _deprecations(offered).items():
        day, promised = _day(reason), before.get(place)
        if day is None or day == promised:
            continue
        if promised is not None and day < promised:
            yield f"{place} was to stay until {promised}, and now goes after {day}."
        elif promised is None and day < today:
            yield f"{place} is deprecated with a day that has passed: {day}."


def _inputs(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLArgument | GraphQLInputField]]:
    """Arguments and input fields by their place."""
    for name, kind in _own(schema):
        if isinstance(kind, GraphQLInputObjectType):
            yield from ((f"{name}.{field}", given) for field, given in kind.fields.items())
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field, declared in kind.fields.items():
                yield from ((f"{name}.{field}({argument})", given) for argument, given in declared.args.items())
    for directive in schema.directives:
        yield from ((f"@{directive.name}({argument})", given) for argument, given in directive.args.items())


def _default(given: GraphQLArgument | GraphQLInputField) -> str | None:
    """As the SDL has it."""
    node = given.ast_node
    return None if node is None or node.default_value is None else print_ast(node.default_value)


def _deprecations(schema: GraphQLSchema) -> dict[str, str]:
    """Reasons by the place of what is deprecated."""
    found: list[tuple[str, str | None]] = [(place, given.deprecation_reason) for place, given in _inputs(schema)]
    for name, kind in _own(schema):
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            found += ((f"{name}.{field}", declared.deprecation_reason) for field, declared in kind.fields.items())
        elif isinstance(kind, GraphQLEnumType):
            found += ((f"{name}.{value}", declared.deprecation_reason) for value, declared in kind.values.items())
    return {place: reason for place, reason in found if reason is not None}


def _own(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLNamedType]]:
    return ((name, kind) for name, kind in schema.type_map.items() if not name.startswith("__"))


def _still_promised(sdl: str, today: date) -> GraphQLSchema:
    class Due(Visitor):
        def enter(self, node: Node, *_: Any) -> object:
            directives: tuple[DirectiveNode, ...] = getattr(node, "directives", None) or ()
            days = (_day(_reason(found)) for found in directives if found.name.value == "deprecated")
            return REMOVE if any(day is not None and day < today for day in days) else None

    whole = build_ast_schema(visit(parse(sdl), Due()), assume_valid=True)
    # Types that only what is gone led to are promised no longer.
    implementing = [type_ for type_ in whole.type_map.values() if isinstance(type_, GraphQLObjectType) and type_.interfaces]
    return GraphQLSchema(
        whole.query_type, whole.mutation_type, whole.subscription_type, types=implementing, directives=whole.directives, assume_valid=True
    )


def _reason(node: DirectiveNode) -> str:
    values = (argument.value for argument in node.arguments or () if argument.name.value == "reason")
    return next((value.value for value in values if isinstance(value, StringValueNode)), "")


def _day(reason: str) -> date | None:
    """None where there is none in it, or one that no calendar has."""
    found = _DAY.search(reason)
    try:
        return None if found is None else date.fromisoformat(found[1])
    except ValueError:
        return None
