"""Runs and versions of datasets and of models are deleted by themselves, and come back as they were."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.jobs import NewJob, submit
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.objects import PREFIXES
from db.tables import User
from db.tables.jobs import JobKind
from tests.client import Client
from tests.deletions.deleting import PURGE, delete, deleted, listed, restore
from tests.deletions.test_deleting import REMOVE_ALIAS, execute, first_of_each
from tests.endings import key_of
from tests.search.searching import titles
from tests.tracking.conftest import COMPLETE_FILE, LOG, PARAMETERS, REQUEST_FILE, create_run, finish, log, send_file
from tests.workers.worker_harness import run_maintenance

PARTS = """{ datasets { edges { node { currentVersion { id } version(number: 1) { id } versions { edges { node { id } } } } } }
  models { edges { node { latestVersion { id } versions { edges { node { id } } } } } }
  experiments { edges { node { runs { edges { node { id } } } bestRun(metric: "accuracy") { id } } } }
  runs { edges { node { id } } } byMetric: runs(orderBy: {by: {metric: "accuracy"}}) { edges { node { id } } }
  tags { edges { node { usageCount } } } }"""
EDGES = {
    "version": "{ runs { edges { node { datasetVersion { id deletedAt rawFile { id } preview } } } } }",
    "mversion": "{ runs { edges { node { modelVersion { id deletedAt artifacts { id } } } } } }",
    "run": "{ models { edges { node { latestVersion { run { id deletedAt } } } } } }",
}
NOT_IN_LISTS = {"version": "currentVersion version versions", "mversion": "latestVersion", "run": "runs"}


async def part_of_each(client: Client, database: Database) -> dict[str, str]:
    """Make one of each kind of which nothing keeps from being deleted; return the ids of the parts."""
    await first_of_each(client, database)
    answer = await client.execute(PARTS)
    (dataset,), (model,), (run,) = (answer[name]["edges"] for name in ("datasets", "models", "runs"))
    return {
        "version": dataset["node"]["currentVersion"]["id"],
        "mversion": model["node"]["latestVersion"]["id"],
        "run": run["node"]["id"],
    }


@pytest.mark.parametrize("kind", ["version", "mversion", "run"])
async def test_a_deleted_part_is_in_no_list_and_comes_back_whole(ada: Client, bob: Client, database: Database, kind: str) -> None:
    id_ = (await part_of_each(ada, database))[kind]
    await execute(database, "UPDATE runs SET name = 'Nightingale'")
    before, edge = await ada.execute(PARTS), await ada.execute(EDGES[kind])
    assert id_ in str(before)
    assert (await delete(bob, id_))["code"] == "NOT_FOUND"
    payload = await delete(ada, id_)
    assert payload["deletedId"] == id_
    after = await ada.execute(PARTS)
    assert id_ not in str(after)
    others = {"version": "datasets", "mversion": "models", "run": "experiments runs byMetric tags"}[kind].split()
    assert {name: after[name] for name in after if name not in others} == {name: before[name] for name in before if name not in others}
    assert await titles(ada, "nightingale") == ([] if kind == "run" else ["Nightingale"])
    assert await ada.execute("query($id: ID!) { node(id: $id) { id } }", id=id_) == {"node": None}
    assert f"'id': '{id_}'" in str(await ada.execute(EDGES[kind]))
    assert "'deletedAt': None" not in str(await ada.execute(EDGES[kind]))
    (record,) = await deleted(ada)
    names = {"version": "dataset 1 v1", "mversion": "model 1 v1", "run": "Nightingale"}
    assert (record["name"], record["subject"]) == (names[kind], {"id": id_})
    assert await restore(ada, id_) == {"name": names[kind], "isRenamed": False, "restored": {"id": id_}}
    assert (await ada.execute(PARTS), await ada.execute(EDGES[kind]), await deleted(ada)) == (before, edge, [])
    assert await titles(ada, "nightingale") == ["Nightingale"]


async def test_the_files_and_rows_of_a_deleted_version_are_not_served(ada: Client, database: Database) -> None:
    ids = await part_of_each(ada, database)
    answer = (await ada.one(EDGES["version"]))["edges"][0]["node"]["datasetVersion"]
    assert answer["rawFile"] is not None
    assert answer["preview"] != []
    for kind in ("version", "mversion"):
        await delete(ada, ids[kind])
    answer = (await ada.one(EDGES["version"]))["edges"][0]["node"]["datasetVersion"]
    assert (answer["rawFile"], answer["preview"]) == (None, [])
    assert (await ada.one(EDGES["mversion"]))["edges"][0]["node"]["modelVersion"]["artifacts"] == []


async def test_what_uses_a_part_keeps_it(ada: Client, database: Database) -> None:
    ids = await part_of_each(ada, database)
    before = await ada.execute(PARTS)
    owner = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    uses: dict[str, dict[str, Any]] = {
        "version": {"dataset_version_id": key_of(ids["version"])},
        "mversion": {"model_version_id": key_of(ids["mversion"])},
        "run": {},
    }
    for kind, use in uses.items():
        async with database.work(SYSTEM) as work:
            job = (await submit(work, NewJob(owner, JobKind.EXPORT, "nobody", **use))).id
            if kind == "run":
                await work.run(text("UPDATE runs SET job_id = :job").bindparams(job=job))
        blocked = await delete(ada, ids[kind])
        assert (blocked["reason"], blocked["ids"], blocked["count"]) == ("JOBS", [f"job_{job.hex}"], 1)
        await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=f"job_{job.hex}")
    alias = 'mutation($id: ID!) { setModelAlias(input: {modelVersionId: $id, name: "production"}) { __typename } }'
    await ada.one(alias, id=ids["mversion"])
    blocked = [await delete(ada, ids[kind]) for kind in ("mversion", "version")]
    assert [(each["reason"], each["ids"]) for each in blocked] == [("ALIASES", [ids["mversion"]]), ("PRODUCTION", [ids["mversion"]])]
    assert await ada.execute(PARTS) == before
    (model,) = (await ada.one("{ models { edges { node { id } } } }"))["edges"]
    await ada.one(REMOVE_ALIAS, id=model["node"]["id"])
    assert [(await delete(ada, id_))["deletedId"] for id_ in ids.values()] == list(ids.values())


async def test_a_part_of_something_deleted_waits_for_it(ada: Client, database: Database) -> None:
    ids = await part_of_each(ada, database)
    (experiment,) = (await ada.one("{ experiments { edges { node { id } } } }"))["edges"]
    parent = experiment["node"]["id"]
    await delete(ada, ids["run"])
    await delete(ada, parent)
    refused = await restore(ada, ids["run"])
    assert (refused["code"], refused["message"]) == (
        "WRONG_STATE",
        "The experiment of this run is deleted too. Restore the experiment first.",
    )
    await restore(ada, parent)
    runs = "{ runs { edges { node { id } } } tags { edges { node { usageCount } } } }"
    (tag,) = (await ada.execute(runs))["tags"]["edges"]
    assert (await ada.execute(runs))["runs"]["edges"] == [], "what was deleted before it stays deleted"
    await restore(ada, ids["run"])
    answer = await ada.execute(runs)
    assert answer["runs"]["edges"] == [{"node": {"id": ids["run"]}}]
    assert answer["tags"]["edges"] == [{"node": {"usageCount": tag["node"]["usageCount"] + 1}}]


async def test_nothing_begins_on_a_deleted_version(ada: Client, worker: object) -> None:
    csv = "a,b\n" + "".join(f"{row},{row % 7}\n" for row in range(20))
    version = await ada.ingest("d", csv)
    train = await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
    await delete(ada, version)
    assert (await ada.run_pipeline(train["pipeline"]["id"], version))["code"] == "NOT_FOUND"
    assert (await ada.create_export(version, "CSV"))["code"] == "NOT_FOUND"
    await restore(ada, version)
    assert "job" in await ada.run_pipeline(train["pipeline"]["id"], version)


async def test_a_deleted_external_run_takes_nothing_more(ada: Client, context: MaintenanceContext) -> None:
    run = await create_run(ada)
    await ada.one(COMPLETE_FILE, id=await send_file(ada, run, "a.txt", b"abc"))
    sent = await send_file(ada, run, "b.txt", b"abcd")
    (experiment,) = (await listed(ada))["experiments"]
    for id_ in (run, experiment):
        await delete(ada, id_)
        file = {"runId": run, "path": "c.txt", "sizeBytes": 1}
        answers = [
            await ada.one(LOG, run=run, points=[{"key": "loss", "step": 1, "value": 1.0}]),
            await ada.one(PARAMETERS, run=run, parameters={"lr": 1}),
            await finish(ada, run),
            await ada.one(REQUEST_FILE, input=file),
            await ada.one(COMPLETE_FILE, id=sent),
        ]
        assert [answer["__typename"] for answer in answers] == ["NotFound"] * len(answers)
        assert (await ada.one("{ viewer { storage { usedBytes pendingBytes } } }"))["storage"] == {"usedBytes": 3, "pendingBytes": 4}
        await restore(ada, id_)
    assert await log(ada, run, ("loss", 1, 1.0, None)) == 1
    await delete(ada, run)
    await ada.one(PURGE, id=run)
    result = await run_maintenance(context, "purge_deleted")
    assert result.error is None
    assert (await ada.one("{ viewer { storage { usedBytes pendingBytes } } }"))["storage"] == {"usedBytes": 0, "pendingBytes": 0}
    owner = (await context.database.rows(select(User.id).where(User.username == "ada")))[0].id
    assert [each.key for prefix in PREFIXES async for each in context.objects.list(f"{prefix}{owner}/")] == []
