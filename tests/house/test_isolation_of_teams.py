"""Teammates see what their team owns and nothing else of it, whatever their role; who is VIEWER there changes nothing; who has left sees nothing.

An account with rows of every kind stands for a team, personal ones included, which no team has. tests/house/test_isolation.py compares
the answers that a former member gets with those for ids that were never made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import pytest

from db.core.policy import POLICIES, Administered, Personal, Received
from db.core.viewer import UserRole
from db.core.work import Database
from graph.core.ids import NODE_REGISTRY
from tests import selection
from tests.accounts.test_teams import join, leave
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.factories import factories, platform
from tests.house.test_isolation import CSV, PLACES, OwnIds, _probed, _rows_of, answer_text
from tests.served_schema import SERVED

MakeClient = Callable[..., Awaitable[Client]]
ROOTS = tuple(selection.root_lists(SERVED))


def _prefixes(policy: type[Personal | Administered | Received]) -> set[str]:
    """The prefixes of the ids of the tables with such a policy."""
    ids = (entry for factory in factories().values() for entry in factory.ids.items())
    return {prefix for prefix, table in ids if isinstance(POLICIES[table.__tablename__], policy)}


RECEIVED = _prefixes(Received)
PERSONAL = _prefixes(Personal) | RECEIVED
"""The prefixes of the ids of what belongs to persons alone."""
OF_ADMINS = _prefixes(Administered)
"""Those of what the ADMINs of a team alone see."""


async def _ids_of(database: Database, owner: str) -> Mapping[str, list[str]]:
    await platform.fill(database, owner, 1)
    await platform.add_states(database, owner)
    return await platform.ids_by_prefix(database, owner)


async def _lists(client: Client) -> dict[str, tuple[int, frozenset[str]]]:
    """The number and the ids of the rows of each list without a parent."""
    query = " ".join(f"{root}(first: 100) {{ totalCount edges {{ node {{ id }} }} }}" for root in ROOTS)
    data = await client.execute(f"{{ {query} }}")
    return {root: (page["totalCount"], frozenset(edge["node"]["id"] for edge in page["edges"])) for root, page in data.items()}


async def _visible(client: Client, ids: Mapping[str, list[str]]) -> set[str]:
    """The prefixes of those of the ids that are found."""
    flat = [(prefix, id_) for prefix, some in ids.items() for id_ in some]
    nodes: list[Any] = []
    for start in range(0, len(flat), 100):
        nodes += await client.one("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[id_ for _, id_ in flat[start : start + 100]])
    return {prefix for (prefix, _), node in zip(flat, nodes, strict=True) if node is not None}


@pytest.fixture
async def ids(ada: Client, database: Database) -> Mapping[str, list[str]]:
    """Ids of every kind of what the team owns, for which Ada stands."""
    return await _ids_of(database, "ada")


async def test_teammates_of_each_role_see_what_the_team_owns_and_nothing_personal(
    ids: Mapping[str, list[str]], ada: Client, admin: Client, make_client: MakeClient, database: Database
) -> None:
    assert {"session", "login", "apikey", "request"} <= PERSONAL
    assert {"invitation"} == OF_ADMINS
    team = (await ada.one("{ viewer { id } }"))["id"]
    of_team = {
        root: rows for root, rows in (await _lists(ada)).items() if root not in {"users", "apiKeys", "notifications", "emailMessages"}
    }
    invitations = of_team.pop("invitations")
    everything = await _visible(ada, ids)
    assert everything == set(NODE_REGISTRY), "there is a row of every type"
    for role in UserRole:
        client = await make_client(f"{role.value}-of-it")
        before, nothing = await _lists(client), await _visible(client, ids)
        assert nothing == set(), "a stranger"
        await join(database, team, f"{role.value}-of-it", role)
        lists = await _lists(client)
        assert {root: lists[root] for root in of_team if root != "auditEvents"} == {
            root: rows for root, rows in of_team.items() if root != "auditEvents"
        }, role
        assert lists["auditEvents"][1] == of_team["auditEvents"][1] | before["auditEvents"][1], role
        assert lists["apiKeys"] == before["apiKeys"], "keys are personal"
        assert lists["invitations"] == (invitations if role is UserRole.ADMIN else before["invitations"]), role
        assert lists["users"][1] == {team} | before["users"][1], "not the other members"
        hidden = PERSONAL if role is UserRole.ADMIN else PERSONAL | OF_ADMINS
        assert await _visible(client, ids) == everything - hidden, role
        await leave(database, team, f"{role.value}-of-it")
        assert await _lists(client) == before, "a former member"
        assert await _visible(client, ids) == set(), "a former member"
    assert await _visible(admin, ids) == everything - RECEIVED


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", [96, exhaustive(1)])
async def test_who_is_a_viewer_of_a_team_changes_nothing_of_it(
    ids: Mapping[str, list[str]], ada: Client, make_client: MakeClient, database: Database, worker: object, part: int
) -> None:
    """Each mutation is tried with ids of the types that it speaks of, and with those of one in `part` of the others."""
    team = (await ada.one("{ viewer { id } }"))["id"]
    own = OwnIds({prefix: some[0] for prefix, some in ids.items()})
    training = ("train", "train_random_forest", {"target": "label"})
    own["datasetVersionId"] = await ada.ingest("ours", CSV, targetColumn="label", problemType="CLASSIFICATION")
    own["pipelineId"] = (await ada.create_pipeline("ours", ("data", "dataset", {}), training))["pipeline"]["id"]
    first_ids = {prefix: some[0] for prefix, some in ids.items()}
    cleo = await make_client("cleo")
    await join(database, team, "cleo", UserRole.VIEWER)
    before = await _rows_of(database, UUID(team.partition("_")[2]))
    places = [place for place in PLACES if place.operation == "mutation"]
    answers: list[str] = []
    for number, place in enumerate(places):
        targets = [*_probed(number, place, first_ids, part), own["datasetVersionId"], own["pipelineId"]]
        answers += await asyncio.gather(*(answer_text(cleo, place, target, own) for target in targets))
    assert await _rows_of(database, UUID(team.partition("_")[2])) == before
    assert sum("FORBIDDEN" in answer for answer in answers) > len(places), "many of them would have changed something"
