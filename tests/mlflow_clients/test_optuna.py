"""Optuna's callback for MLflow, unmodified, logs its studies here."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client
from tests.mlflow_clients.conftest import run_script

pytestmark = pytest.mark.exhaustive

RUN = "query($id: ID!) { run(id: $id) { status metricHistory { key points { step value } } artifacts { edges { node { path } } } } }"
CHILDREN = "query($id: ID!) { run(id: $id) { metrics { key last } childRuns { totalCount } } }"


async def test_each_trial_of_a_study_is_a_run_with_its_values_and_every_call_is_answered(ada: Client) -> None:
    told = await run_script(ada, "optuna_study.py")
    assert (told["found"], told["children"]) == (told["study"], told["nested"])
    assert (len(told["study"]), len(told["nested"])) == (6, 4)
    assert told["best"][0] == told["best"][1]
    assert told["twice"]
    # The client looks for an experiment before it makes it.
    refused = [call for call in told["asked"] if call[2] >= 400]
    assert {(method, path, code) for method, path, _, code in refused} <= {
        ("GET", "/api/2.0/mlflow/experiments/get-by-name", "RESOURCE_DOES_NOT_EXIST")
    }
    seen: Any = await ada.one(RUN, id=told["runs"][0])
    assert seen["status"] == "COMPLETED"
    assert {each["key"]: len(each["points"]) for each in seen["metricHistory"]} == {"loss": 3, "square": 1, "twice": 1}
    assert [edge["node"]["path"] for edge in seen["artifacts"]["edges"]] == ["x.txt"]
    parent: Any = await ada.one(CHILDREN, id=told["parent"])
    assert parent["childRuns"]["totalCount"] == 4
    assert parent["metrics"] == [{"key": "best", "last": max(value for _, _, value, _ in told["nested"])}]
