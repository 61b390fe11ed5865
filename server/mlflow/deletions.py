"""Deletion and restoring: things are marked, as by the graph, and can be restored for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from db.core.viewer import ApiScope
from db.services.deletions.deleting import delete
from db.services.deletions.restoring import restore
from server.mlflow.registry import model_of, version_of
from server.mlflow.requests import Call, Endpoint, key_of


async def _delete(call: Call, prefix: str, key: UUID) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await delete(work, prefix, key)
    return {}


async def _restore(call: Call, prefix: str, key: UUID) -> Mapping[str, Any]:
    async with call.database.work(call.viewer) as work:
        await restore(work, prefix, key)
    return {}


def _experiment(call: Call) -> UUID:
    return key_of("experiment", "Experiment", call.text("experiment_id"))


async def delete_run(call: Call) -> Mapping[str, Any]:
    return await _delete(call, "run", call.run_id())


async def restore_run(call: Call) -> Mapping[str, Any]:
    return await _restore(call, "run", call.run_id())


async def delete_experiment(call: Call) -> Mapping[str, Any]:
    return await _delete(call, "experiment", _experiment(call))


async def restore_experiment(call: Call) -> Mapping[str, Any]:
    return await _restore(call, "experiment", _experiment(call))


async def delete_model(call: Call) -> Mapping[str, Any]:
    return await _delete(call, "model", (await model_of(call)).id)


async def delete_version(call: Call) -> Mapping[str, Any]:
    _, version = await version_of(call)
    return await _delete(call, "mversion", version.id)


ENDPOINTS = (
    Endpoint("POST", "/mlflow/runs/delete", ApiScope.WRITE, delete_run, cost=2),
    Endpoint("POST", "/mlflow/runs/restore", ApiScope.WRITE, restore_run, cost=2),
    Endpoint("POST", "/mlflow/experiments/delete", ApiScope.WRITE, delete_experiment, cost=2),
    Endpoint("POST", "/mlflow/experiments/restore", ApiScope.WRITE, restore_experiment, cost=2),
    Endpoint("DELETE", "/mlflow/registered-models/delete", ApiScope.WRITE, delete_model, cost=2),
    Endpoint("DELETE", "/mlflow/model-versions/delete", ApiScope.WRITE, delete_version, cost=2),
)
