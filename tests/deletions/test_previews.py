"""A preview tells exactly what a deletion takes away, and all that keeps something from being deleted."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.jobs import NewJob, submit
from db.tables import User
from db.tables.jobs import JobKind
from tests.client import Client
from tests.deletions.deleting import delete, deleted, listed
from tests.deletions.test_deleting import REMOVE_ALIAS, execute
from tests.endings import key_of
from tests.exhaustive import few
from tests.factories import platform

PREVIEW = """query($id: ID!) { deletionPreview(id: $id) { subject { __typename id } counts bytes restorableUntil
  blockers { __typename code message ... on Blocked { reason ids count } } } }"""
PREFIXES = ("dataset", "version", "pipeline", "model", "mversion", "experiment", "run", "study")


async def all_nodes(client: Client, ids: list[str]) -> Counter[str]:
    """How many nodes of each type a look-up finds."""
    found: Counter[str] = Counter()
    for start in range(0, len(ids), 100):
        answer = await client.one("query($ids: [ID!]!) { nodes(ids: $ids) { __typename } }", ids=ids[start : start + 100])
        found.update(node["__typename"] for node in answer if node is not None)
    return found


@pytest.mark.parametrize("prefix", few(2, PREFIXES))
async def test_what_is_counted_is_what_no_look_up_finds_after_the_deletion(ada: Client, database: Database, prefix: str) -> None:
    await platform.fill(database, "ada", 3)
    await execute(database, "UPDATE stored_objects o SET reference_count = (SELECT count(*) FROM artifacts a WHERE a.object_id = o.id)")
    for model in (await listed(ada))["models"]:
        await ada.one(REMOVE_ALIAS, id=model)
    by_prefix = await platform.ids_by_prefix(database, "ada")
    ids = [id_ for of_prefix in by_prefix.values() for id_ in of_prefix]
    subject = by_prefix[prefix][0]
    before, preview = await all_nodes(ada, ids), await ada.one(PREVIEW, id=subject)
    assert await all_nodes(ada, ids) == before, "a preview changes nothing"
    assert (preview["subject"]["id"], preview["blockers"]) == (subject, [])
    payload = await delete(ada, subject)
    difference = timedelta(
        seconds=abs(
            (datetime.fromisoformat(preview["restorableUntil"]) - datetime.fromisoformat(payload["restorableUntil"])).total_seconds()
        )
    )
    assert difference < timedelta(minutes=5)
    assert preview["counts"] == dict(before - await all_nodes(ada, ids))
    (record,) = [each for each in await deleted(ada) if each["subject"]["id"] == subject]
    assert record["bytes"] == preview["bytes"]
    assert await ada.one(PREVIEW, id=subject) is None


async def test_all_reasons_are_told_at_once(ada: Client, bob: Client, admin: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    lists = await listed(ada)
    dataset, model = lists["datasets"][0], lists["models"][0]
    owner = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    async with database.work(SYSTEM) as work:
        job = (await submit(work, NewJob(owner, JobKind.EXPORT, "nobody", dataset_id=key_of(dataset)))).id
    preview = await ada.one(PREVIEW, id=dataset)
    reasons = [(blocker["__typename"], blocker["reason"], blocker["count"]) for blocker in preview["blockers"]]
    assert reasons == [("Blocked", "JOBS", 1), ("Blocked", "PRODUCTION", 1)]
    assert preview["blockers"][0]["ids"] == [f"job_{job.hex}"]
    refused = await delete(ada, dataset)
    assert refused["message"] == preview["blockers"][0]["message"]
    assert (await listed(ada), await deleted(ada)) == (lists, await deleted(ada))
    for id_ in (dataset, model, "model_" + "0" * 32, "user_" + owner.hex, "nonsense"):
        assert await bob.one(PREVIEW, id=id_) is None
    as_admin: Any = await admin.one(PREVIEW, id=dataset)
    assert {**as_admin, "restorableUntil": None} == {**preview, "restorableUntil": None}
