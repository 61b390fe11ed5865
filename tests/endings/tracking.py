"""The endings of mutations on external runs."""

from __future__ import annotations

from sqlalchemy import update

from db.core.viewer import SYSTEM
from db.tables import Run
from db.tables.experiments import RunSource
from tests.endings import UNKNOWN, Endings, World, endings_of, key_of
from tests.tracking.conftest import create_run


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
