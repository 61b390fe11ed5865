"""The number of SQL statements does not grow with the number of parents: for every edge and every list of the schema."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager

import pytest
from graphql import GraphQLObjectType, get_named_type, is_leaf_type

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.conftest import LiveServer, clean_tables
from tests.factories import platform

ROOTS = {"datasets": "Dataset", "pipelines": "Pipeline", "jobs": "Job", "models": "Model", "experiments": "Experiment", "runs": "Run"}
# What is no root list is reached through one.
THROUGH = {
    "DatasetVersion": ("datasets", "currentVersion"),
    "ModelVersion": ("models", "latestVersion"),
    "PipelineSnapshot": ("jobs", "snapshot"),
    "DatasetProfile": ("datasets", "currentVersion { profile", "}"),
    "User": ("datasets", "owner"),
    "Artifact": ("datasets", "currentVersion { rawFile", "}"),
}
PARENTS = 6


def edges(type_name: str) -> list[tuple[str, str]]:
    """The fields of a type that lead to other rows, each as (name, a selection of it with all its leaves)."""
    core = schema._schema
    object_type = core.type_map[type_name]
    assert isinstance(object_type, GraphQLObjectType)
    selections: list[tuple[str, str]] = []
    for name, field in object_type.fields.items():
        if not is_leaf_type(get_named_type(field.type)) or field.args:
            selection_text = selection.field_selection(core, name, field, 2)
            if selection_text is not None:
                selections.append((name, selection_text))
    return selections


CASES = [
    *((root, type_name, name, chosen, "", "") for root, type_name in ROOTS.items() for name, chosen in edges(type_name)),
    *(
        (path[0], type_name, name, chosen, f"{path[1]} {{ ", f" }} {path[2] if len(path) > 2 else ''}")
        for type_name, path in THROUGH.items()
        for name, chosen in edges(type_name)
    ),
]


def test_every_kind_of_node_is_tried() -> None:
    nodes = schema._schema.get_possible_types(schema._schema.type_map["Node"])  # pyright: ignore[reportArgumentType] - Node is an interface
    assert {*ROOTS.values(), *THROUGH} == {node.name for node in nodes}


@pytest.mark.parametrize(("root", "type_name", "name", "chosen", "before", "after"), CASES, ids=[f"{case[1]}.{case[2]}" for case in CASES])
async def test_one_batch_however_many_parents(
    root: str,
    type_name: str,
    name: str,
    chosen: str,
    before: str,
    after: str,
    filled_client: Client,
    capture_statements: Callable[[], AbstractContextManager[list[str]]],
) -> None:
    counts: list[int] = []
    for first in (1, PARENTS):
        with capture_statements() as sent:
            page = await filled_client.one(f"{{ {root}(first: {first}) {{ edges {{ node {{ {before}{chosen}{after} }} }} }} }}")
        assert len(page["edges"]) == first
        counts.append(len(sent))
    assert counts[0] == counts[1], f"{type_name}.{name}: {counts[0]} statements for one parent, {counts[1]} for {PARENTS}"


@pytest.fixture(scope="module")
async def filled_client(database: Database, live_server: LiveServer) -> AsyncGenerator[Client]:
    """Ada with a platform of her own, filled once for the module: its tests only read."""
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        token = await accounts.add_user(work, "ada@example.org", "ada")
    await platform.fill(database, "ada", PARENTS)
    client = Client(live_server.url, token)
    yield client
    await client.close()
