"""Non-null fields resolve for every possible row: all fields are read of one row of each type and status."""

from __future__ import annotations

import pytest
from graphql import GraphQLEnumType, get_named_type

from db.core.work import Database
from graph.core.ids import NODE_REGISTRY
from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.factories import Nodes, factories, platform
from tests.graph_walk import walk

CORE = schema._schema


def statuses_without_a_row(nodes: Nodes) -> list[str]:
    """For each value of a type's field `status` that no row has, report which factory should create one."""
    prefixes = {registration.type.__name__: prefix for prefix, registration in NODE_REGISTRY.items()}
    domains = {prefix: domain for domain, factory in factories().items() for prefix in factory.ids}
    complaints: list[str] = []
    for node_type in selection.node_types(CORE):
        status = get_named_type(node_type.fields["status"].type) if "status" in node_type.fields else None
        if isinstance(status, GraphQLEnumType):
            file = f"tests/factories/{domains[prefixes[node_type.name]]}.py"
            missing = status.values.keys() - {node["status"] for node in nodes.get(node_type.name, ())}
            complaints += [f"No {node_type.name} is {value}: make one in `states` of {file}." for value in sorted(missing)]
    return complaints


def test_a_status_without_a_row_is_reported() -> None:
    complaints = statuses_without_a_row({"Pipeline": [{"status": "DRAFT"}]})
    assert [text for text in complaints if "Pipeline" in text] == [
        f"No Pipeline is {status}: make one in `states` of tests/factories/pipelines.py." for status in ("ARCHIVED", "VALIDATED")
    ]


@pytest.mark.timeout(600)
async def test_every_field_of_every_kind_of_row_can_be_asked_for(
    ada: Client, bob: Client, admin: Client, database: Database, worker: object
) -> None:
    story_ids = await platform.tell_story(ada)
    story_nodes = await walk(ada, story_ids.values())  # before rows are added that no worker made
    statuses = {(type_name, node["status"]) for type_name, nodes in story_nodes.items() for node in nodes if "status" in node}
    assert statuses >= {(type_name, status) for factory in factories().values() for type_name, status in factory.story_statuses}
    await platform.add_states(database, "ada")
    ids_by_prefix = await platform.ids_by_prefix(database, "ada")
    ids = {own_id for prefix in NODE_REGISTRY for own_id in ids_by_prefix[prefix]}
    assert set(story_ids.values()) <= ids
    nodes_by_type = await walk(ada, ids)
    kinds = {registration.type.__name__ for registration in NODE_REGISTRY.values()}
    assert set(nodes_by_type) == kinds
    assert statuses_without_a_row(nodes_by_type) == []
    conditions = {sentence: holds for factory in factories().values() for sentence, holds in factory.conditions.items()}
    assert [sentence for sentence, holds in conditions.items() if not holds(story_nodes)] == []
    one_of_each = [ids_by_prefix[prefix][0] for prefix in NODE_REGISTRY]
    received = {"Notification", "EmailMessage"}  # read by the person alone to whom they are sent
    assert set(await walk(admin, one_of_each, follows=False)) == kinds - received
    ada_node_ids = sorted(node["id"] for nodes in nodes_by_type.values() for node in nodes)
    for first in range(0, len(ada_node_ids), 100):
        batch = ada_node_ids[first : first + 100]
        assert await bob.one("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=batch) == [None] * len(batch), (
            "a stranger sees none of it"
        )
