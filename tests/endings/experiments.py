"""The endings of mutations on experiments."""

from __future__ import annotations

from sqlalchemy import insert, select

from db.core.viewer import SYSTEM
from db.tables import Experiment, Run
from tests.endings import BAD_KEY, UNKNOWN, Endings, World, endings_of, key_of

CSV = "a,b\n" + "".join(f"{row},{row * 7 % 11}\n" for row in range(60))


@endings_of("createExperiment")
async def create_experiment(world: World) -> Endings:
    yield "CreateExperimentPayload", {"name": "e", "description": "x", "notes": "y"}
    yield "InvalidInput", {"name": "f", "ownerId": f"user_{UNKNOWN}"}
    yield "NameTaken", {"name": "E"}
    yield "InvalidInput", {"name": " "}


@endings_of("updateExperiment")
async def update_experiment(world: World) -> Endings:
    experiment, _ = await _experiments(world)
    yield "UpdateExperimentPayload", {"id": experiment, "name": "new", "description": "x", "notes": "y"}
    yield "NotFound", {"id": f"experiment_{UNKNOWN}", "name": "new"}
    yield "NameTaken", {"id": experiment, "name": "OTHER"}
    yield "InvalidInput", {"id": experiment, "name": None}


@endings_of("updateRun")
async def update_run(world: World) -> Endings:
    experiment, _ = await _experiments(world)
    run = await _run(world, experiment)
    yield "UpdateRunPayload", {"id": run, "name": "new", "notes": "y"}
    yield "NotFound", {"id": f"run_{UNKNOWN}", "name": "new"}
    yield "InvalidInput", {"id": run, "name": " "}


@endings_of("moveRuns")
async def move_runs(world: World) -> Endings:
    experiment, other = await _experiments(world)
    run = await _run(world, experiment)
    yield "MoveRunsPayload", {"ids": [run], "experimentId": other}
    yield "NotFound", {"ids": [f"run_{UNKNOWN}"], "experimentId": other}
    yield "InvalidInput", {"ids": [], "experimentId": other}


@endings_of("reproduceRun")
async def reproduce_run(world: World) -> Endings:
    version = await world.ada.ingest("d", CSV)
    pipeline = (await world.ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"})))[
        "pipeline"
    ]
    started = await world.ada.run_pipeline(pipeline["id"], version)
    assert (await world.ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    experiment, _ = await _experiments(world)
    other = await _run(world, experiment)
    yield "ReproduceRunPayload", {"id": started["run"]["id"], "idempotencyKey": "k"}
    yield "Conflict", {"id": other, "idempotencyKey": "k"}
    yield "NotFound", {"id": f"run_{UNKNOWN}"}
    yield "InvalidInput", {"id": other, "idempotencyKey": BAD_KEY}
    yield "WrongState", {"id": other}
    world.set_quota(1)
    yield "QuotaExceeded", {"id": started["run"]["id"]}
    world.set_quota(None)
    world.set_prices({"TRAIN": 10})
    yield "InsufficientCredits", {"id": started["run"]["id"]}


async def _experiments(world: World) -> tuple[str, str]:
    """Two experiments of Ada's; the second is named `other`."""
    create = "mutation($name: String!) { createExperiment(input: {name: $name}) { ... on CreateExperimentPayload { experiment { id } } } }"
    first, second = [(await world.ada.one(create, name=name))["experiment"]["id"] for name in ("e", "other")]
    return first, second


async def _run(world: World, experiment: str) -> str:
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(Experiment.owner_id).where(Experiment.id == key_of(experiment)))
        values = {"owner_id": owner, "experiment_id": key_of(experiment), "number": 1, "seed": 0}
        return f"run_{(await work.scalar(insert(Run).values(values).returning(Run.id))).hex}"
