"""A domain adds its edges to other domains' types from its own package, so a new domain requires no edits to existing types."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import strawberry

from db.queries import datasets
from graph.core.edges import connection, extend
from graph.core.paging import Connection
from graph.datasets.types import Dataset
from graph.schema import schema

GRAPH = Path(__file__).parents[2] / "graph"
DOMAINS = sorted(path.parent.name for path in GRAPH.glob("*/types.py"))


def imports_of(domain: str) -> set[str]:
    """Return the modules of `graph` that a domain's package imports, including imports for type checkers."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (GRAPH / domain).glob("*.py")]
    modules = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module is not None}
    return {module for module in modules if module.startswith("graph.")}


def test_users_know_no_other_domain() -> None:
    assert {module.split(".")[1] for module in imports_of("accounts")}.intersection(DOMAINS) <= {"accounts"}


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_domain_imports_the_inputs_of_another(domain: str) -> None:
    inputs = {module for module in imports_of(domain) if module.endswith(".inputs")}
    assert inputs <= {f"graph.{domain}.inputs"}


@strawberry.type(description="Has datasets.")
class Shelf:
    uuid: strawberry.Private[str]


@strawberry.type(description="A root.")
class Query:
    shelf: Shelf


def test_an_edge_that_is_added_from_outside_is_a_field_like_any_other() -> None:
    extend(Shelf, "datasets", Connection[Dataset], connection(datasets.of_owner, description="What stands on it."))
    with pytest.raises(TypeError, match="Shelf already has a field 'datasets'"):
        extend(Shelf, "datasets", Connection[Dataset], connection(datasets.of_owner, description="What stands on it."))
    sdl = strawberry.Schema(query=Query, config=schema.config).as_str()
    shelf = sdl.partition("type Shelf {")[2].partition("}")[0]
    assert '"""What stands on it."""\n  datasets(' in shelf
    assert shelf.rstrip().endswith("): DatasetConnection!")
