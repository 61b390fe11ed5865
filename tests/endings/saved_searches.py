"""The endings of mutations on saved searches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select

from db.core.viewer import SYSTEM
from db.queries.saved_searches import MAX_SEARCHES
from db.tables import SavedSearch, User
from db.tables.search import SearchType
from tests.endings import UNKNOWN, Endings, World, endings_of

_SAVE = "mutation($input: SaveSearchInput!) { saveSearch(input: $input) { ... on SaveSearchPayload { savedSearch { id } } } }"


@endings_of("saveSearch")
async def save_search(world: World) -> Endings:
    request: dict[str, Any] = {"target": "RUN", "filter": {"status": ["FAILED"]}, "orderBy": {"by": {"metric": "loss"}}, "isPinned": True}
    yield "SaveSearchPayload", {"name": "s", **request}
    yield "NameTaken", {"name": "S", **request}
    yield "InvalidInput", {"name": "t", **request, "filter": {"state": "FAILED"}}
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        rows = [{"owner_id": owner, "name": f"s{number}", "target": SearchType.RUN} for number in range(1, MAX_SEARCHES)]
        await work.run(insert(SavedSearch).values(rows))
    yield "QuotaExceeded", {"name": "t", **request}


@endings_of("updateSavedSearch")
async def update_saved_search(world: World) -> Endings:
    search = await _saved(world, "s")
    await _saved(world, "other")
    yield "UpdateSavedSearchPayload", {"id": search, "name": "new", "filter": {"name": {"eq": "d"}}, "orderBy": None, "isPinned": True}
    yield "NotFound", {"id": f"savedsearch_{UNKNOWN}", "name": "new"}
    yield "NameTaken", {"id": search, "name": "Other"}
    yield "InvalidInput", {"id": search, "isPinned": None}


@endings_of("deleteSavedSearch")
async def delete_saved_search(world: World) -> Endings:
    yield "DeleteSavedSearchPayload", {"id": await _saved(world, "s")}
    yield "NotFound", {"id": f"savedsearch_{UNKNOWN}"}


@endings_of("useSavedSearch")
async def use_saved_search(world: World) -> Endings:
    yield "UseSavedSearchPayload", {"id": await _saved(world, "s")}
    yield "NotFound", {"id": f"savedsearch_{UNKNOWN}"}


async def _saved(world: World, name: str) -> str:
    return (await world.ada.one(_SAVE, input={"name": name, "target": "DATASET"}))["savedSearch"]["id"]
