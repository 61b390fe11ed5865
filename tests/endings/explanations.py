"""The endings of mutations on explanations."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select

from db.core.viewer import SYSTEM
from db.tables import Explanation, Job
from db.tables.explanations import ExplanationMethod
from tests.endings import CSV, UNKNOWN, Endings, World, endings_of, key_of
from tests.endings.predictions import train_model


@endings_of("createExplanation")
async def create_explanation(world: World) -> Endings:
    model, version = await train_model(world)
    request: dict[str, Any] = {"modelVersionId": model, "method": "LINEAR"}
    yield "CreateExplanationPayload", {**request, "idempotencyKey": "k"}
    yield "Conflict", {**request, "seed": 2, "idempotencyKey": "k"}
    yield "NotFound", {**request, "datasetVersionId": f"version_{UNKNOWN}"}
    yield "NotFound", {**request, "itemId": f"item_{UNKNOWN}"}
    yield "InvalidInput", {**request, "features": ["c"]}
    yield "Unsupported", {**request, "method": "TREE_SHAP"}
    requested = await world.ada.request_upload(await world.dataset_of(version), "d.csv", CSV)
    yield "WrongState", {**request, "datasetVersionId": requested["upload"]["version"]["id"]}
    world.set_quota(1)
    yield "QuotaExceeded", request
    world.set_quota(None)
    world.set_prices({"EXPLAIN": 10})
    yield "InsufficientCredits", request


@endings_of("deleteExplanation")
async def delete_explanation(world: World) -> Endings:
    model, _ = await train_model(world)
    job = key_of(await world.submit_job())
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(Job.owner_id).where(Job.id == job))
        done = await work.scalar(select(Job.id).where(Job.owner_id == owner, Job.id != job).limit(1))
        values = {"owner_id": owner, "model_version_id": key_of(model), "method": ExplanationMethod.LINEAR}
        ids = [await work.scalar(insert(Explanation).values(job_id=each, **values).returning(Explanation.id)) for each in (done, job)]
    yield "DeleteExplanationPayload", {"id": f"explanation_{ids[0].hex}"}
    yield "NotFound", {"id": f"explanation_{UNKNOWN}"}
    yield "WrongState", {"id": f"explanation_{ids[1].hex}"}
