"""A version that a pipeline joins is checked before the job, read by it, shown in the lineage, and kept from deletion."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import pipelines
from db.services.pipelines import joins
from graph.core.ids import decode, encode
from tests.client import Client

ORDERS = "city,amount\nUlm,1\nBonn,2\nUlm,3\nKiel,4\n"
CITIES = "place,people\nUlm,126000\nBonn,330000\n"
DELETE = """mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename ... on WrongState { state } } }"""


async def pipeline(ada: Client, version: str, *steps: tuple[str, str, dict[str, Any]], **parameters: Any) -> str:
    join = {"version": version, "on": ["city"], "other_on": ["place"], **parameters}
    created = await ada.create_pipeline(
        f"join {version[-6:]} {len(steps)} {sorted(parameters)}", ("data", "dataset", {}), ("join", "join_dataset", join), *steps
    )
    return str(created["pipeline"]["id"])


async def dataset_of(ada: Client, version: str) -> str:
    query = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }"
    return str((await ada.one(query, id=version))["dataset"]["id"])


async def test_a_joined_version_is_read_and_an_input_of_the_job(ada: Client, worker: object) -> None:
    orders, cities = await ada.ingest("orders", ORDERS), await ada.ingest("cities", CITIES)
    condition = {"column": "people", "operator": "greater_than", "value": 200_000}
    started = await ada.run_pipeline(await pipeline(ada, cities, ("large", "filter_rows", {"conditions": [condition]})), orders)
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    query = "query($id: ID!) { dataset(id: $id) { currentVersion { id preview } } }"
    written = (await ada.one(query, id=started["targetDataset"]["id"]))["currentVersion"]
    assert written["preview"] == [{"city": "Bonn", "amount": 2, "people": 330000}]
    lineage = await ada.one("query($id: ID!) { lineage(id: $id) { edges { source target relation } } }", id=written["id"])
    job = started["job"]["id"]
    assert {(edge["source"], edge["target"]) for edge in lineage["edges"] if edge["relation"] == "INPUT_OF"} == {
        (orders, job),
        (cities, job),
    }


@pytest.mark.exhaustive
async def test_a_joined_version_must_be_there_to_do_its_job_again(ada: Client, worker: object) -> None:
    orders, cities = await ada.ingest("orders", ORDERS), await ada.ingest("cities", CITIES)
    dataset = await dataset_of(ada, cities)
    started = await ada.run_pipeline(await pipeline(ada, cities), orders)
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    assert (await ada.one(DELETE, id=dataset))["__typename"] == "DeleteDatasetPayload"
    retry = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on Problem { message } } }"
    refused = await ada.one(retry, id=started["job"]["id"])
    assert refused == {"__typename": "WrongState", "message": "A dataset that this job works on was deleted, so it cannot be done again."}


@pytest.mark.exhaustive
async def test_what_cannot_be_joined_is_refused_before_the_job(
    ada: Client, bob: Client, worker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders, cities, foreign = await ada.ingest("orders", ORDERS), await ada.ingest("cities", CITIES), await bob.ingest("cities", CITIES)
    place = ["definition", "nodes", "1", "parameters"]
    unknown = [
        {
            "path": [*place, "version"],
            "message": "Node 'join' of the pipeline: There is no dataset version with this id. Name one of yours.",
        }
    ]
    for version in (foreign, "version_" + "0" * 32):
        refused = await ada.run_pipeline(await pipeline(ada, version, how="left" if version == foreign else "inner"), orders)
        assert (refused["__typename"], refused["issues"]) == ("InvalidInput", unknown)
    refused = await ada.run_pipeline(await pipeline(ada, cities, columns=["mayor"]), orders)
    assert refused["issues"] == [
        {"path": [*place, "columns", "0"], "message": "Node 'join' of the pipeline: The joined version has no column 'mayor'."}
    ]
    texts = await ada.run_pipeline(await pipeline(ada, orders, ("train", "train_k_means", {}), other_on=["city"], columns=["city"]), orders)
    assert [issue["message"][:72] for issue in texts["issues"]] == [
        f"Node 'train' of the pipeline: The column '{name}' is text which is not enco"[:72] for name in ("city", "city_2")
    ]
    monkeypatch.setattr(joins, "MAX_COLUMNS", 2)
    wide = await ada.run_pipeline(await pipeline(ada, cities, how="left"), orders)
    message = "Node 'join' of the pipeline: The table would have more than 2 columns. Name the ones to add in `columns`."
    assert wide["issues"] == [{"path": [*place, "version"], "message": message}]
    assert await ada.one("{ jobs(filter: {kind: [TRAIN, PROCESS]}) { totalCount } }") == {"totalCount": 0}


@pytest.mark.exhaustive
async def test_a_dataset_is_kept_from_deletion_while_a_job_that_joins_it_has_not_ended(
    ada: Client, database: Database, worker: object
) -> None:
    orders, cities = await ada.ingest("orders", ORDERS), await ada.ingest("cities", CITIES)
    request = pipelines.RunRequest(decode("pipeline", await pipeline(ada, cities)), decode("version", orders))
    dataset = await dataset_of(ada, cities)
    async with database.work(SYSTEM) as work:
        submitted = await pipelines.run(work, request)
        deleting = asyncio.create_task(ada.one(DELETE, id=dataset))
        async with asyncio.timeout(60):
            while not await database.rows(text("SELECT 1 FROM pg_locks WHERE NOT granted")):
                await asyncio.sleep(0.02)
        assert not deleting.done()
    assert await deleting == {"__typename": "WrongState", "state": "BUSY"}
    assert (await ada.wait(encode("job", submitted.job_id)))["status"] == "COMPLETED"
