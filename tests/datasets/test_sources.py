"""Versions are made of rows that a program sends, and of generated data."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from db.core.work import Database
from db.services.generators import GENERATORS
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import Job
from db.tables.datasets import Modality
from tests.client import Client
from tests.exhaustive import exhaustive

ROWS = [{"x": 1, "y": "a"}, {"x": 2.5, "z": None}, {"x": 3, "y": "b", "z": {"deep": [1]}}]
INGEST = """mutation($input: IngestRowsInput!) { ingestRows(input: $input) { __typename ... on Problem { code }
  ... on InvalidInput { issues { path } } ... on IngestRowsPayload { version { id number } job { id kind } } } }"""
GENERATE = """mutation($input: GenerateDatasetInput!) { generateDataset(input: $input) { __typename ... on Problem { code }
  ... on InvalidInput { issues { path message } } ... on GenerateDatasetPayload { version { id dataset { id } } job { id kind parameters } } } }"""
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { number label status source format sha256 rowCount originalFilename
  columns { name type } issues { code } preview(first: 3) rawFile { sizeBytes } producedBy { id }
  dataset { name source problemType targetColumn currentVersion { id } } } } }"""


async def read_version(client: Client, version: str) -> dict[str, Any]:
    return await client.one(VERSION, id=version)


async def test_rows_of_a_request_are_a_version_of_exactly_these_rows(ada: Client, worker: object) -> None:
    dataset = await ada.create_dataset("d")
    given = {"datasetId": dataset, "rows": ROWS, "label": "by hand", "idempotencyKey": "k"}
    first = await ada.one(INGEST, input=given)
    assert (first["version"]["number"], first["job"]["kind"]) == (1, "INGEST")
    assert await ada.one(INGEST, input=given) == first
    assert (await ada.one(INGEST, input={**given, "rows": ROWS[:2]}))["code"] == "CONFLICT"
    assert (await ada.wait(first["job"]["id"]))["status"] == "COMPLETED"
    version = await read_version(ada, first["version"]["id"])
    expected = {
        "label": "by hand",
        "status": "READY",
        "source": "API",
        "format": "JSONL",
        "rowCount": 3,
        "producedBy": {"id": first["job"]["id"]},
    }
    assert {name: version[name] for name in expected} == expected
    assert version["columns"] == [{"name": "x", "type": "FLOAT"}, {"name": "y", "type": "STRING"}, {"name": "z", "type": "JSON"}]
    assert [row["y"] for row in version["preview"]] == ["a", None, "b"]
    assert version["rawFile"]["sizeBytes"] == len(b'{"x":1,"y":"a"}\n{"x":2.5,"z":null}\n{"x":3,"y":"b","z":{"deep":[1]}}\n')


async def test_rows_that_cannot_be_leave_nothing(ada: Client, bob: Client, database: Database, settings: StateSettings) -> None:
    dataset = await ada.create_dataset("d")
    for rows, path in (([], ["rows"]), ([{"x": 1}, "text"], ["rows", "1"]), ([{}], ["rows", "0"])):
        refused = await ada.one(INGEST, input={"datasetId": dataset, "rows": rows})
        assert (refused["code"], refused["issues"]) == ("INVALID_INPUT", [{"path": path}])
    assert (await bob.one(INGEST, input={"datasetId": dataset, "rows": ROWS}))["code"] == "NOT_FOUND"
    assert await database.rows(select(Job.id)) == []
    async with ObjectStore.open(settings) as objects:
        owner = UUID((await ada.one("{ viewer { id } }"))["id"].removeprefix("user_"))
        assert [listed.key async for listed in objects.list(f"uploads/{owner}/")] == []


@pytest.mark.exhaustive
async def test_the_same_seed_generates_the_same_table(ada: Client, worker: object) -> None:
    asked = {"generator": "classification", "parameters": {"rows": 50, "features": 4, "classes": 3, "missing": 0.1}, "seed": 7}
    first = await ada.one(GENERATE, input={**asked, "name": "made"})
    dataset = first["version"]["dataset"]["id"]
    assert first["job"]["kind"] == "GENERATE"
    complete = {"rows": 50, "features": 4, "informative": 4, "classes": 3, "separation": 1.0, "flipped": 0.01, "missing": 0.1}
    assert first["job"]["parameters"] == {"generator": "classification", "parameters": complete, "seed": 7}
    again = await ada.one(GENERATE, input={**asked, "datasetId": dataset, "label": "again"})
    other = await ada.one(GENERATE, input={**asked, "datasetId": dataset, "seed": 8})
    for made in (first, again, other):
        assert (await ada.wait(made["job"]["id"]))["status"] == "COMPLETED"
    versions = [await read_version(ada, made["version"]["id"]) for made in (first, again, other)]
    assert versions[0]["sha256"] == versions[1]["sha256"] != versions[2]["sha256"]
    assert [(version["number"], version["label"], version["source"]) for version in versions] == [
        (1, None, "GENERATED"),
        (2, "again", "GENERATED"),
        (3, None, "GENERATED"),
    ]
    assert versions[0]["rowCount"] == 50
    assert [column["name"] for column in versions[0]["columns"]] == ["feature_1", "feature_2", "feature_3", "feature_4", "label"]
    made_dataset = {"name": "made", "source": "GENERATED", "problemType": "CLASSIFICATION", "targetColumn": "label"}
    assert {name: versions[0]["dataset"][name] for name in made_dataset} == made_dataset


TABLES = [key for key, generator in GENERATORS.items() if generator.modality is Modality.TABULAR and key != "classification"]


@pytest.mark.parametrize("generator", [exhaustive(key) if index else key for index, key in enumerate(TABLES)])
async def test_every_generator_of_tables_makes_one_with_its_defaults(ada: Client, worker: object, generator: str) -> None:
    made = await ada.one(GENERATE, input={"generator": generator, "name": "made"})
    assert (await ada.wait(made["job"]["id"]))["status"] == "COMPLETED"
    version = await read_version(ada, made["version"]["id"])
    target = {"regression": "target", "blobs": "group"}[generator]
    assert (version["status"], version["issues"], version["columns"][-1]["name"]) == ("READY", [], target)
    assert version["rowCount"] == made["job"]["parameters"]["parameters"]["rows"]


async def test_what_no_generator_takes_is_refused_with_its_place(ada: Client, database: Database) -> None:
    dataset = await ada.create_dataset("d")
    listed = await ada.one("{ datasetGenerators { key title description modality parameterSchema } }")
    assert [generator["key"] for generator in listed] == list(GENERATORS)
    faults: list[tuple[dict[str, Any], list[list[str]]]] = [
        ({"generator": "nothing"}, [["generator"]]),
        ({"name": "both"}, [["datasetId"]]),
        ({"seed": -1}, [["seed"]]),
        ({"parameters": {"rows": 5, "color": 1}}, [["parameters", "color"], ["parameters", "rows"]]),
        ({"parameters": {"rows": 1_000_000, "features": 200}}, [["parameters", "rows"]]),
        ({"parameters": {"informative": 11}}, [["parameters", "informative"]]),
        ({"parameters": {"informative": 2, "classes": 5}}, [["parameters", "classes"]]),
    ]
    for fields, paths in faults:
        refused = await ada.one(GENERATE, input={"generator": "classification", "datasetId": dataset, **fields})
        assert sorted(issue["path"] for issue in refused["issues"]) == paths, refused
    assert await database.rows(select(Job.id)) == []
