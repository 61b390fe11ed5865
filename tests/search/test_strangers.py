"""Nobody finds what they may not see."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from db.core.viewer import UserRole
from db.core.work import Database
from db.queries import search as searches
from tests.accounts.test_teams import join, leave
from tests.client import Client
from tests.search.searching import add, add_dataset, add_run, search, titles

ENDS = {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None}
NOTHING: dict[str, Any] = {"edges": [], "isPartial": False, "pageInfo": ENDS}


async def _account(client: Client) -> str:
    return (await client.one("{ viewer { id } }"))["id"]


async def test_a_stranger_finds_nothing_whatever_the_query(ada: Client, bob: Client, admin: Client, database: Database) -> None:
    await add_dataset(database, "ada", "Secret gearbox", "The secret of the gearbox.", ["secret_torque"])
    (experiment,) = await add(database, "experiments", "ada", {f"secret {number}": None for number in range(1)})
    await add_run(database, experiment, "secret", "secret notes")
    owner = await _account(ada)
    cursor = (await search(ada, "secret", first=1))["pageInfo"]["endCursor"]
    newest = (await search(ada, "the", first=1))["pageInfo"]["endCursor"]
    for query in ("secret", "secr", "sceret", "torque", "the", "", "-nothing"):
        assert await search(bob, query) == NOTHING, query
        assert await search(bob, query, ownerId=owner) == NOTHING, query
        assert await search(bob, query, ownerId="user_" + "0" * 32) == NOTHING, query
    for query, after in (("secret", cursor), ("the", newest)):
        assert await search(bob, query, after=after) == NOTHING | {"pageInfo": ENDS | {"hasPreviousPage": True}}
    for client in (ada, admin):
        assert len(await titles(client, "secret", ownerId=owner)) == 3
        assert await titles(client, "secret", ownerId=await _account(bob)) == []
        assert await titles(client, "secret", ownerId=experiment.hex) == []
    assert len(await titles(admin, "secret")) == 3


@pytest.mark.parametrize("small", [0, searches.SMALL])
async def test_what_a_team_owns_is_found_by_who_is_in_it(
    ada: Client, bob: Client, reader: Client, database: Database, monkeypatch: pytest.MonkeyPatch, small: int
) -> None:
    monkeypatch.setattr(searches, "SMALL", small)
    team, other = await _account(ada), await _account(reader)
    await add(database, "models", "ada", {"gearbox of the team": None, "bearing": None})
    await add(database, "models", "bob", {"gearbox of bob": None})
    await add(database, "models", "reader", {"gearbox of another team": None})
    await join(database, team, "bob", UserRole.VIEWER)
    await join(database, other, "bob", UserRole.MEMBER)
    assert set(await titles(bob, "gearbox")) == {"gearbox of bob", "gearbox of the team", "gearbox of another team"}
    assert set(await titles(bob, "gaerbox")) == {"gearbox of bob", "gearbox of the team", "gearbox of another team"}
    assert await titles(bob, "und", first=3) == ["gearbox of another team", "gearbox of bob", "bearing"]
    assert await titles(bob, "gearbox", ownerId=team) == ["gearbox of the team"]
    await leave(database, team, "bob")
    assert set(await titles(bob, "gearbox")) == {"gearbox of bob", "gearbox of another team"}
    assert await titles(bob, "gearbox", ownerId=team) == []


async def test_templates_that_ship_are_not_found(admin: Client) -> None:
    assert await titles(admin, "classification") == []
    assert await titles(admin, "") == []


async def test_a_search_reads_the_things_of_each_type_at_once(
    ada: Client, database: Database, capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    await add(database, "models", "ada", {f"gear {number}": None for number in range(6)})
    await add(database, "pipelines", "ada", {f"gear {number}": None for number in range(6)})
    with capture_statements() as sent:
        found: dict[str, Any] = await search(ada, "gear")
    assert len(found["edges"]) == 12
    assert len(sent) == 4, "the words, the entries, the models and the pipelines"
    with capture_statements() as sent:
        await ada.one('{ search(query: "gear") { edges { title snippet } } }')
    assert len(sent) == 2
