"""The endings of mutations on models."""

from __future__ import annotations

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
