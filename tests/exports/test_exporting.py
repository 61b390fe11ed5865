"""An export has a version's rows in another format: as files to download, for a time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow.parquet as pq
import pytest
from sqlalchemy import insert, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import jobs
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.exports import expire_exports
from db.services.maintenance.objects import remove_unreferenced
from db.settings import StateSettings, state_settings
from db.stores.objects import ObjectStore
from db.tables import Artifact, DatasetVersion, Export, Job, User
from db.tables.datasets import FileFormat
from db.tables.exports import ExportFormat
from db.tables.jobs import JobKind
from tests.archives import csv_of, image_of, recording_of, vibration, zip_of
from tests.client import EXPORT, Client
from tests.endings import key_of
from tests.lazy_module import LazyModule

RUNTIME: Any = LazyModule("onnxruntime")
CSV = 'n,text,when\n1,=1+1,2020-01-31\n2,"a ""b"", c",2021-02-28\n3,,2022-03-31\n'
ROWS = [
    {"n": 1, "text": "=1+1", "when": "2020-01-31"},
    {"n": 2, "text": 'a "b", c', "when": "2021-02-28"},
    {"n": 3, "text": None, "when": "2022-03-31"},
]
DELETE = "mutation($id: ID!) { deleteExport(input: {id: $id}) { __typename ... on DeleteExportPayload { deletedId } ... on WrongState { state } } }"
RETRY = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on RetryJobPayload { job { id } } ... on Problem { message } } }"
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"
LIST = "query($filter: ExportFilter) { exports(filter: $filter) { totalCount edges { node { id format } } } }"


async def storage(database: Database, client: Client) -> int:
    owner = key_of((await client.one("{ viewer { id } }"))["id"])
    (row,) = await database.rows(select(User.storage_bytes).where(User.id == owner))
    return row.storage_bytes


async def test_each_format_has_the_rows_and_a_description_with_checksums(
    ada: Client, bob: Client, database: Database, worker: object
) -> None:
    version = await ada.ingest("Käse & Wein", CSV)
    processed = await ada.one(
        "query($id: ID!) { node(id: $id) { ... on DatasetVersion { processedFile { sha256 sizeBytes } } } }", id=version
    )
    made = {
        export_format: (await ada.create_export(version, export_format, options))
        for export_format, options in {
            "CSV": {"delimiter": ";", "nullText": "NA", "columns": ["text", "n"]},
            "JSON": None,
            "JSONL": {"compression": "none"},
            "PARQUET": {},
        }.items()
    }
    exports: dict[str, dict[str, Any]] = {}
    contents: dict[str, bytes] = {}
    for export_format, created in made.items():
        assert (await ada.wait(created["job"]["id"]))["outputs"] == [{"__typename": "Export", "id": created["export"]["id"]}]
        exports[export_format] = export = await ada.one(EXPORT, id=created["export"]["id"])
        assert (export["status"], export["version"]) == ("COMPLETED", {"id": version})
        assert [file["role"] for file in export["files"]] == ["EXPORT", "CROISSANT"]
        data, description = export["files"]
        assert export["sizeBytes"] == data["sizeBytes"] + description["sizeBytes"]
        contents[export_format] = await ada.download(data)
        assert data["sha256"] == hashlib.sha256(contents[export_format]).hexdigest()
        document = json.loads(await ada.download(description))
        (listed,) = document["distribution"]
        assert (listed["contentUrl"], listed["sha256"]) == (data["filename"], data["sha256"])
        names = [field["name"] for records in document.get("recordSet", []) for field in records["field"]]
        assert names == ([] if export_format == "CSV" else ["n", "text", "when"]), "Croissant knows no CSV with semicolons"
    assert [export["files"][0]["filename"] for export in exports.values()] == [
        "K-se-Wein-v1.csv",
        "K-se-Wein-v1.json",
        "K-se-Wein-v1.jsonl",
        "K-se-Wein-v1.parquet",
    ]
    assert list(csv.reader(io.StringIO(contents["CSV"].decode()), delimiter=";")) == [
        ["text", "n"],
        ["'=1+1", "1"],
        ['a "b", c', "2"],
        ["NA", "3"],
    ]
    assert json.loads(contents["JSON"]) == ROWS
    assert [json.loads(line) for line in contents["JSONL"].splitlines()] == ROWS
    table = pq.read_table(io.BytesIO(contents["PARQUET"]))
    assert [row | {"when": row["when"].isoformat()} for row in table.to_pylist()] == ROWS

    # A Parquet file without other options is the version's own, which is stored once.
    assert exports["PARQUET"]["files"][0]["sha256"] == processed["processedFile"]["sha256"]
    before = await storage(database, ada)
    again = await ada.export(version, "CSV", {"columns": ["text", "n"], "nullText": "NA", "delimiter": ";", "header": None})
    assert [file["sha256"] for file in again["files"]] == [file["sha256"] for file in exports["CSV"]["files"]]
    assert await storage(database, ada) == before

    assert (await ada.one(LIST, filter={"format": ["CSV"]}))["totalCount"] == 2
    listed = await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { exports { edges { node { id } } } } } }", id=version)
    assert [edge["node"]["id"] for edge in listed["exports"]["edges"]] == [
        again["id"],
        *reversed([export["id"] for export in exports.values()]),
    ]
    lineage = await ada.one(
        "query($id: ID!) { lineage(id: $id, depth: 1, direction: UPSTREAM) { edges { source relation } } }", id=again["id"]
    )
    assert {"source": version, "relation": "EXPORTED_AS"} in lineage["edges"]

    assert await bob.one(EXPORT, id=again["id"]) is None
    assert await bob.one(LIST, filter={}) == {"totalCount": 0, "edges": []}
    assert await bob.one(DELETE, id=again["id"]) == {"__typename": "NotFound"}
    assert (await bob.create_export(version, "CSV"))["__typename"] == "NotFound"
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=await dataset_of(ada, version))
    assert (await ada.one(EXPORT, id=again["id"]))["files"] == []
    assert (await ada.create_export(version, "CSV"))["__typename"] == "NotFound"


@pytest.mark.exhaustive
async def test_a_body_writes_for_each_library_a_folder_and_an_archive_of_it(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV, targetColumn="text")
    created = [await ada.create_export(version, export_format) for export_format in ("HUGGINGFACE", "PYTORCH", "TENSORFLOW")]
    names: list[list[str]] = []
    for each in created:
        assert (await ada.wait(each["job"]["id"]))["status"] == "COMPLETED"
        files = (await ada.one(EXPORT, id=each["export"]["id"]))["files"]
        assert [file["role"] for file in files] == ["ARCHIVE", *["EXPORT"] * (len(files) - 2), "CROISSANT"]
        names.append([file["filename"] for file in files])
        with zipfile.ZipFile(io.BytesIO(await ada.download(files[0]))) as archive:
            hashes = sorted(hashlib.sha256(archive.read(info)).hexdigest() for info in archive.infolist())
        assert hashes == sorted(file["sha256"] for file in files[1:])
    assert names == [
        ["d-v1-huggingface.zip", "train-00000-of-00001.parquet", "README.md", "croissant.json"],
        ["d-v1-pytorch.zip", "train.safetensors", "columns.json", "load.py", "croissant.json"],
        ["d-v1-tensorflow.zip", "train-00000-of-00001.tfrecord", "columns.json", "load.py", "croissant.json"],
    ]
    assert created[0]["export"]["options"] == {"target": "text", "archive": True, "shardRows": 1_000_000}
    refused = await ada.create_export(version, "PYTORCH", {"columns": ["n"], "target": "text", "shardRows": 5})
    assert [issue["path"] for issue in refused["issues"]] == [["options", "shardRows"], ["options", "target"]]


async def test_an_exported_folder_of_a_table_is_the_same_table_when_it_is_uploaded(ada: Client, bob: Client, worker: object) -> None:
    rows = "".join(f"{i},{'rgb'[i % 3]},{['train', 'test', 'validation', ''][i % 4]},2020-01-{1 + i % 28:02}\n" for i in range(40))
    version = await ada.ingest("colours", f"n,colour,part,day\n{rows}", targetColumn="colour", problemType="CLASSIFICATION")
    export = await ada.export(version, "HUGGINGFACE", {"splitColumn": "part", "shardRows": 1_000})
    archive = next(file for file in export["files"] if file["role"] == "ARCHIVE")
    content = await ada.download(archive)
    again = await bob.ingest("colours again", content, archive["filename"])

    async def table(client: Client, of: str) -> tuple[Any, list[Any]]:
        query = (
            "query($id: ID!) { node(id: $id) { ... on DatasetVersion { format rowCount issues { code } columns { name type nullable } } } }"
        )
        files = (await client.export(of, "PARQUET"))["files"]
        content = await client.download(next(file for file in files if file["filename"].endswith(".parquet")))
        return await client.one(query, id=of), pq.read_table(io.BytesIO(content)).to_pylist()

    (shown, before), (shown_again, after) = await table(ada, version), await table(bob, again)
    order = ["train", "validation", "test", None]
    assert after == sorted(before, key=lambda row: order.index(row["part"]))
    assert len({row["n"] for row in after}) == 40
    assert shown_again == shown | {"format": "ZIP"}
    assert shown_again["issues"] == []


@pytest.mark.exhaustive
async def test_the_files_of_items_are_exported_where_the_format_has_them(ada: Client, database: Database, worker: object) -> None:
    keys = [f"{split}/{label}/{number}.png" for split in ("train", "test") for label in ("a", "bb") for number in range(2)]
    files = {key: image_of(np.full((2, 2), position, np.uint8)) for position, key in enumerate(keys)}
    version = await ada.ingest("shapes", zip_of(files), "shapes.zip", modality="IMAGE")
    export = await ada.export(version, "PYTORCH")
    assert export["options"] == {
        "target": "label",
        "splitColumn": "split",
        "archive": False,
        "contents": True,
        "shardBytes": 1_000_000_000,
    }
    names = ["train-00000.tar", "test-00000.tar", "items.parquet", "classes.json", "load.py", "croissant.json"]
    assert [file["filename"] for file in export["files"]] == names
    contents = [await ada.download(file) for file in export["files"]]
    assert [file["sha256"] for file in export["files"]] == [hashlib.sha256(content).hexdigest() for content in contents]
    with tarfile.open(fileobj=io.BytesIO(contents[1])) as archive:
        found = {info.name: archive.extractfile(info).read() for info in archive if info.name.endswith("png")}  # pyright: ignore[reportOptionalMemberAccess] - files
    assert found == {name: content for name, content in files.items() if name.startswith("test/")}
    # Equal files are stored once, those of the version's own table too.
    before = await storage(database, ada)
    again = await ada.export(version, "PYTORCH", {"contents": True})
    assert [file["sha256"] for file in again["files"]] == [file["sha256"] for file in export["files"]]
    assert await storage(database, ada) == before
    for export_format, options, expected in (
        ("HUGGINGFACE", {}, True),
        ("HUGGINGFACE", {"contents": False}, False),
        ("TENSORFLOW", {}, None),
    ):
        created = await ada.create_export(version, export_format, options)
        assert created["export"]["options"].get("contents") is expected

    table = await ada.ingest("d", CSV)
    for options, path, message in (
        ({"contents": True}, "contents", "The version has no items, only a table."),
        ({"shardBytes": 5_000_000}, "shardBytes", "This export has a table, whose files are cut by `shardRows`."),
        ({"shardBytes": 5}, "shardBytes", "This is an integer from 1,000,000"),
    ):
        refused = await ada.create_export(table, "HUGGINGFACE", options)
        assert [issue["path"] for issue in refused["issues"]][:1] == [["options", path]]
        assert refused["issues"][0]["message"].startswith(message)
    refused = await ada.create_export(version, "HUGGINGFACE", {"shardRows": 5_000})
    assert [issue["path"] for issue in refused["issues"]] == [["options", "shardRows"]]


@pytest.mark.exhaustive
@pytest.mark.timeout(300)
@pytest.mark.parametrize("modality", ["IMAGE", "AUDIO"])
async def test_exported_items_are_the_same_items_when_they_are_uploaded(ada: Client, bob: Client, worker: object, modality: str) -> None:
    """A folder for Hugging Face's `datasets` in one archive; and shards of WebDataset, each of which is an upload."""
    names = [
        f"{split}/{label}/{level}/{n}" for split in ("train", "test") for label in ("None", "3") for level in ("a", "b") for n in (0, 1)
    ]
    generator = np.random.default_rng(3)
    make: Any = {
        "IMAGE": lambda: image_of(generator.integers(0, 255, (9, 7, 3), dtype=np.uint8)),
        "AUDIO": lambda: recording_of(generator.uniform(-0.5, 0.5, 800), "FLAC", 8_000),
    }[modality]
    extension = {"IMAGE": "png", "AUDIO": "flac"}[modality]
    version = await ada.ingest("items", zip_of({f"{name}.{extension}": make() for name in names}), "items.zip", modality=modality)
    query = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { rowCount issues { code } classLabels { label count } splits { label count }
      severityLevels { label count } columns { name type } items(first: 100) { totalCount edges { node { key label split severity sizeBytes sha256
      contentType metadata features downloadUrl issues { code } image { width height channels perceptualHash } audio { duration codec } } } } } } }"""

    async def shown(client: Client, of: str) -> tuple[dict[str, Any], dict[str, Any]]:
        found = await client.one(query, id=of)
        for counts in ("classLabels", "splits", "severityLevels"):  # of equal counts, the first in the archive is first
            found[counts].sort(key=lambda entry: entry["label"])
        items: dict[str, Any] = {}
        for edge in found.pop("items")["edges"]:
            item = edge["node"]
            content = (await client.http.get(item.pop("downloadUrl"))).content
            assert item["sha256"] == hashlib.sha256(content).hexdigest()
            key = item.pop("key")
            items[item.pop("metadata").get("key", key)] = item
        return found, items

    about, before = await shown(ada, version)
    assert list(before) == sorted(f"{name}.{extension}" for name in names)
    assert (about["rowCount"], about["issues"], len(about["severityLevels"])) == (16, [], 2)
    folder = (await ada.export(version, "HUGGINGFACE", {"archive": True}))["files"][0]
    again = await bob.ingest("again", await ada.download(folder), folder["filename"], modality=modality)
    assert await shown(bob, again) == (about, before)

    shards = [file for file in (await ada.export(version, "PYTORCH"))["files"] if file["filename"].endswith(".tar")]
    assert [file["filename"] for file in shards] == ["train-00000.tar", "test-00000.tar"]
    for shard in shards:
        split = shard["filename"].partition("-")[0]
        again = await bob.ingest(split, await ada.download(shard), shard["filename"], modality=modality)
        part, items = await shown(bob, again)
        assert items == {key: item for key, item in before.items() if item["split"] == split}
        assert (part["splits"], part["issues"]) == ([{"label": split, "count": 8}], [])
        assert [column["name"] for column in part["columns"]] == [column["name"] for column in about["columns"]]


async def test_items_that_a_format_has_no_files_for_are_refused_before_a_job(ada: Client, database: Database, worker: object) -> None:
    two = {f"{number}.csv": csv_of(vibration(5, number, length=50)) for number in range(2)}
    signals = await ada.ingest("signals", zip_of(two), "s.zip", modality="SIGNAL")
    notes = {"data.csv": b"n,note\n1,a.txt\n2,b.txt\n", "a.txt": b"one", "b.txt": b"two"}
    mixed = await ada.ingest("mixed", zip_of(notes), "m.zip", modality="MULTIMODAL")
    before = (await ada.one(LIST, filter={}))["totalCount"]
    for version, export_format, message in (
        (
            signals,
            "HUGGINGFACE",
            "The libraries of HUGGINGFACE read no folder of SIGNAL items. Leave `contents` out to export their table, or choose PYTORCH.",
        ),
        (mixed, "PYTORCH", "The rows of a MULTIMODAL version name several items each"),
    ):
        refused = await ada.create_export(version, export_format, {"contents": True})
        assert (refused["__typename"], refused["code"]) == ("Unsupported", "UNSUPPORTED")
        assert refused["message"].startswith(message)
    async with database.work(SYSTEM) as work:
        await work.run(update(DatasetVersion).where(DatasetVersion.id == key_of(signals)).values(format=FileFormat.SEGY))
    refused = await ada.create_export(signals, "PYTORCH", {"contents": True})
    assert refused["message"].startswith("The items are gathers of one SEG-Y file")
    assert (await ada.one(LIST, filter={}))["totalCount"] == before
    created = await ada.create_export(signals, "HUGGINGFACE")
    assert created["export"]["options"]["contents"] is False
    assert (await ada.wait(created["job"]["id"]))["status"] == "COMPLETED"


@pytest.mark.exhaustive
async def test_a_model_is_exported_as_onnx_and_shown_beside_its_version(ada: Client, bob: Client, worker: object) -> None:
    rows = "".join(f"{i},{'rgb'[i % 3]},{'yes' if i % 3 else 'no'}\n" for i in range(60))
    version = await ada.ingest("d", f"n,colour,label\n{rows}", targetColumn="label", problemType="CLASSIFICATION")
    pipeline = await ada.create_pipeline(
        "p", ("data", "dataset", {}), ("encode", "one_hot_encode", {}), ("train", "train_logistic_regression", {})
    )
    trained = await ada.wait((await ada.run_pipeline(pipeline["pipeline"]["id"], version, modelName="a model"))["job"]["id"])
    model_version = trained["outputs"][0]["id"]
    created = await ada.create_export(None, "ONNX", modelVersionId=model_version)
    ended = await ada.wait(created["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    export = await ada.one(EXPORT, id=created["export"]["id"])
    assert (export["version"], export["options"]) == (None, {})
    assert [(file["role"], file["filename"]) for file in export["files"]] == [("EXPORT", "a-model-v1.onnx"), ("EXPORT", "signature.json")]
    content, signature = [await ada.download(file) for file in export["files"]]
    inputs = json.loads(signature)["inputs"]
    assert [(each["name"], each["type"], each["missing"]) for each in inputs] == [("n", "float", "NaN"), ("colour", "string", "(missing)")]
    feed = {"n": np.array([[1.0], [3.0]], np.float32), "colour": np.array([["g"], ["r"]], object)}
    assert RUNTIME.InferenceSession(content).run(["label"], feed)[0].tolist() == ["yes", "no"]
    of_model = "query($id: ID!) { node(id: $id) { ... on ModelVersion { exports { edges { node { id modelVersion { id } } } } } } }"
    (edge,) = (await ada.one(of_model, id=model_version))["exports"]["edges"]
    assert edge["node"] == {"id": export["id"], "modelVersion": {"id": model_version}}
    lineage = await ada.one("query($id: ID!) { lineage(id: $id, direction: UPSTREAM) { edges { source relation } } }", id=export["id"])
    assert {"source": model_version, "relation": "EXPORTED_AS"} in lineage["edges"]

    assert (await bob.create_export(None, "ONNX", modelVersionId=model_version))["__typename"] == "NotFound"
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("format", "CSV", {"modelVersionId": model_version}),
        ("format", "ONNX", {"datasetVersionId": version}),
        ("datasetVersionId", "CSV", {}),
        ("modelVersionId", "ONNX", {"datasetVersionId": version, "modelVersionId": model_version}),
    ]
    for path, export_format, fields in wrong:
        refused = await ada.create_export(None, export_format, **fields)
        assert [issue["path"] for issue in refused["issues"]] == [[path]]
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=await dataset_of(ada, version))
    refused = await ada.create_export(None, "ONNX", modelVersionId=model_version)
    assert (refused["__typename"], refused["code"]) == ("Unsupported", "UNSUPPORTED")
    assert "was trained on a dataset that is deleted" in refused["message"]


async def dataset_of(client: Client, version: str) -> str:
    answer = await client.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }", id=version)
    return answer["dataset"]["id"]


async def test_files_go_when_an_export_expires_or_is_deleted_and_no_longer_count(
    ada: Client, database: Database, worker: object, settings: StateSettings
) -> None:
    version = await ada.ingest("d", CSV)
    before = await storage(database, ada)
    kept, deleted, expired = [await ada.export(version, "CSV", {"header": header}) for header in (True, True, False)]
    assert kept["expiresAt"] is not None
    own_bytes = sum(file["sizeBytes"] for file in (*kept["files"], *expired["files"]))
    assert await storage(database, ada) == before + own_bytes

    async with database.work(SYSTEM) as work:
        await work.run(update(Export).where(Export.id == key_of(expired["id"])).values(expires_at=text("now() - interval '1 second'")))
    assert (await ada.one(EXPORT, id=expired["id"]))["files"] == []  # at once, before its objects are removed
    assert await ada.one("query($id: ID!) { node(id: $id) { id } }", id=expired["files"][0]["id"]) is None
    assert await ada.one(DELETE, id=deleted["id"]) == {"__typename": "DeleteExportPayload", "deletedId": deleted["id"]}
    assert await ada.one(DELETE, id=deleted["id"]) == {"__typename": "NotFound"}
    assert await ada.one(EXPORT, id=deleted["id"]) is None

    async with ObjectStore.open(settings) as objects:
        context = MaintenanceContext(database, objects, state_settings())
        await expire_exports(context)
        assert await expire_exports(context) == 0
        await remove_unreferenced(context)
    assert await ada.one(EXPORT, id=expired["id"]) == {
        **expired,
        "files": [],
        "expiresAt": (await ada.one(EXPORT, id=expired["id"]))["expiresAt"],
    }
    left = await database.rows(select(Artifact.export_id).where(Artifact.export_id.is_not(None)).distinct())
    assert [row.export_id for row in left] == [key_of(kept["id"])]
    assert await storage(database, ada) == before + sum(file["sizeBytes"] for file in kept["files"])
    assert (await ada.download(kept["files"][0])).decode().splitlines()[0] == "n,text,when"


@pytest.mark.exhaustive
async def test_an_export_follows_the_retry_of_its_job(ada: Client, database: Database, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    export_id, owner_id = uuid4(), key_of((await ada.one("{ viewer { id } }"))["id"])
    parameters = {"exportId": str(export_id), "format": "JSON", "options": {"nonFinite": "null", "compression": "none"}}
    async with database.work(SYSTEM) as work:  # in a queue that no worker serves
        job = (
            await jobs.submit(
                work, jobs.NewJob(owner_id, JobKind.EXPORT, "nobody", parameters=parameters, dataset_version_id=key_of(version))
            )
        ).id
        values = {"job_id": job, "dataset_version_id": key_of(version), "format": ExportFormat.JSON}
        await work.run(insert(Export).values(id=export_id, owner_id=owner_id, **values))
    export = f"export_{export_id.hex}"
    assert await ada.one(DELETE, id=export) == {"__typename": "WrongState", "state": "PENDING"}
    await ada.one(CANCEL, id=f"job_{job.hex}")
    assert (await ada.one(EXPORT, id=export))["status"] == "CANCELLED"
    retried = (await ada.one(RETRY, id=f"job_{job.hex}"))["job"]["id"]
    assert (await ada.one(EXPORT, id=export))["status"] == "PENDING"
    assert (await ada.one(RETRY, id=f"job_{job.hex}"))["__typename"] == "WrongState"  # the retry makes it
    async with database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == key_of(retried)).values(queue="default"))
    assert (await ada.wait(retried))["status"] == "COMPLETED"
    (data, _) = (await ada.one(EXPORT, id=export))["files"]
    assert json.loads(await ada.download(data)) == ROWS
    assert (await ada.one(RETRY, id=retried))["message"] == "The export is complete. Make another one with `createExport`."


OPTIONS: dict[str, Any] = {
    "options.delimitr: CSV has no option 'delimitr'. Did you mean 'delimiter'?": {"delimitr": ";"},
    'options.delimiter: A delimiter is one ASCII character that is no letter, digit, quote or line break, such as "," or ";".': {
        "delimiter": "ab"
    },
    "options.shardBytes: CSV has no option 'shardBytes'. Its options are: columns, delimiter, header, nullText, formulaGuard, compression.": {
        "shardBytes": 1
    },
    "options.columns: The version has no column 'texts'. Did you mean 'text'?": {"columns": ["texts"]},
    "options.columns: Each column can be named once.": {"columns": ["n", "n"]},
    "options.columns: This is a list of one or more names of columns.": {"columns": []},
    'options.compression: This is not one of "none", "gzip".': {"compression": "zip"},
    "options.header: This is true or false.": {"header": "yes"},
    "options.nullText: The text contains the delimiter, so it would be two cells. Choose another text or delimiter.": {
        "nullText": "n;a",
        "delimiter": ";",
    },
    "options.nullText: A spreadsheet takes this text for a formula. Choose another one, or set `formulaGuard` to false.": {
        "nullText": "=1+1"
    },
    "options.nullText: This is a text of at most 20 printable characters without quotes.": {"nullText": "\n"},
    "options: A JSON object is expected here, {…}.": [],
}


async def test_an_option_that_is_none_is_told_with_its_path(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    for message, options in OPTIONS.items():
        answer = await ada.create_export(version, "CSV", options)
        assert (answer["__typename"], answer["message"]) == ("InvalidInput", message)
    assert await ada.one(LIST, filter={}) == {"totalCount": 0, "edges": []}


@pytest.mark.exhaustive
async def test_the_export_of_the_readme_runs(ada: Client, worker: object) -> None:
    version = await ada.ingest("iris", Path("docs/iris.csv"))
    section = Path("README.md").read_text(encoding="utf-8").partition("## Exports\n")[2].partition("\n## ")[0]
    create, read, export_list = re.findall(r"```graphql\n(.+?)```", section, re.DOTALL)
    created = await ada.one(create, version=version)
    assert (await ada.wait(created["job"]["id"]))["status"] == "COMPLETED"
    (data, description) = (await ada.one(read, export=created["export"]["id"]))["files"]
    listed = await ada.one(export_list)
    assert (await ada.wait(listed["job"]["id"]))["status"] == "COMPLETED"
    assert (data["filename"], description["filename"]) == ("iris-v1.csv", "croissant.json")
    assert (await ada.download(data)).decode().splitlines()[0] == Path("docs/iris.csv").read_text(encoding="utf-8").splitlines()[0].replace(
        ",", ";"
    )
