"""Modules import each other in one direction: the rules that import-linter's contracts cannot express without a list of the domains."""

from __future__ import annotations

from collections.abc import Iterator

import grimp
import pytest

PACKAGES = ("server", "graph", "db", "workers")
NOT_DOMAINS = frozenset({"core", "execution"})
# Modules of a domain that no other domain imports, so they never take part in a permitted cycle.
NOT_TYPES = frozenset({"queries", "mutations", "subscriptions", "inputs", "enums"})


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """The graph of all imports, including those for type checkers and within functions."""
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def domain_of(module: str) -> str | None:
    """Return the domain of the graph that a module belongs to."""
    package, *rest = module.split(".")
    return rest[0] if package == "graph" and len(rest) > 1 and rest[0] not in NOT_DOMAINS else None


def circles(imports: grimp.ImportGraph) -> Iterator[frozenset[str]]:
    """Yield the strongly connected components of more than one module."""
    seen: set[str] = set()
    for module in sorted(imports.modules):
        if module not in seen:
            circle = frozenset((imports.find_upstream_modules(module) & imports.find_downstream_modules(module)) | {module})
            seen |= circle
            if len(circle) > 1:
                yield circle


def faulty_circles(imports: grimp.ImportGraph) -> list[str]:
    """Report import cycles other than those between GraphQL types of different domains, which refer to each other."""
    return [
        f"{', '.join(sorted(circle))} import each other. Move what they share into a module that both import."
        for circle in circles(imports)
        if not all(domain_of(module) is not None and module.rpartition(".")[2] not in NOT_TYPES for module in circle)
    ]


def crossed_boundaries(imports: grimp.ImportGraph) -> list[str]:
    """Report imports of a domain by core or execution, and of execution by a domain; domains may import core."""
    complaints: list[str] = []
    for importer in sorted(imports.modules):
        for imported in sorted(imports.find_modules_directly_imported_by(importer)):
            if importer.startswith(("graph.core", "graph.execution")) and domain_of(imported) is not None:
                complaints.append(f"{importer} imports {imported}, a module of a domain.")
            if domain_of(importer) is not None and imported.startswith("graph.execution"):
                complaints.append(f"{importer} imports {imported}: domains know graph.core and not how operations are executed.")
    return complaints


def graph_of(*imports: tuple[str, str]) -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported)
    return graph


def test_only_types_of_the_graph_import_each_other(imports: grimp.ImportGraph) -> None:
    assert faulty_circles(imports) == []


def test_domains_use_core_and_execution_uses_no_domain(imports: grimp.ImportGraph) -> None:
    assert crossed_boundaries(imports) == []


def test_a_circle_is_found() -> None:
    types = graph_of(("graph.jobs.types", "graph.models.types"), ("graph.models.types", "graph.jobs.types"))
    assert list(circles(types)) == [{"graph.jobs.types", "graph.models.types"}]
    assert faulty_circles(types) == []
    for first, second in (("db.core.a", "db.core.b"), ("graph.core.a", "graph.core.b"), ("graph.jobs.inputs", "graph.jobs.types")):
        (complaint,) = faulty_circles(graph_of((first, "server.app"), ("server.app", second), (second, first)))
        assert complaint.startswith(", ".join(sorted({first, second, "server.app"})))


def test_a_crossed_boundary_is_found() -> None:
    for importer, imported in (
        ("graph.core.edges", "graph.jobs.types"),
        ("graph.execution.schema", "graph.jobs.types"),
        ("graph.jobs.types", "graph.execution.context"),
    ):
        (complaint,) = crossed_boundaries(graph_of((importer, imported)))
        assert complaint.startswith(f"{importer} imports {imported}")
    assert crossed_boundaries(graph_of(("graph.jobs.types", "graph.core.edges"), ("graph.schema", "graph.jobs.types"))) == []
