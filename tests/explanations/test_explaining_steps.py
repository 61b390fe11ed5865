"""A step of a pipeline explains the model that the pipeline trains."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client
from tests.explanations.explaining import EXPLANATION, explain
from tests.exports.test_exporting_steps import branches

CSV = "a,b,c,label\n" + "".join(f"{number},{number * 7 % 11},{number % 5},{'yes' if number % 11 > 5 else 'no'}\n" for number in range(60))
JOB = """query($id: ID!) { job(id: $id) { status nodes { key status output error { code message } }
  outputs { __typename ... on ModelVersion { id explanations { totalCount } } ... on Explanation { id } } } }"""


@pytest.mark.exhaustive
async def test_a_model_is_explained_with_its_training_and_kept_where_it_cannot_be(ada: Client, bob: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV, targetColumn="label", problemType="CLASSIFICATION")
    chain: list[Any] = [("data", "dataset", {}), ("train", "train_logistic_regression", {})]
    ends = (
        ("why", "explain", {}),
        ("trees", "explain", {"method": "tree_shap"}),
        ("columns", "explain", {"method": "permutation", "features": ["d"]}),
    )
    created = await branches(ada, "p", chain, *ends)
    assert created["pipeline"]["status"] == "VALIDATED", created
    started = await ada.run_pipeline(created["pipeline"]["id"], version, seed=1)
    await ada.wait(started["job"]["id"])
    job = await ada.one(JOB, id=started["job"]["id"])
    assert (job["status"], [output["__typename"] for output in job["outputs"]]) == ("COMPLETED", ["ModelVersion", "Explanation"])
    nodes = {node["key"]: node for node in job["nodes"]}
    assert nodes["why"]["output"] == {"method": "LINEAR", "rows": 12}
    assert (nodes["trees"]["status"], nodes["trees"]["error"]["code"]) == ("FAILED", "UNSUPPORTED")
    assert nodes["columns"]["error"] == {"code": "BAD_PARAMETER", "message": "Step 'columns': The model takes no column 'd'."}
    model, made = job["outputs"]
    assert model["explanations"] == {"totalCount": 1}
    told = await ada.one(EXPLANATION, id=made["id"])
    assert (told["status"], told["run"], told["job"]) == (
        "COMPLETED",
        {"id": started["run"]["id"]},
        {"id": started["job"]["id"], "kind": "TRAIN"},
    )
    asked = await explain(ada, model["id"], "LINEAR")
    assert {key: told[key] for key in ("data", "attributions", "additivityError")} == {
        key: asked[key] for key in ("data", "attributions", "additivityError")
    }
    assert [plot["filename"] for plot in told["plots"]] == [plot["filename"] for plot in asked["plots"]]
    assert await bob.one(EXPLANATION, id=made["id"]) is None


async def test_a_step_that_explains_no_model_is_refused_at_its_place(ada: Client) -> None:
    data, scale, train = ("data", "dataset", {}), ("scale", "scale", {}), ("train", "train_ridge_regression", {"target": "a"})
    why = ("why", "explain", {})
    cases: list[tuple[list[Any], tuple[Any, ...], list[str], str]] = [
        ([data, scale], (why,), ["definition", "nodes", "2"], "'why' explains a model, so a training node must come before it."),
        ([data], (why, train), ["definition", "nodes", "1"], "'why' explains a model, so a training node must come before it."),
        ([data, train, why, ("score", "evaluate", {})], (), ["definition", "links", "2", "source"], "so nothing comes after it."),
    ]
    for number, (chain, ends, path, message) in enumerate(cases):
        created = await branches(ada, f"p{number}", chain, *ends)
        assert [issue["path"] for issue in created["issues"] if message in issue["message"]] == [path], created
