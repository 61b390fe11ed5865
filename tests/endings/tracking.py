"""The endings of mutations on external runs."""

from __future__ import annotations

import hashlib

from sqlalchemy import update

from db.core.viewer import SYSTEM
from db.tables import ArtifactUpload, Run
from db.tables.experiments import RunSource
from tests.endings import UNKNOWN, Endings, World, endings_of, key_of
from tests.tracking.conftest import COMPLETE_FILE, REQUEST_FILE, create_run, send_file

LIGHTGBM_FILE = "tree\nversion=v4\nnum_class=1\nobjective=regression\nfeature_names=a\n\n"


@endings_of("createRun")
async def create(world: World) -> Endings:
    key = "endings"
    yield "CreateRunPayload", {"name": "a", "hyperparameters": {"a": 1}, "config": {}, "notes": "n", "tags": ["t"], "idempotencyKey": key}
    yield "Conflict", {"name": "b", "idempotencyKey": key}
    yield "NotFound", {"experimentId": f"experiment_{UNKNOWN}"}
    yield "NotFound", {"parentRunId": f"run_{UNKNOWN}"}
    yield "NotFound", {"datasetVersionId": f"version_{UNKNOWN}"}
    yield "InvalidInput", {"name": " "}


@endings_of("logMetrics")
async def log_metrics(world: World) -> Endings:
    run = await create_run(world.ada)
    point = {"key": "loss", "step": 1, "value": 0.5, "recordedAt": "2026-01-01T00:00:00Z"}
    yield "LogMetricsPayload", {"runId": run, "points": [point]}
    yield "NotFound", {"runId": f"run_{UNKNOWN}", "points": [point]}
    yield "InvalidInput", {"runId": run, "points": []}
    yield "WrongState", {"runId": await _of_a_job(world), "points": [point]}


@endings_of("logParameters")
async def log_parameters(world: World) -> Endings:
    run = await create_run(world.ada)
    yield "LogParametersPayload", {"runId": run, "parameters": {"alpha": 1}}
    yield "NotFound", {"runId": f"run_{UNKNOWN}", "parameters": {"alpha": 1}}
    yield "InvalidInput", {"runId": run, "parameters": {"alpha": 2}}
    yield "WrongState", {"runId": await _of_a_job(world), "parameters": {"alpha": 1}}


@endings_of("finishRun")
async def finish_run(world: World) -> Endings:
    run = await create_run(world.ada)
    yield "FinishRunPayload", {"runId": run, "status": "COMPLETED", "completedAt": "2100-01-01T00:00:00Z"}
    yield "NotFound", {"runId": f"run_{UNKNOWN}"}
    yield "InvalidInput", {"runId": run, "status": "PENDING"}
    yield "WrongState", {"runId": await _of_a_job(world)}


async def _of_a_job(world: World) -> str:
    run = await create_run(world.ada)
    async with world.database.work(SYSTEM) as work:
        await work.run(update(Run).where(Run.id == key_of(run)).values(source=RunSource.JOB))
    return run


@endings_of("logInputs")
async def log_inputs(world: World) -> Endings:
    run = await create_run(world.ada)
    inputs = [{"source": "s3://bucket/train.csv", "digest": "abc", "name": "train", "context": "training"}]
    yield "LogInputsPayload", {"runId": run, "inputs": inputs}
    yield "NotFound", {"runId": f"run_{UNKNOWN}", "inputs": inputs}
    yield "InvalidInput", {"runId": run, "inputs": [{"source": f"version_{UNKNOWN}"}]}
    yield "WrongState", {"runId": await _of_a_job(world), "inputs": inputs}


@endings_of("requestArtifactUpload")
async def request_file(world: World) -> Endings:
    file = {"runId": await create_run(world.ada), "path": "plots/loss.png", "sizeBytes": 3, "sha256": "0" * 64, "contentType": "image/png"}
    yield "RequestArtifactUploadPayload", file
    yield "NotFound", {**file, "runId": f"run_{UNKNOWN}"}
    yield "InvalidInput", {**file, "path": "../loss.png"}
    yield "WrongState", {**file, "runId": await _of_a_job(world)}
    world.set_quota(1)
    yield "QuotaExceeded", file
    world.set_quota(None)


@endings_of("completeArtifactUpload")
async def complete_file(world: World) -> Endings:
    run = await create_run(world.ada)
    yield "CompleteArtifactUploadPayload", {"uploadId": await send_file(world.ada, run, "a.txt", b"abc")}
    yield "NotFound", {"uploadId": f"artifactupload_{UNKNOWN}"}
    unsent = await world.ada.one(REQUEST_FILE, input={"runId": run, "path": "b.txt", "sizeBytes": 3})
    yield "WrongState", {"uploadId": unsent["uploadId"]}
    other = hashlib.sha256(b"other").hexdigest()
    yield "UploadMismatch", {"uploadId": await _as_if_announced(world, await send_file(world.ada, run, "c.txt", b"abc"), other)}
    late = await send_file(world.ada, run, "d.txt", b"abcd")
    world.set_quota(1)
    yield "QuotaExceeded", {"uploadId": late}
    world.set_quota(None)


async def _as_if_announced(world: World, upload: str, sha256: str) -> str:
    """The upload, as if another file had been announced: the store itself may refuse one that is not."""
    async with world.database.work(SYSTEM) as work:
        await work.run(update(ArtifactUpload).where(ArtifactUpload.id == key_of(upload)).values(sha256=sha256))
    return upload


@endings_of("registerModelVersion")
async def register(world: World) -> Endings:
    run = await create_run(world.ada)
    content = LIGHTGBM_FILE.encode()
    await world.ada.one(COMPLETE_FILE, id=await send_file(world.ada, run, "model.lgb", content))
    given = {"runId": run, "artifactPath": "model.lgb", "modelName": "registered"}
    yield (
        "RegisterModelVersionPayload",
        {**given, "framework": "lightgbm", "algorithm": "Booster", "target": "y", "label": "l", "description": "d"},
    )
    yield (
        "RegisterModelVersionPayload",
        {**given, "inputs": [{"name": "a"}], "hyperparameters": {}, "annotations": {"a": "b"}, "format": "LIGHTGBM"},
    )
    yield "Conflict", {**given, "problemType": "CLASSIFICATION", "classes": [0, 1]}
    yield "NotFound", {**given, "runId": f"run_{UNKNOWN}"}
    yield "NotFound", {**given, "modelName": None, "modelId": f"model_{UNKNOWN}"}
    yield "InvalidInput", {**given, "artifactPath": "absent"}
    yield "WrongState", {**given, "runId": await _of_a_job(world)}
    world.set_quota(1)
    yield "QuotaExceeded", given
    world.set_quota(None)
