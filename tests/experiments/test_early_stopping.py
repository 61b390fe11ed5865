"""A run tells the best step of its training, and has its files by path: the model, and its checkpoints by step."""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl
import pytest

from tests.client import Client
from tests.lazy_module import LazyModule

pytestmark = pytest.mark.exhaustive

DATASETS: Any = LazyModule("sklearn.datasets")
FILES = """query($id: ID!, $path: String, $first: Int, $after: String) { run(id: $id) { bestStep
  artifacts(path: $path, first: $first, after: $after) { totalCount pageInfo { endCursor hasNextPage }
  edges { node { id role path step filename sha256 sizeBytes downloadUrl } } }
  modelVersion { runs { totalCount edges { node { id } } } } } }"""


async def test_the_best_step_and_the_files_of_a_run_are_told_and_downloaded(ada: Client, bob: Client, worker: object) -> None:
    data = DATASETS.load_wine()
    frame = pl.DataFrame(data.data, schema=[f"x{number}" for number in range(13)]).with_columns(target=pl.Series(data.target.astype(str)))
    version = await ada.ingest("wine", frame.write_csv(), targetColumn="target")
    created = await ada.create_pipeline(
        "boosting",
        ("data", "dataset", {}),
        ("split", "split", {"validation_fraction": 0.2}),
        (
            "train",
            "train_gradient_boosting",
            {"n_estimators": 200, "early_stopping_rounds": 5, "checkpoint_every": 7, "learning_rate": 0.5},
        ),
    )
    before = (await ada.one("{ viewer { storage { usedBytes } } }"))["storage"]["usedBytes"]
    started = await ada.run_pipeline(created["pipeline"]["id"], version, seed=7)
    run = started["run"]["id"]
    assert (await ada.one("query($id: ID!) { run(id: $id) { bestStep } }", id=run)) == {"bestStep": None}
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"

    history = await ada.one(
        'query($id: ID!) { run(id: $id) { metricHistory(keys: ["validation_loss"]) { points { step value } } } }', id=run
    )
    (series,) = history["metricHistory"]
    losses = [point["value"] for point in series["points"]]
    found = await ada.one(FILES, id=run, path="checkpoints")
    best = found["bestStep"]
    assert best == losses.index(min(losses))
    assert len(losses) == best + 6
    files = [edge["node"] for edge in found["artifacts"]["edges"]]
    steps = sorted({best, *range(6, len(losses), 7)})
    assert [(file["path"], file["role"], file["step"]) for file in files] == [
        (f"checkpoints/step-{step:06}.skops", "CHECKPOINT", step) for step in steps
    ]
    for file in files:
        assert hashlib.sha256(await ada.download(file)).hexdigest() == file["sha256"]
    assert found["modelVersion"]["runs"] == {"totalCount": 1, "edges": [{"node": {"id": run}}]}

    everything = (await ada.one(FILES, id=run))["artifacts"]
    (model,) = (edge["node"] for edge in everything["edges"] if edge["node"]["path"] == "model.skops")
    (kept,) = (file for file in files if file["step"] == best)
    assert (model["role"], model["step"], model["sha256"]) == ("MODEL", None, kept["sha256"]), "the best checkpoint is the model"
    (only,) = (await ada.one(FILES, id=run, path="model.skops"))["artifacts"]["edges"]
    assert only["node"]["id"] == model["id"]
    assert (await ada.one(FILES, id=run, path="check%"))["artifacts"]["edges"] == []
    paths = [edge["node"]["path"] for edge in everything["edges"]]
    assert paths == sorted(paths)
    assert len(paths) == everything["totalCount"]
    page = await ada.one(FILES, id=run, first=2, after=(await ada.one(FILES, id=run, first=2))["artifacts"]["pageInfo"]["endCursor"])
    assert [edge["node"]["path"] for edge in page["artifacts"]["edges"]] == paths[2:4]
    used = (await ada.one("{ viewer { storage { usedBytes } } }"))["storage"]["usedBytes"] - before
    distinct = {edge["node"]["sha256"]: edge["node"]["sizeBytes"] for edge in everything["edges"]}
    assert used >= sum(distinct.values()) > sum(file["sizeBytes"] for file in files)
    assert await bob.one("query($id: ID!) { node(id: $id) { id } }", id=files[0]["id"]) is None
