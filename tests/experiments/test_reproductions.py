"""A completed run is made again, and a verdict tells whether the same came of it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text, update
from sqlalchemy.engine import Row

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.tables import Run
from db.tables.experiments import RunStatus
from tests.client import Client

CSV = "a,b,label\n" + "".join(f"{row},{row * 7 % 11},{'yes' if row % 3 else 'no'}\n" for row in range(90))
STEPS = (
    ("data", "dataset", {}),
    ("split", "split", {"test_fraction": 0.3, "validation_fraction": 0.2}),
    ("train", "train_lightgbm", {"target": "label", "n_estimators": 5}),
)
REPRODUCE = """mutation($input: ReproduceRunInput!) { reproduceRun(input: $input) { __typename
  ... on ReproduceRunPayload { job { id retryOf { id } } run { id number seed experiment { id } reproduction { isIdentical differences { name } original { id } } } }
  ... on WrongState { state } ... on Problem { code message } } }"""
VERDICT = """query($id: ID!) { run(id: $id) { modelVersion { number } reproduction { isIdentical run { id } original { id }
  differences { kind name original reproduced } } reproductions { totalCount edges { node { id } } } } }"""


async def trained(client: Client) -> dict[str, Any]:
    """Train a model; return the run and the job."""
    version = await client.ingest("d", CSV)
    pipeline = (await client.create_pipeline("p", *STEPS))["pipeline"]["id"]
    started = await client.run_pipeline(pipeline, version, seed=11)
    assert (await client.wait(started["job"]["id"]))["status"] == "COMPLETED"
    return started


async def test_a_run_that_is_made_again_is_identical_and_what_differs_is_named(
    ada: Client, bob: Client, worker: object, database: Database
) -> None:
    started = await trained(ada)
    original = started["run"]["id"]
    made = await ada.one(REPRODUCE, input={"id": original, "idempotencyKey": "once"})
    assert made["__typename"] == "ReproduceRunPayload", made
    job, run = made["job"], made["run"]
    assert (job["retryOf"], run["number"], run["seed"]) == ({"id": started["job"]["id"]}, 2, 11)
    assert run["reproduction"] == {"isIdentical": None, "differences": [], "original": {"id": original}}
    again = await ada.one(REPRODUCE, input={"id": original, "idempotencyKey": "once"})
    assert (again["job"]["id"], again["run"]["id"]) == (job["id"], run["id"])
    assert (await ada.wait(job["id"]))["status"] == "COMPLETED"

    told = await ada.one(VERDICT, id=run["id"])
    assert told["reproduction"] == {"isIdentical": True, "run": {"id": run["id"]}, "original": {"id": original}, "differences": []}
    assert (told["modelVersion"], told["reproductions"]["totalCount"]) == ({"number": 2}, 0)
    of_original = await ada.one(VERDICT, id=original)
    assert (of_original["modelVersion"], of_original["reproduction"]) == ({"number": 1}, None)
    assert of_original["reproductions"] == {"totalCount": 1, "edges": [{"node": {"id": run["id"]}}]}

    # What another machine or another release would have made differs.
    key = run["id"].partition("_")[2]
    metric = await one_row(database, f"SELECT key, last FROM run_metrics WHERE run_id = '{key}' AND key = 'accuracy'")
    await change(database, f"UPDATE run_metrics SET last = last - 1e-9 WHERE run_id = '{key}' AND key = 'accuracy'")
    await change(database, f"DELETE FROM run_metrics WHERE run_id = '{key}' AND key = 'validation_loss'")
    file = await one_row(
        database,
        f"""SELECT a.object_id, o.sha256 FROM artifacts a JOIN stored_objects o ON o.id = a.object_id
            JOIN model_versions v ON v.id = a.model_version_id WHERE v.run_id = '{key}' AND a.role = 'MODEL'""",
    )
    await change(
        database,
        f"""UPDATE artifacts a SET object_id = (SELECT o.id FROM stored_objects o WHERE o.sha256 <> '{file.sha256}' ORDER BY o.id LIMIT 1)
            FROM model_versions v WHERE v.id = a.model_version_id AND v.run_id = '{key}' AND a.role = 'MODEL'""",
    )
    told = (await ada.one(VERDICT, id=run["id"]))["reproduction"]
    assert told["isIdentical"] is False
    accuracy, loss, model = told["differences"]
    assert (accuracy["kind"], accuracy["name"]) == ("METRIC", metric.key)
    assert accuracy["original"] == accuracy["reproduced"] | {"last": metric.last}
    assert accuracy["reproduced"]["last"] == metric.last - 1e-9
    assert (loss["kind"], loss["name"], loss["reproduced"]) == ("METRIC", "validation_loss", None)
    assert (model["kind"], model["original"]) == ("FILE", file.sha256)
    assert model["reproduced"] != file.sha256

    # A stranger learns of nothing, and nothing is made.
    assert (await bob.one(REPRODUCE, input={"id": original}))["code"] == "NOT_FOUND"
    assert await bob.one(VERDICT, id=run["id"]) is None
    assert (await ada.one("{ runs { totalCount } }"))["totalCount"] == 2


@pytest.mark.exhaustive
async def test_only_a_completed_run_of_a_job_is_made_again(ada: Client, worker: object, database: Database) -> None:
    started = await trained(ada)
    run = started["run"]["id"]
    refused: dict[str, Any] = {}
    for values in ({"status": "FAILED"}, {"deleted_at": text("now()")}):
        await set_values(database, run, values)
        refused = await ada.one(REPRODUCE, input={"id": run})
        assert refused["code"] == ("WRONG_STATE" if "status" in values else "NOT_FOUND")
    await set_values(database, run, {"status": "COMPLETED", "deleted_at": None})
    create = "mutation($input: CreateRunInput!) { createRun(input: $input) { ... on CreateRunPayload { run { id } } ... on Problem { message } } }"
    external = (await ada.one(create, input={"experimentId": await experiment_of(ada, run)}))["run"]["id"]
    refused = await ada.one(REPRODUCE, input={"id": external})
    assert (refused["__typename"], refused["state"]) == ("WrongState", "RUNNING")
    assert "code elsewhere" in refused["message"]
    assert (await ada.one("{ jobs(filter: {kind: [TRAIN]}) { totalCount } }"))["totalCount"] == 1


async def experiment_of(client: Client, run: str) -> str:
    return (await client.one("query($id: ID!) { run(id: $id) { experiment { id } } }", id=run))["experiment"]["id"]


async def one_row(database: Database, sql: str) -> Row[Any]:
    (row,) = await database.rows(text(sql))
    return row


async def change(database: Database, sql: str) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(text(sql))


async def set_values(database: Database, run: str, values: dict[str, Any]) -> None:
    if "status" in values:
        values = values | {"status": RunStatus[values["status"]]}
    async with database.work(SYSTEM) as work:
        await work.run(update(Run).where(Run.id == run.partition("_")[2]).values(**values))
