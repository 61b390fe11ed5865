"""The checked-in schema is the served one."""

from __future__ import annotations

from pathlib import Path

from graph.schema import schema

SDL = Path(__file__).parents[2] / "graph" / "schema.graphql"


def test_the_schema_that_is_checked_in_is_the_one_that_is_served() -> None:
    assert SDL.read_text(encoding="utf-8").strip() == schema.as_str().strip(), "run `trellis schema > graph/schema.graphql`"
