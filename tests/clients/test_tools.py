"""Frontend tooling works with the schema: GraphQL Code Generator with a strict compiler, and graphql-eslint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graph.schema import schema
from tests.clients import node
from tests.exhaustive import exhaustive


@pytest.fixture
def sdl() -> Iterator[Path]:
    """The current schema, written inside the folder of the ESLint configuration, where ESLint finds it."""
    folder = node.FOLDER / "generated"
    folder.mkdir(exist_ok=True)
    path = folder / f"linted-{os.getpid()}.graphql"  # tests run in parallel
    path.write_text(schema.as_str() + "\n")
    yield path
    path.unlink()


async def lint(path: Path) -> tuple[int, str]:
    return await node.run_command(node.BIN / "eslint", "--no-ignore", path, variables={"TRELLIS_SCHEMA": str(path)})


async def test_generated_types_are_strictly_typed() -> None:
    """`usage.ts` also contains a line that must not compile."""
    status, output = await node.run_command(node.BIN / "graphql-codegen", "--config", "codegen.json")
    assert status == 0, output
    status, output = await node.run_command(node.BIN / "tsc", "--strict", "-p", ".")
    assert (status, output) == (0, "")


@pytest.mark.exhaustive
async def test_the_linter_reports_nothing(sdl: Path) -> None:
    status, said = await lint(sdl)
    assert (status, said) == (0, ""), said


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        exhaustive("progress: Int!", "get_progress: Int!", "naming-convention"),
        exhaustive('"""What it does."""', "", "require-description"),
        exhaustive("edges: [DatasetEdge!]!", "edges: DatasetEdge", "relay-connection-types"),
    ],
)
async def test_the_linter_would_have_noticed(sdl: Path, before: str, after: str, rule: str) -> None:
    original = sdl.read_text()
    assert before in original
    sdl.write_text(original.replace(before, after))
    status, output = await lint(sdl)
    assert status == 1
    assert rule in output
