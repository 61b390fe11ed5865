"""The contract over time: what was released stays, until the date that its deprecation gave.

`released.graphql` is what clients were last promised. A deprecation names its successor and its day:
`deprecation_reason="Use `b`. Removed after 2027-06-30."`
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

from graphql import (
    REMOVE,
    DirectiveNode,
    GraphQLObjectType,
    GraphQLSchema,
    Node,
    StringValueNode,
    Visitor,
    build_ast_schema,
    build_schema,
    find_breaking_changes,
    parse,
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
    return [change.description for change in find_breaking_changes(_still_promised(released, today), build_schema(current))]


def undated(sdl: str) -> list[str]:
    """Reasons of deprecations that do not end with the day after which the thing goes."""
    reasons: list[str] = []

    class Reasons(Visitor):
        def enter_directive(self, node: DirectiveNode, *_: Any) -> None:
            if node.name.value == "deprecated":
                reasons.append(_reason(node))

    visit(parse(sdl), Reasons())
    return [reason for reason in reasons if _day(reason) is None]


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
    found = _DAY.search(reason)
    return None if found is None else date.fromisoformat(found[1])
