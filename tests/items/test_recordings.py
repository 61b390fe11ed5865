"""An archive of recordings becomes a version with an item for each, on whose features models are trained."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.archives import recording_of, tone, zip_of
from tests.client import Client

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { format rowCount itemCount classLabels { label count } issues { code message }
  items(first: 100, orderBy: {feature: "dominant_frequency", direction: ASC}) { edges { node { key label contentType features downloadUrl
    preview { contentType filename downloadUrl } issues { code } signal { samples } image { width } audio { duration sampleRate channels codec } } } } } } }"""


@pytest.mark.exhaustive
async def test_an_archive_of_recordings_is_a_list_of_items_and_a_table_to_train_on(ada: Client, worker: object) -> None:
    generator = np.random.default_rng(5)
    files = {
        f"{label}/{number:02}.{name}": recording_of(tone(generator.uniform(low, high), number), name.upper())
        for label, low, high in (("low", 200, 900), ("high", 1_200, 3_500))
        for number, name in enumerate(["flac", "wav", "ogg"] * 5)
    }
    whole = recording_of(tone(440, 99, seconds=3, rate=16_000), "MP3", 16_000)
    files["low/whole.mp3"], files["low/cut.mp3"] = whole, whole[: len(whole) // 2]
    version = await ada.ingest("tones", zip_of(files), "tones.zip", modality="AUDIO")
    found = await ada.one(VERSION, id=version)
    nodes = {edge["node"]["key"]: edge["node"] for edge in found.pop("items")["edges"]}
    assert found == {
        "format": "ZIP",
        "rowCount": 31,
        "itemCount": 32,
        "classLabels": [{"label": "low", "count": 16}, {"label": "high", "count": 15}],
        "issues": [
            {
                "code": "CORRUPT_ITEM",
                "message": "'low/cut.mp3': The file is cut off: its header says 48,000 samples, and only the first of them can be decoded.",
            }
        ],
    }
    assert next(iter(nodes)) == "low/cut.mp3", "one without the feature is first"
    assert [node["label"] for node in nodes.values()] == ["low"] * 17 + ["high"] * 15
    cut, mp3 = nodes["low/cut.mp3"], nodes["low/whole.mp3"]
    assert (cut["audio"], cut["features"], cut["preview"], [issue["code"] for issue in cut["issues"]]) == (None, {}, None, ["CORRUPT_ITEM"])
    features = mp3.pop("features")
    assert features["dominant_frequency"] == pytest.approx(440, abs=8)
    assert len(features) == 29
    assert (await ada.http.get(mp3.pop("downloadUrl"))).content == whole
    preview = mp3.pop("preview")
    small = await ada.http.get(preview.pop("downloadUrl"))
    with Image.open(io.BytesIO(small.content)) as opened:
        assert (opened.format, opened.size) == ("WEBP", (128, 64))
    assert preview == {"contentType": "image/webp", "filename": "whole.webp"}
    assert mp3 == {
        "key": "low/whole.mp3",
        "label": "low",
        "contentType": "audio/mpeg",
        "issues": [],
        "signal": None,
        "image": None,
        "audio": {"duration": 3, "sampleRate": 16_000, "channels": 1, "codec": "MP3"},
    }
    assert {node["audio"]["codec"] for node in nodes.values() if node["audio"]} == {"FLAC", "PCM_16", "VORBIS", "MP3"}

    steps = [
        ("data", "dataset", {}),
        ("split", "split", {"strategy": "stratified", "test_fraction": 0.3}),
        ("train", "train_random_forest", {"target": "label", "exclude": ["key"]}),
        ("evaluate", "evaluate", {}),
    ]
    pipeline = (await ada.create_pipeline("tones", *steps))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    assert {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"] >= 0.9


async def test_a_single_recording_is_one_item_and_a_damaged_one_fails_its_ingest_alone(ada: Client, worker: object) -> None:
    content = recording_of(tone(440, 1))
    dataset = await ada.create_dataset("one", modality="AUDIO")
    _, job = await ada.upload(dataset, "cut.flac", content[: len(content) // 2])
    ended = await ada.wait(job)
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "CORRUPT_ITEMS")
    version = await ada.ingest("another", content, "one.flac", modality="AUDIO")
    found = await ada.one(VERSION, id=version)
    assert (found["format"], [edge["node"]["audio"] for edge in found["items"]["edges"]]) == (
        "FLAC",
        [{"duration": 0.5, "sampleRate": 8_000, "channels": 1, "codec": "FLAC"}],
    )
