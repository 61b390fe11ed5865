"""A pipeline writes a version with items: seismic gathers whose missing traces were reconstructed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import segyio
from PIL import Image

from tests.client import Client
from tests.datasets.test_generated_signals import generated
from workers.ml.signal_processing.quality import quality

VERSION = """query($id: ID!) { dataset(id: $id) { modality source currentVersion { id status source format rowCount itemCount originalFilename sizeBytes
  issues { code } columns { name } preview producedBy { id } signal { traces samples sampleRate } rawFile { downloadUrl filename contentType }
  items(first: 10) { edges { node { key features downloadUrl preview { downloadUrl } signal { channels rms } } } } } } }"""
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("data", "dataset", {}),
    ("kill", "kill_traces", {"share": 0.5, "seed": 1}),
    ("fill", "reconstruct_traces", {}),
    ("write", "write_signals", {}),
]


def _traces(url: str, folder: Path) -> Any:
    path = folder / "gathers.sgy"
    path.write_bytes(httpx.get(url, verify=False).content)
    opened: Any = segyio.open(path, strict=False)
    with opened as file:
        return np.array(file.trace.raw[:], dtype=np.float64), file.attributes(segyio.TraceField.FieldRecord)[:].tolist()


@pytest.mark.exhaustive
async def test_half_of_the_traces_are_reconstructed_and_written_as_items(ada: Client, bob: Client, worker: object, tmp_path: Path) -> None:
    parameters = {"shots": 2, "traces": 48, "samples": 250, "trace_spacing": 10, "snr_db": 10}
    version = await generated(ada, generator="seismic_shots", parameters=parameters, seed=4)
    raw = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { rawFile { downloadUrl } items { edges { node { features preview { id } } } } } } }"
    before = await ada.one(raw, id=version)
    pipeline = (await ada.create_pipeline("reconstruct", *STEPS, modality="SIGNAL"))["pipeline"]
    assert pipeline["status"] == "VALIDATED"
    started = await ada.run_pipeline(pipeline["id"], version)
    assert (started["job"]["kind"], started["targetDataset"]["name"]) == ("PROCESS", "made – reconstruct")
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    output = next(node["output"] for node in ended["nodes"] if node["key"] == "write")

    dataset = await ada.one(VERSION, id=started["targetDataset"]["id"])
    current = dataset.pop("currentVersion")
    assert dataset == {"modality": "SIGNAL", "source": "DERIVED"}
    items = [edge["node"] for edge in current.pop("items")["edges"]]
    file = current.pop("rawFile")
    written, shots = _traces(file.pop("downloadUrl"), tmp_path)
    truth, _ = _traces(before["rawFile"]["downloadUrl"], tmp_path)
    missing = (written != truth).any(axis=1)
    assert [int(missing[:48].sum()), int(missing[48:].sum())] == [24, 24]
    assert missing[:48].tolist() != missing[48:].tolist()
    assert shots == [1] * 48 + [2] * 48
    found = quality(truth[missing], written[missing])
    assert output == {
        "items": 2,
        "bytes": 3_600 + 96 * 1_240,
        "held_back_traces": 48,
        **{k: pytest.approx(v, rel=1e-3) for k, v in found.items()},
    }
    assert output["snr"] >= 6, "zeros in their place are 0 dB"

    assert file == {"filename": "gathers.sgy", "contentType": "application/x-segy"}
    columns = [column["name"] for column in current.pop("columns")]
    assert columns[:3] == ["key", "traces", "samples"]
    assert columns[-4:] == ["held_back_traces", "snr", "psnr", "mse"]
    assert [row["snr"] for row in current.pop("preview")] == [item["features"]["snr"] for item in items]
    del current["id"]
    assert current == {
        "status": "READY",
        "source": "DERIVED",
        "format": "SEGY",
        "rowCount": 2,
        "itemCount": 2,
        "originalFilename": "gathers.sgy",
        "sizeBytes": 3_600 + 96 * 1_240,
        "issues": [],
        "producedBy": {"id": started["job"]["id"]},
        "signal": {"traces": 96, "samples": 250, "sampleRate": 250},
    }
    for number, item in enumerate(items):
        rows = slice(48 * number, 48 * number + 48)
        assert (item["key"], item["signal"]["channels"]) == (f"shot/{number + 1}", 48)
        assert item["signal"]["rms"] == pytest.approx(np.sqrt((written[rows] ** 2).mean()))
        part = quality(truth[rows][missing[rows]], written[rows][missing[rows]])
        assert {name: item["features"][name] for name in part} == pytest.approx(part, rel=1e-3)
        content = (await ada.http.get(item["downloadUrl"])).content
        values = np.frombuffer(content, np.uint8).reshape(48, 1_240)[:, 240:]
        assert np.ascontiguousarray(values).view(">f4").tolist() == written[rows].tolist()
        with Image.open(io.BytesIO((await ada.http.get(item["preview"]["downloadUrl"])).content)) as image:
            assert (image.format, image.size) == ("WEBP", (128, 128))
    assert (await ada.one(raw, id=version))["items"] == before["items"]
    assert await bob.one("query($id: ID!) { dataset(id: $id) { id } }", id=started["targetDataset"]["id"]) is None


async def test_items_are_written_to_a_dataset_of_their_kind_and_as_the_last_step(ada: Client, worker: object) -> None:
    version = await generated(ada, generator="seismic_shots", parameters={"shots": 2, "traces": 4, "samples": 50}, seed=4)
    pipeline = (await ada.create_pipeline("reconstruct", *STEPS, modality="SIGNAL"))["pipeline"]["id"]
    table = await ada.create_dataset("table", modality="TABULAR")
    refused = await ada.run_pipeline(pipeline, version, outputDatasetId=table)
    assert refused["issues"] == [
        {
            "path": ["outputDatasetId"],
            "message": "The pipeline writes SIGNAL items, and the output dataset holds TABULAR data. Choose another, or none.",
        }
    ]
    useless = await ada.create_pipeline("useless", *STEPS, ("features", "signal_features", {}), modality="SIGNAL")
    assert useless["pipeline"]["status"] == "DRAFT"
    refused = await ada.run_pipeline(useless["pipeline"]["id"], version)
    assert refused["issues"][0]["path"] == ["definition", "nodes", "4"]
    assert "'write' writes items, whose table is read anew, so 'features' would have no effect." in refused["issues"][0]["message"]
    assert await ada.one("{ jobs(filter: {kind: [PROCESS]}) { totalCount } }") == {"totalCount": 0}
