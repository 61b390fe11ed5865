"""An archive of signals becomes a version with an item for each, which is also a table that models are trained on."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from PIL import Image

from tests.archives import csv_of, npy_of, vibration, wav_of, zip_of
from tests.client import Client, GraphQLErrors

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status format rowCount itemCount columns { name type } issues { code message }
  classLabels { label count } severityLevels { label count } splits { label count }
  signal { traces samples sampleRate unit details } items { totalCount } profile { rowCount } processedFile { downloadUrl } } } }"""
ITEMS = """query($id: ID!, $filter: ItemFilter, $order: ItemOrder, $first: Int, $after: String) { node(id: $id) { ... on DatasetVersion {
  items(filter: $filter, orderBy: $order, first: $first, after: $after) { totalCount pageInfo { endCursor hasNextPage } edges { node {
    id key label split severity sizeBytes sha256 contentType metadata features issues { code message } version { id }
    downloadUrl preview { id contentType downloadUrl } image { width }
    signal { samples sampleRate channels duration rms kurtosis skewness crestFactor peak dominantFrequency } } } } } } }"""


async def items(client: Client, version: str, **arguments: Any) -> list[dict[str, Any]]:
    node = await client.one(ITEMS, id=version, **arguments)
    return [edge["node"] for edge in node["items"]["edges"]]


async def keys(client: Client, version: str, **arguments: Any) -> list[str]:
    return [item["key"] for item in await items(client, version, **arguments)]


def bearings() -> dict[str, bytes]:
    """Class folders with splits, in three formats, beside what archives collect."""
    files = {"bearings/README.md": b"Bearings.", "__MACOSX/bearings/._1.csv": b"\0\5\26\7", "bearings/train/normal/.DS_Store": b"x"}
    for split, count in (("train", 8), ("test", 3)):
        for number in range(count):
            seed = len(files)
            files[f"bearings/{split}/normal/{number}.csv"] = csv_of(vibration(50, seed))
            files[f"bearings/{split}/fault/{number}.csv"] = csv_of(vibration(50, seed + 1_000, impacts=True))
    files["bearings/train/normal/loud.npy"] = npy_of(vibration(50, 501))
    files["bearings/train/normal/mono.wav"] = wav_of(vibration(50, 502) / 2)
    files["bearings/test/normal/copy.csv"] = files["bearings/train/normal/0.csv"]
    files["bearings/test/fault/broken.npy"] = files["bearings/train/normal/loud.npy"][:500]
    return files


@pytest.mark.exhaustive
async def test_an_archive_of_signals_is_a_list_of_items_and_a_table_to_train_on(ada: Client, bob: Client, worker: object) -> None:
    files = bearings()
    version = await ada.ingest("bearings", zip_of(files), "bearings.zip", modality="SIGNAL")
    found = await ada.one(VERSION, id=version)
    table = pl.read_parquet(httpx.get(found.pop("processedFile")["downloadUrl"], verify=False).content)
    columns = [
        "samples", "sample_rate", "duration", "rms", "kurtosis", "skewness", "crest_factor", "peak", "dominant_frequency",
        "envelope_frequency", "envelope_prominence", "envelope_band",
    ]  # fmt: skip
    assert found == {
        "status": "READY",
        "format": "ZIP",
        "rowCount": 25,
        "itemCount": 26,
        "columns": [
            {"name": "key", "type": "STRING"},
            *({"name": name, "type": "CATEGORY"} for name in ("label", "split")),
            *({"name": name, "type": "FLOAT"} for name in columns),
        ],
        "issues": [
            {
                "code": "CORRUPT_ITEM",
                "message": "'test/fault/broken.npy': The file is cut off: its header says 1000, and 372 bytes follow.",
            },
            {
                "code": "LEAKED_ITEMS",
                "message": "1 items have the same bytes as an item of another split, so that what is tested on was trained on; the first is"
                " 'test/normal/copy.csv', as 'train/normal/0.csv'.",
            },
        ],
        "classLabels": [{"label": "normal", "count": 14}, {"label": "fault", "count": 11}],
        "severityLevels": [],
        "splits": [{"label": "train", "count": 18}, {"label": "test", "count": 7}],
        "signal": {"traces": 25, "samples": 1_000, "sampleRate": None, "unit": None, "details": {"shortest": 1_000, "longest": 1_000}},
        "items": {"totalCount": 26},
        "profile": {"rowCount": 25},
    }
    assert table.columns == ["key", "label", "split", *columns]
    assert table.height == 25

    all_keys = await keys(ada, version, first=100)
    assert all_keys == sorted(name.removeprefix("bearings/") for name in files if not name.endswith((".md", ".DS_Store", "._1.csv")))
    (item,) = await items(ada, version, filter={"key": {"eq": "train/fault/1.csv"}})
    samples, content = vibration(50, 1_000 + 5, impacts=True), files["bearings/train/fault/1.csv"]
    rms, centred = np.sqrt((samples**2).mean()), samples - samples.mean()
    features = {
        "rms": rms,
        "kurtosis": (centred**4).mean() / samples.var() ** 2,
        "skewness": (centred**3).mean() / samples.std() ** 3,
        "crest_factor": np.abs(samples).max() / rms,
        "peak": np.abs(samples).max(),
        "dominant_frequency": 50,
    }
    camel = {"crest_factor": "crestFactor", "dominant_frequency": "dominantFrequency"}
    preview = item.pop("preview")
    assert preview["id"] == item.pop("id").replace("item_", "artifact_")
    small = await ada.http.get(preview["downloadUrl"])
    assert (small.headers["content-type"], preview["contentType"]) == ("image/webp", "image/webp")
    with Image.open(io.BytesIO(small.content)) as image:
        assert (image.format, image.size) == ("WEBP", (128, 64))
    assert item["features"].pop("envelope_frequency") == 10, "it has an impact every 100 samples"
    assert item["features"].pop("envelope_prominence") > 3
    assert 0 < item["features"].pop("envelope_band") < 500
    assert (await ada.http.get(item.pop("downloadUrl"))).content == content
    assert item == {
        "key": "train/fault/1.csv",
        "label": "fault",
        "split": "train",
        "severity": None,
        "sizeBytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "contentType": "text/csv",
        "metadata": {},
        "features": pytest.approx({"samples": 1_000, "sample_rate": 1_000, "duration": 1, **features}),
        "issues": [],
        "version": {"id": version},
        "image": None,
        "signal": pytest.approx(
            {
                "samples": 1_000,
                "sampleRate": 1_000,
                "channels": 1,
                "duration": 1,
                **{camel.get(name, name): value for name, value in features.items()},
            }
        ),
    }
    (broken,) = await items(ada, version, filter={"key": {"contains": "BROKEN"}})
    assert (broken["signal"], broken["features"], broken["preview"], [issue["code"] for issue in broken["issues"]]) == (
        None,
        {},
        None,
        ["CORRUPT_ITEM"],
    )
    assert await keys(ada, version, filter={"hasIssues": True}) == ["test/fault/broken.npy", "test/normal/copy.csv"]
    assert await keys(ada, version, filter={"label": ["FAULT"], "split": ["test"], "hasIssues": False}) == [
        f"test/fault/{n}.csv" for n in range(3)
    ]
    impulsive = await items(ada, version, filter={"features": [{"key": "kurtosis", "gte": 5}]}, order={"feature": "kurtosis"}, first=100)
    assert {item["label"] for item in impulsive} == {"fault"}
    assert len(impulsive) == 11
    kurtosis = [item["features"]["kurtosis"] for item in impulsive]
    assert kurtosis == sorted(kurtosis, reverse=True)
    by_rate = await items(ada, version, order={"feature": "dominant_frequency", "direction": "ASC"}, first=3)
    assert [item["features"].get("dominant_frequency") for item in by_rate] == [None, None, 50], "those without the feature are first"
    with pytest.raises(GraphQLErrors, match="know no feature 'loudness'"):
        await keys(ada, version, order={"feature": "loudness"})

    assert await bob.one("query($id: ID!) { node(id: $id) { id } }", id=(await items(ada, version))[0]["id"]) is None
    steps = [
        ("data", "dataset", {}),
        ("split", "split", {"strategy": "stratified", "test_fraction": 0.3}),
        ("train", "train_random_forest", {"target": "label", "exclude": ["key", "split"]}),
        ("evaluate", "evaluate", {}),
    ]
    pipeline = (await ada.create_pipeline("faults", *steps))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    assert {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"] >= 0.85


async def test_a_tabular_dataset_takes_no_tar_and_a_dataset_of_signals_no_other_files(ada: Client) -> None:
    for modality, filename, message in (
        ("TABULAR", "a.tar", "A file that ends in .tar is an archive, which cannot be read. Send the data as CSV,"),
        ("SIGNAL", "a.png", "A file that ends in .png is an image, which cannot be read. Send signals as CSV, NPY,"),
        ("SIGNAL", "a.7z", "A file that ends in .7z is an archive of another kind, which cannot be read. Send signals"),
        ("IMAGE", "a.wav", "A file that ends in .wav is a recording, which cannot be read. Send images as PNG,"),
    ):
        dataset = await ada.create_dataset(f"{modality} {filename}", modality=modality)
        refused = await ada.one(
            "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { ... on InvalidInput { issues { path message } } } }",
            input={"datasetId": dataset, "filename": filename, "sizeBytes": "10"},
        )
        assert [issue["path"] for issue in refused["issues"]] == [["filename"]]
        assert refused["issues"][0]["message"].startswith(message)
