"""Unmodified clients of MLflow track runs, and what they logged is that of the graph."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client
from tests.mlflow_clients.conftest import run_script

pytestmark = pytest.mark.exhaustive

SEEN = """query($id: ID!) { run: node(id: $id) { ... on Run { name status source hyperparameters notes experiment { name annotations } parentRun { id }
  metrics { key last min max count } metricHistory { key points { step value } } } } }"""


@pytest.mark.parametrize("major", [3, 2])
async def test_what_a_client_logs_it_reads_back_and_the_graph_shows(ada: Client, bob: Client, major: int) -> None:
    told = await run_script(ada, "session.py", major=major)
    params = {"alpha": "0.1", "depth": "3", "kind": "tree", "text": "1e-3", "flag": "True", "nothing": "None", "ratio": "1.0"}
    assert told["first"] == {
        "status": "FINISHED",
        "name": "first",
        "times": True,
        "params": params,
        "metrics": {"loss": repr(1 / 5), "accuracy": "0.9", "nan": "nan", "infinite": "-inf"},
        "tags": {"team": "a", "mlflow.runName": "first", "mlflow.note.content": "a note"},
    }
    assert told["inner"]["tags"] == {"mlflow.runName": "inner", "mlflow.parentRunId": told["run"]}
    assert told["ended"] == {**told["ended"], "status": "FAILED", "times": True, "tags": {"mlflow.runName": "failed"}}
    assert told["history"] == [[step, 1 / (step + 1)] for step in range(5)]
    assert told["found"] == [[told["run"], 0.2, "3", "a"]]
    assert (told["names"], told["experiments"], told["tags"]) == (["failed", "first", "inner"], ["tracked"], {"stage": "draft"})
    assert told["by_name"] == told["experiment"]
    assert told["changed"][0] == "INVALID_PARAMETER_VALUE"
    assert told["unknown"] == ["RESOURCE_DOES_NOT_EXIST", f"RESOURCE_DOES_NOT_EXIST: No Run with id=run_{'0' * 32} exists"]

    seen: Any = await ada.one(SEEN, id=told["run"])
    assert (seen["name"], seen["status"], seen["source"], seen["notes"]) == ("first", "COMPLETED", "EXTERNAL", "a note")
    assert seen["hyperparameters"] == {
        "alpha": 0.1,
        "depth": 3,
        "kind": "tree",
        "text": "1e-3",
        "flag": "True",
        "nothing": "None",
        "ratio": 1.0,
    }
    assert seen["experiment"] == {"name": "tracked", "annotations": {"stage": "draft"}}
    assert {each["key"]: each["count"] for each in seen["metrics"]} == {"accuracy": 1, "infinite": 1, "loss": 5, "nan": 1}
    assert (await ada.one(SEEN, id=told["child"]))["parentRun"] == {"id": told["run"]}
    assert await bob.one(SEEN, id=told["run"]) is None
