"""The endings of predictions."""

from __future__ import annotations

from typing import Any

from tests.endings import BAD_KEY, CSV, UNKNOWN, Endings, World, endings_of


async def train_model(world: World) -> tuple[str, str]:
    """Train a model; return its version and the dataset version."""
    version = await world.ada.ingest("d", CSV)
    pipeline = await world.ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_linear_regression", {"target": "b"}))
    ended = await world.ada.wait((await world.ada.run_pipeline(pipeline["pipeline"]["id"], version))["job"]["id"])
    return ended["outputs"][0]["id"], version


@endings_of("predict")
async def predict(world: World) -> Endings:
    model, _ = await train_model(world)
    rows: dict[str, Any] = {"modelVersionId": model, "rows": [{"a": 1}]}
    yield "PredictPayload", {**rows, "idempotencyKey": "k"}
    yield "Conflict", {**rows, "rows": [{"a": 2}], "idempotencyKey": "k"}
    yield "NotFound", {**rows, "modelVersionId": f"mversion_{UNKNOWN}"}
    yield "InvalidInput", {**rows, "rows": [{"a": "one"}]}
    yield "InvalidInput", {**rows, "idempotencyKey": BAD_KEY}
    world.set_prices({"PREDICT": 10})
    yield "InsufficientCredits", rows


@endings_of("predictDataset")
async def predict_dataset(world: World) -> Endings:
    model, version = await train_model(world)
    request = {"modelVersionId": model, "datasetVersionId": version}
    output = await world.ada.create_dataset("output")
    yield "PredictDatasetPayload", {**request, "outputDatasetId": output, "idempotencyKey": "k"}
    yield "Conflict", {**request, "idempotencyKey": "k"}
    yield "NotFound", {**request, "datasetVersionId": f"version_{UNKNOWN}"}
    yield "NotFound", {**request, "outputDatasetId": f"dataset_{UNKNOWN}"}
    yield "InvalidInput", {**request, "datasetVersionId": await world.ada.ingest("other", b"c\n1\n2\n")}
    requested = await world.ada.request_upload(await world.dataset_of(version), "d.csv", CSV)
    yield "WrongState", {**request, "datasetVersionId": requested["upload"]["version"]["id"]}
    world.set_quota(1)
    yield "QuotaExceeded", request
    world.set_quota(None)
    world.set_prices({"PREDICT": 10})
    yield "InsufficientCredits", request
