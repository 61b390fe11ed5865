"""The endings of mutations on pipelines."""

from __future__ import annotations

from typing import Any

from tests.endings import BAD_KEY, CSV, UNKNOWN, Endings, World, endings_of

DEFINITION: dict[str, Any] = {
    "nodes": [{"key": "data", "step": "dataset", "parameters": {}}, {"key": "scale", "step": "scale", "parameters": {}}],
    "links": [{"source": "data", "target": "scale"}],
}


@endings_of("createPipeline")
async def create_pipeline(world: World) -> Endings:
    yield "CreatePipelinePayload", {"name": "p", "description": "x", "definition": DEFINITION}
    yield "InvalidInput", {"name": "q", "definition": DEFINITION, "ownerId": f"user_{UNKNOWN}"}
    yield "NameTaken", {"name": "P", "definition": DEFINITION}
    yield "InvalidInput", {"name": " ", "definition": DEFINITION}


async def _pipeline(world: World, name: str) -> str:
    return (await world.ada.create_pipeline(name, ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]


@endings_of("updatePipeline")
async def update_pipeline(world: World) -> Endings:
    pipeline = await _pipeline(world, "p")
    await _pipeline(world, "other")
    yield "UpdatePipelinePayload", {"id": pipeline, "expectedVersion": 1, "name": "q", "description": "x", "definition": DEFINITION}
    yield "NotFound", {"id": f"pipeline_{UNKNOWN}", "name": "q"}
    yield "NameTaken", {"id": pipeline, "name": "OTHER"}
    yield "InvalidInput", {"id": pipeline, "name": None}
    yield "Conflict", {"id": pipeline, "expectedVersion": 1, "name": "r"}
    yield "UpdatePipelinePayload", {"id": pipeline, "status": "ARCHIVED"}
    yield "WrongState", {"id": pipeline, "definition": DEFINITION}


@endings_of("copyPipeline")
async def copy_pipeline(world: World) -> Endings:
    pipeline = await _pipeline(world, "p")
    yield "CopyPipelinePayload", {"id": pipeline, "name": "copy", "idempotencyKey": "k"}
    yield "Conflict", {"id": pipeline, "name": "another", "idempotencyKey": "k"}
    yield "NotFound", {"id": f"pipeline_{UNKNOWN}"}
    yield "NameTaken", {"id": pipeline}
    yield "InvalidInput", {"id": pipeline, "name": " "}
    yield "InvalidInput", {"id": pipeline, "name": "q", "ownerId": f"user_{UNKNOWN}"}


@endings_of("runPipeline")
async def run_pipeline(world: World) -> Endings:
    version, pipeline = await world.ada.ingest("d", CSV), await _pipeline(world, "p")
    run: dict[str, Any] = {"pipelineId": pipeline, "datasetVersionId": version}
    options = {"seed": 1, "priority": 5, "timeoutSeconds": 60.0, "parameters": {"scale": {}}, "idempotencyKey": "k"}
    yield "RunPipelinePayload", {**run, **options, "outputDatasetId": await world.ada.create_dataset("output")}
    yield "Conflict", {**run, "idempotencyKey": "k"}
    yield "NotFound", {**run, "pipelineId": f"pipeline_{UNKNOWN}"}
    yield "InvalidInput", {**run, "priority": 0}
    yield "InvalidInput", {**run, "idempotencyKey": BAD_KEY}
    requested = await world.ada.request_upload(await world.dataset_of(version), "d.csv", CSV)
    yield "WrongState", {**run, "datasetVersionId": requested["upload"]["version"]["id"]}
    world.set_quota(1)
    yield "QuotaExceeded", run
    world.set_quota(None)
    world.set_prices({"PROCESS": 10})
    yield "InsufficientCredits", run
