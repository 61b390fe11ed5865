"""Every mutation has endings in `tests/endings`, which `tests/graph/test_mutation_endings.py` sends."""

from __future__ import annotations

from graphql import build_schema

from graph.schema import schema
from tests.endings import cases


def test_every_mutation_declares_how_it_ends() -> None:
    mutation_type = build_schema(schema.as_str()).mutation_type
    assert mutation_type is not None
    assert sorted(cases()) == sorted(mutation_type.fields), "Declare the endings of a mutation in tests/endings/<domain>.py."
