"""The endings of mutations that delete and restore."""

from __future__ import annotations

from sqlalchemy import insert, select

from db.core.viewer import SYSTEM
from db.services.jobs import NewJob, submit
from db.tables import Run, User
from db.tables.jobs import JobKind
from tests.endings import CSV, UNKNOWN, Endings, World, endings_of, key_of
from tests.endings.models import model_in_production
from tests.endings.studies import CANCEL, LONG, create_of, inputs_of
from tests.studies.searching import ended

_EXPERIMENT = "mutation($name: String!) { createExperiment(input: {name: $name}) { ... on CreateExperimentPayload { experiment { id } } } }"
_REMOVE = 'mutation($id: ID!) { removeModelAlias(input: {modelId: $id, name: "production"}) { __typename } }'


@endings_of("deletePipeline")
async def delete_pipeline(world: World) -> Endings:
    nodes = (("data", "dataset", {}), ("scale", "scale", {}))
    pipeline, busy = [(await world.ada.create_pipeline(name, *nodes))["pipeline"]["id"] for name in ("p", "busy")]
    yield "DeletePipelinePayload", {"id": pipeline}
    yield "NotFound", {"id": pipeline}
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        await submit(work, NewJob(owner, JobKind.EXPORT, "nobody", pipeline_id=key_of(busy)))
    yield "Blocked", {"id": busy}


@endings_of("deleteModel")
async def delete_model(world: World) -> Endings:
    model = await model_in_production(world)
    await world.ada.one(_REMOVE, id=model)
    yield "DeleteModelPayload", {"id": model}
    yield "NotFound", {"id": model}
    yield "Blocked", {"id": await model_in_production(world, "n")}


@endings_of("deleteExperiment")
async def delete_experiment(world: World) -> Endings:
    experiment, busy = [(await world.ada.one(_EXPERIMENT, name=name))["experiment"]["id"] for name in ("e", "busy")]
    yield "DeleteExperimentPayload", {"id": experiment}
    yield "NotFound", {"id": experiment}
    job = key_of(await world.submit_job())
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        values = {"owner_id": owner, "experiment_id": key_of(busy), "number": 1, "seed": 0, "job_id": job}
        await work.run(insert(Run).values(values))
    yield "Blocked", {"id": busy}


@endings_of("deleteStudy")
async def delete_study(world: World) -> Endings:
    inputs = await inputs_of(world)
    study, going = await create_of(world, inputs), await create_of(world, inputs, name="t", **LONG)
    await ended(world.ada, study)
    yield "DeleteStudyPayload", {"id": study}
    yield "NotFound", {"id": study}
    yield "Blocked", {"id": going}
    await world.ada.one(CANCEL, id=going)


@endings_of("deleteDatasetVersion")
async def delete_dataset_version(world: World) -> Endings:
    version, busy = [await world.ada.ingest(name, CSV) for name in ("d", "busy")]
    yield "DeleteDatasetVersionPayload", {"id": version}
    yield "NotFound", {"id": version}
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        await submit(work, NewJob(owner, JobKind.EXPORT, "nobody", dataset_version_id=key_of(busy)))
    yield "Blocked", {"id": busy}


@endings_of("deleteModelVersion")
async def delete_model_version(world: World) -> Endings:
    model = await model_in_production(world)
    latest = "query($id: ID!) { model(id: $id) { latestVersion { id } } }"
    version = (await world.ada.one(latest, id=model))["latestVersion"]["id"]
    await world.ada.one(_REMOVE, id=model)
    yield "DeleteModelVersionPayload", {"id": version}
    yield "NotFound", {"id": version}
    other = await model_in_production(world, "n")
    yield "Blocked", {"id": (await world.ada.one(latest, id=other))["latestVersion"]["id"]}


@endings_of("deleteRun")
async def delete_run(world: World) -> Endings:
    experiment = (await world.ada.one(_EXPERIMENT, name="e"))["experiment"]["id"]
    job = key_of(await world.submit_job())
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        values = {"owner_id": owner, "experiment_id": key_of(experiment), "seed": 0}
        run = await work.scalar(insert(Run).values(number=1, **values).returning(Run.id))
        busy = await work.scalar(insert(Run).values(number=2, job_id=job, **values).returning(Run.id))
    yield "DeleteRunPayload", {"id": f"run_{run.hex}"}
    yield "NotFound", {"id": f"run_{run.hex}"}
    yield "Blocked", {"id": f"run_{busy.hex}"}


@endings_of("deleteMany")
async def delete_many(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    yield "DeleteManyPayload", {"ids": [dataset, f"model_{UNKNOWN}", f"user_{UNKNOWN}"]}
    yield "DeleteManyPayload", {"ids": [dataset]}
    yield "InvalidInput", {"ids": []}


@endings_of("restore")
async def restore(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    await world.ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dataset)
    yield "RestorePayload", {"id": dataset}
    yield "RestorePayload", {"id": dataset}
    yield "NotFound", {"id": f"dataset_{UNKNOWN}"}
    version = await world.ada.ingest("e", CSV)
    parent = await world.dataset_of(version)
    await world.ada.one("mutation($ids: [ID!]!) { deleteMany(input: {ids: $ids}) { __typename } }", ids=[version, parent])
    yield "WrongState", {"id": version}


@endings_of("purge")
async def purge(world: World) -> Endings:
    dataset, live = await world.ada.create_dataset("d"), await world.ada.create_dataset("live")
    await world.ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dataset)
    yield "PurgePayload", {"id": dataset}
    yield "PurgePayload", {"id": dataset}
    yield "WrongState", {"id": live}
    yield "NotFound", {"id": f"dataset_{UNKNOWN}"}
