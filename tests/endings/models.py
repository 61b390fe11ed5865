"""The endings of mutations on models."""

from __future__ import annotations

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.viewer import SYSTEM
from db.tables import Model, ModelAliasEvent, ModelVersion, User
from tests.endings import CSV, UNKNOWN, Endings, World, endings_of


@endings_of("setModelAlias")
async def set_model_alias(world: World) -> Endings:
    version = await world.ada.ingest("d", CSV)
    pipeline = await world.ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_linear_regression", {"target": "b"}))
    ended = await world.ada.wait((await world.ada.run_pipeline(pipeline["pipeline"]["id"], version))["job"]["id"])
    model_version = ended["outputs"][0]["id"]
    yield "SetModelAliasPayload", {"modelVersionId": model_version, "name": "production", "reason": "x"}
    yield "NotFound", {"modelVersionId": f"mversion_{UNKNOWN}", "name": "production"}
    yield "InvalidInput", {"modelVersionId": model_version, "name": "v1"}


@endings_of("removeModelAlias")
async def remove_model_alias(world: World) -> Endings:
    model = await model_in_production(world)
    yield "RemoveModelAliasPayload", {"modelId": model, "name": "Production", "reason": "x"}
    yield "NotFound", {"modelId": f"model_{UNKNOWN}", "name": "production"}
    yield "InvalidInput", {"modelId": model, "name": "production"}


@endings_of("updateModel")
async def update_model(world: World) -> Endings:
    model = await model_in_production(world)
    yield "UpdateModelPayload", {"id": model, "name": "new", "description": "x"}
    yield "NotFound", {"id": f"model_{UNKNOWN}", "name": "new"}
    yield "NameTaken", {"id": model, "name": "OTHER"}
    yield "InvalidInput", {"id": model, "name": None}


@endings_of("updateModelVersion")
async def update_model_version(world: World) -> Endings:
    model = await model_in_production(world)
    query = "query($id: ID!) { model(id: $id) { latestVersion { id } } }"
    version = (await world.ada.one(query, id=model))["latestVersion"]["id"]
    yield "UpdateModelVersionPayload", {"id": version, "label": "l", "description": "x"}
    yield "NotFound", {"id": f"mversion_{UNKNOWN}", "label": "l"}
    yield "InvalidInput", {"id": version, "label": " "}


async def model_in_production(world: World, name: str = "m") -> str:
    """A model of Ada's with a version that is in production, beside one that is named `other`."""
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(User.id).where(User.username == "ada"))
        await work.run(upsert(Model).values(owner_id=owner, name="other").on_conflict_do_nothing())
        model = await work.scalar(insert(Model).values(owner_id=owner, name=name).returning(Model.id))
        values = {"model_id": model, "number": 1, "algorithm": "Ridge", "framework": "scikit-learn"}
        version = await work.scalar(insert(ModelVersion).values(values).returning(ModelVersion.id))
        await work.run(insert(ModelAliasEvent).values(model_id=model, model_version_id=version, name="production"))
    return f"model_{model.hex}"
