"""Hooks that schemathesis loads in its own process: values for our scalars, and the check for internal errors."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from graphql import (
    BooleanValueNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NameNode,
    NullValueNode,
    ObjectFieldNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
)
from hypothesis import strategies as st

CLIENT_ERRORS = {"BAD_USER_INPUT", "FORBIDDEN", "GRAPHQL_VALIDATION_FAILED", "NOT_FOUND"}

IDS = os.environ["TRELLIS_FUZZ_IDS"].split(",")


def text(value: str) -> ValueNode:
    return StringValueNode(value=value)


def integer(value: int) -> ValueNode:
    return IntValueNode(value=str(value))


def number(value: float) -> ValueNode:
    return FloatValueNode(value=repr(value))


def boolean(value: bool) -> ValueNode:
    return BooleanValueNode(value=value)


def entry(item: tuple[str, ValueNode]) -> ObjectFieldNode:
    return ObjectFieldNode(name=NameNode(value=item[0]), value=item[1])


def entries(fields: dict[str, ValueNode]) -> ValueNode:
    return ObjectValueNode(fields=tuple(map(entry, fields.items())))


def items(values: list[ValueNode]) -> ValueNode:
    return ListValueNode(values=tuple(values))


long = st.builds(lambda part, times: part * times, st.sampled_from(["a", ".", "a.", "%", "'", "\\", "ä"]), st.integers(100, 5_000))
strings = st.one_of(st.text(max_size=40), st.text(max_size=40), long).map(text)
finite = st.floats(allow_nan=False, allow_infinity=False).map(number)
leaves = st.one_of(strings, st.integers().map(integer), finite, st.booleans().map(boolean), st.just(NullValueNode()))
names = st.from_regex(r"[_A-Za-z][_0-9A-Za-z]{0,8}", fullmatch=True)
json_values = st.recursive(
    leaves, lambda part: st.one_of(st.lists(part).map(items), st.dictionaries(names, part).map(entries)), max_leaves=8
)
timestamps = st.datetimes().map(lambda moment: text(f"{moment.isoformat()}Z"))
edge_timestamps = st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "now", ""]).map(text)

schemathesis.graphql.scalar("ID", st.one_of(st.sampled_from(IDS).map(text), strings))
schemathesis.graphql.scalar("BigInt", st.integers(-(2**63) - 1, 2**64).map(integer))
schemathesis.graphql.scalar("Duration", finite)
schemathesis.graphql.scalar("DateTime", st.one_of(timestamps, edge_timestamps))
schemathesis.graphql.scalar("MetricValue", st.one_of(finite, st.sampled_from(["NaN", "-Infinity", "nan"]).map(text)))
schemathesis.graphql.scalar("JSON", json_values)


@schemathesis.check
def no_error_of_ours(_context: Any, response: Any, _case: Any) -> None:
    """Fail on every error but those of which a client is told what to change."""
    assert response.status_code < 500, response.text[:2_000]
    codes = {error["extensions"]["code"] for error in response.json().get("errors", ())}
    assert codes <= CLIENT_ERRORS, response.text[:2_000]
