"""Generated vibration of bearings and seismic shots are versions with items, and faults are learned from the features of the items."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import numpy as np
import polars as pl
import pytest
import segyio
from sqlalchemy import select

from db.core.work import Database
from db.tables import Job
from tests.client import Client
from tests.exhaustive import exhaustive

GENERATE = """mutation($input: GenerateDatasetInput!) { generateDataset(input: $input) { __typename
  ... on InvalidInput { issues { path } } ... on GenerateDatasetPayload { version { id } job { id } } } }"""
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status format source sha256 rowCount itemCount originalFilename issues { code }
  classLabels { label count } severityLevels { label count } splits { label count } signal { traces samples sampleRate }
  dataset { modality problemType targetColumn } rawFile { downloadUrl } processedFile { downloadUrl } } } }"""
ITEMS = """query($id: ID!, $filter: ItemFilter) { node(id: $id) { ... on DatasetVersion { items(filter: $filter, first: 100) { edges { node {
  key label split severity metadata features signal { samples channels dominantFrequency } } } } } } }"""
SIZES = {"recordings": 8, "windows": 3, "samples": 4_096}
IMPACTS = {"outer": 3.585, "inner": 5.415, "ball": 4.714}
"""Impacts in a turn of the shaft, as the maker of the bearing 6205-2RS gives them: a ball's of 2.357 turns of its own, each of which meets both races."""


async def generated(client: Client, **asked: Any) -> str:
    made = await client.one(GENERATE, input={"name": "made", **asked})
    ended = await client.wait(made["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    return made["version"]["id"]


async def found_items(client: Client, version: str, **filter: Any) -> list[dict[str, Any]]:
    return [edge["node"] for edge in (await client.one(ITEMS, id=version, filter=filter))["items"]["edges"]]


async def accuracy(client: Client, version: str, *excluded: str) -> float:
    """That of a random forest, for recordings that it was not trained on."""
    steps = [
        ("data", "dataset", {}),
        ("split", "split", {"strategy": "group", "group_column": "group", "test_fraction": 0.3}),
        ("train", "train_random_forest", {"target": "label", "exclude": ["key", "split", "severity", *excluded]}),
        ("evaluate", "evaluate", {}),
    ]
    pipeline = (await client.create_pipeline(f"faults without {len(excluded)}", *steps))["pipeline"]["id"]
    started = await client.run_pipeline(pipeline, version, seed=3)
    ended = await client.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await client.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    return {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"]


@pytest.mark.exhaustive
async def test_faults_of_bearings_are_learned_in_as_much_noise_as_signal(ada: Client, worker: object) -> None:
    version = await generated(ada, generator="bearing_vibration", parameters={**SIZES, "snr_db": 0, "speed_variation": 0.05}, seed=5)
    found = await ada.one(VERSION, id=version)
    table = pl.read_parquet(httpx.get(found.pop("processedFile")["downloadUrl"], verify=False).content)
    assert found == {
        "rawFile": ANY,
        "sha256": ANY,
        "status": "READY",
        "format": "ZIP",
        "source": "GENERATED",
        "rowCount": 96,
        "itemCount": 96,
        "originalFilename": "bearing_vibration.zip",
        "issues": [],
        "classLabels": [{"label": label, "count": 24} for label in ("healthy", "inner", "outer", "ball")],
        # Of eight recordings of a class, three are of each of the first two levels.
        "severityLevels": [{"label": "level_1", "count": 27}, {"label": "level_2", "count": 27}, {"label": "level_3", "count": 18}],
        "splits": [{"label": "train", "count": 72}, {"label": "test", "count": 24}],
        "signal": {"traces": 96, "samples": 4_096, "sampleRate": 12_000},
        "dataset": {"modality": "SIGNAL", "problemType": "CLASSIFICATION", "targetColumn": "label"},
    }
    assert table.columns[:5] == ["key", "label", "split", "severity", "group"]
    assert table.group_by("group").agg(pl.len(), pl.col("split", "label", "severity").n_unique()).drop("group").unique().rows() == [
        (3, 1, 1, 1)
    ]
    (strong, *_) = strongest = await found_items(ada, version, label=["outer"], severity=["level_3"])
    assert len(strongest) == 6
    assert strong["key"].endswith(f"/outer/level_3/{strong['metadata']['recording']}-001.wav")
    shaft, fault = (float(strong["metadata"][name]) for name in ("shaft_frequency", "fault_frequency"))
    assert abs(shaft / (1_797 / 60) - 1) <= 0.05
    assert fault / shaft == pytest.approx(IMPACTS["outer"], abs=0.001)
    assert strong["features"]["envelope_frequency"] == pytest.approx(fault, abs=12_000 / 4_096)
    assert await accuracy(ada, version) >= 0.95


@pytest.mark.exhaustive
async def test_faults_are_told_by_the_envelope_and_not_by_other_features(ada: Client, worker: object) -> None:
    version = await generated(ada, generator="bearing_vibration", parameters={"recordings": 24, "windows": 4, "snr_db": 0}, seed=11)
    for label, impacts in IMPACTS.items():
        for item in await found_items(ada, version, label=[label], severity=["level_3"]):
            metadata = item["metadata"]
            assert float(metadata["fault_frequency"]) / float(metadata["shaft_frequency"]) == pytest.approx(impacts, abs=0.001)
    assert await accuracy(ada, version) >= 0.95
    assert await accuracy(ada, version, "envelope_frequency", "envelope_prominence", "envelope_band") < 0.8


async def test_seismic_shots_have_reflections_on_hyperbolas(ada: Client, worker: object, tmp_path: Path) -> None:
    parameters = {"shots": 3, "traces": 40, "samples": 400, "events": 1, "snr_db": 60, "velocity": 4_000}
    version = await generated(ada, generator="seismic_shots", parameters=parameters, seed=4)
    found = await ada.one(VERSION, id=version)
    expected = {
        "status": "READY",
        "format": "SEGY",
        "source": "GENERATED",
        "rowCount": 3,
        "itemCount": 3,
        "originalFilename": "seismic_shots.sgy",
        "issues": [],
        "signal": {"traces": 120, "samples": 400, "sampleRate": 250},
        "dataset": {"modality": "SIGNAL", "problemType": None, "targetColumn": None},
    }
    assert {name: found[name] for name in expected} == expected
    items = await found_items(ada, version)
    assert [(item["key"], item["signal"]["channels"]) for item in items] == [("shot/1", 40), ("shot/2", 40), ("shot/3", 40)]
    assert [item["signal"]["dominantFrequency"] for item in items] == pytest.approx([25] * 3, rel=0.2)

    path = tmp_path / "shots.sgy"
    path.write_bytes(httpx.get(found["rawFile"]["downloadUrl"], verify=False).content)
    opened: Any = segyio.open(path, strict=False)  # Any: its types say that a text header is a generator
    with opened as file:
        assert file.text[0].startswith(b"C 1 SYNTHETIC SHOTS")
        shots = [int(number) for number in file.attributes(segyio.TraceField.FieldRecord)[:]]
        offsets = np.asarray(file.attributes(segyio.TraceField.offset)[:40], dtype=float)
        values = np.abs(segyio.tools.collect(file.trace[:40]))
    assert shots == [1] * 40 + [2] * 40 + [3] * 40
    assert offsets.tolist() == [25.0 * number for number in range(1, 41)]
    times = np.arange(400) * 0.004
    # The squares of the times of arrival lie on a line over those of the offsets, of slope 1/v², once the direct wave is left out.
    values[np.abs(times - offsets[:, None] / 1_500) < 0.06] = 0
    clear = np.abs(times[values.argmax(axis=1)] - offsets / 1_500) > 0.1
    slope, zero = np.polyfit(offsets[clear] ** 2, times[values.argmax(axis=1)][clear] ** 2, 1)
    velocity = 4_000 * (1 + 0.5 * np.sqrt(zero) / 1.6)
    assert 1 / np.sqrt(slope) == pytest.approx(velocity, rel=0.05)


@pytest.mark.parametrize("generator", [exhaustive("bearing_vibration"), exhaustive("seismic_shots")])
async def test_the_same_seed_generates_the_same_signals(ada: Client, worker: object, generator: str) -> None:
    versions = [await generated(ada, name=f"made {number}", generator=generator, seed=seed) for number, seed in enumerate((1, 1, 2))]
    digests = [(await ada.one(VERSION, id=version))["sha256"] for version in versions]
    assert digests[0] == digests[1] != digests[2]


async def test_signals_that_cannot_be_are_refused_with_the_parameter(ada: Client, database: Database) -> None:
    for generator, parameters, refused in (
        ("bearing_vibration", {"recordings": 5_000, "windows": 1_000}, ["recordings", "samples"]),
        ("bearing_vibration", {"severities": 4, "recordings": 3}, ["severities"]),
        ("bearing_vibration", {"balls": 16}, ["balls"]),
        ("bearing_vibration", {"sampling_rate": 6_000}, ["resonance"]),
        ("bearing_vibration", {"damping": 0}, ["damping"]),
        ("seismic_shots", {"shots": 1_000, "traces": 2_000}, ["samples"]),
        ("seismic_shots", {"interval": 10, "frequency": 30}, ["frequency"]),
    ):
        answer = await ada.one(GENERATE, input={"name": "none", "generator": generator, "parameters": parameters})
        assert sorted(issue["path"] for issue in answer["issues"]) == [["parameters", name] for name in refused]
    made = await ada.create_dataset("table")
    answer = await ada.one(GENERATE, input={"datasetId": made, "generator": "seismic_shots"})
    assert [issue["path"] for issue in answer["issues"]] == [["datasetId"]]
    assert await database.rows(select(Job.id)) == []
