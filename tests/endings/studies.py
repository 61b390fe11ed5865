"""The endings of mutations on studies and trials."""

from __future__ import annotations

from typing import Any

from tests.endings import BAD_KEY, CSV, UNKNOWN, Endings, World, endings_of
from tests.studies.searching import create, ended, trials

SPACE = [{"node": "train", "name": "alpha", "type": "DOUBLE", "low": 1.0, "high": 2.0, "step": 1.0}]
LONG = {"method": "RANDOM", "budget": {"maxTrials": 1_000, "maxParallel": 1}}
CANCEL = "mutation($id: ID!) { cancelStudy(input: {id: $id}) { __typename } }"


async def inputs_of(world: World) -> dict[str, Any]:
    version = await world.ada.ingest("d", CSV)
    pipeline = await world.ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
    return {
        "name": "s",
        "method": "GRID",
        "pipelineId": pipeline["pipeline"]["id"],
        "datasetVersionId": version,
        "objective": {"metric": "rmse"},
        "space": SPACE,
    }


async def create_of(world: World, inputs: dict[str, Any], **fields: Any) -> str:
    return (await create(world.ada, **{**inputs, **fields}))["study"]["id"]


@endings_of("createStudy")
async def create_study(world: World) -> Endings:
    study = await inputs_of(world)
    yield "CreateStudyPayload", {**study, "seed": 1, "reproducible": True, "budget": {"maxTrials": 5}, "idempotencyKey": "k"}
    yield "Conflict", {**study, "idempotencyKey": "k"}
    yield "NameTaken", study
    other = {**study, "name": "t"}
    yield "NotFound", {**other, "pipelineId": f"pipeline_{UNKNOWN}"}
    yield "NotFound", {**other, "experimentId": f"experiment_{UNKNOWN}"}
    yield "InvalidInput", {**other, "space": []}
    yield "InvalidInput", {**other, "idempotencyKey": BAD_KEY}
    requested = await world.ada.request_upload(await world.dataset_of(study["datasetVersionId"]), "d.csv", CSV)
    yield "WrongState", {**other, "datasetVersionId": requested["upload"]["version"]["id"]}
    world.set_quota(1)
    yield "QuotaExceeded", other
    world.set_quota(None)
    world.set_prices({"TRAIN": 10})
    yield "InsufficientCredits", other


@endings_of("pauseStudy")
async def pause_study(world: World) -> Endings:
    study = await create_of(world, await inputs_of(world), **LONG)
    yield "PauseStudyPayload", {"id": study}
    yield "NotFound", {"id": f"study_{UNKNOWN}"}
    await world.ada.one(CANCEL, id=study)
    yield "WrongState", {"id": study}


@endings_of("resumeStudy")
async def resume_study(world: World) -> Endings:
    study = await create_of(world, await inputs_of(world), **LONG)
    await world.ada.one("mutation($id: ID!) { pauseStudy(input: {id: $id}) { __typename } }", id=study)
    yield "ResumeStudyPayload", {"id": study}
    yield "NotFound", {"id": f"study_{UNKNOWN}"}
    await world.ada.one(CANCEL, id=study)
    yield "WrongState", {"id": study}


@endings_of("cancelStudy")
async def cancel_study(world: World) -> Endings:
    inputs = await inputs_of(world)
    study = await create_of(world, inputs, **LONG)
    yield "CancelStudyPayload", {"id": study}
    yield "NotFound", {"id": f"study_{UNKNOWN}"}
    assert (await ended(world.ada, study))["status"] == "CANCELLED"
    yield "CancelStudyPayload", {"id": study}
    other = await create_of(world, inputs, name="t")
    await ended(world.ada, other)
    yield "WrongState", {"id": other}


@endings_of("updateStudy")
async def update_study(world: World) -> Endings:
    study = await create_of(world, await inputs_of(world), **LONG)
    yield "UpdateStudyPayload", {"id": study, "budget": {"maxTrials": 2_000, "maxFailed": 1}}
    yield "NotFound", {"id": f"study_{UNKNOWN}", "budget": {}}
    yield "InvalidInput", {"id": study, "budget": {"maxParallel": 0}}
    await world.ada.one(CANCEL, id=study)
    yield "WrongState", {"id": study, "budget": {"maxParallel": 1}}


@endings_of("registerTrial")
async def register_trial(world: World) -> Endings:
    study = await ended(world.ada, await create_of(world, await inputs_of(world)))
    best = study["bestTrial"]["id"]
    yield "RegisterTrialPayload", {"id": best, "modelName": "best"}
    yield "WrongState", {"id": best}
    yield "NotFound", {"id": f"trial_{UNKNOWN}"}
    other = next(trial["id"] for trial in trials(study) if trial["id"] != best)
    yield "InvalidInput", {"id": other, "modelName": " "}
