"""What MLflow's clients delete is marked as deleted, and can be restored."""

from __future__ import annotations

from typing import Any

from tests.client import Client
from tests.mlflow_clients.conftest import Call
from tests.mlflow_clients.test_protocol import make_run, refusal
from tests.mlflow_clients.test_registry import Registry, registry

__all__ = ["registry"]
MISSING = (404, "RESOURCE_DOES_NOT_EXIST")


async def test_a_run_and_an_experiment_are_deleted_and_restored(ada: Client, bob: Client, of_ada: Call) -> None:
    run = await make_run(of_ada, run_name="mine")
    experiment = (await of_ada("runs/get", run_id=run)).json()["run"]["info"]["experiment_id"]
    theirs = Registry(bob)
    for kind, fields in (("runs", {"run_id": run}), ("experiments", {"experiment_id": experiment})):
        for action in ("delete", "restore"):
            assert refusal(await theirs("POST", f"{kind}/{action}", **fields)) == MISSING
        found = await of_ada("runs/get", run_id=run)
        assert (await of_ada(f"{kind}/delete", **fields)).json() == {}
        assert refusal(await of_ada(f"{kind}/get", **fields)) == MISSING
        assert refusal(await of_ada("runs/log-metric", run_id=run, key="a", value=1)) == MISSING
        assert refusal(await of_ada(f"{kind}/delete", **fields)) == MISSING
        assert (await of_ada(f"{kind}/restore", **fields)).json() == {}
        assert (await of_ada("runs/get", run_id=run)).json() == found.json()


async def test_a_model_and_a_version_are_deleted_but_not_while_an_alias_points_to_them(registry: tuple[Registry, str]) -> None:
    call, _ = registry
    version: dict[str, Any] = {"name": "m", "version": "1"}
    await call("POST", "registered-models/alias", **version, alias="production")
    for path, fields in (("model-versions/delete", version), ("registered-models/delete", {"name": "m"})):
        assert refusal(await call("DELETE", path, **fields)) == (400, "INVALID_PARAMETER_VALUE")
    await call("DELETE", "registered-models/alias", name="m", alias="production")
    assert (await call("DELETE", "model-versions/delete", **version)).json() == {}
    assert refusal(await call("GET", "model-versions/get", **version)) == MISSING
    assert (await call("GET", "registered-models/get", name="m")).json()["registered_model"]["latest_versions"] == []
    assert (await call("DELETE", "registered-models/delete", name="m")).json() == {}
    assert refusal(await call("GET", "registered-models/get", name="m")) == MISSING
