"""A model has one problem type: a training of another one is refused, at the latest when it settles."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.factories import platform

# The target `small` is a class or a number; only the values tell.
TABLE = "x,small,label,weight\n" + "".join(f"{row},{row % 3},{'ab'[row % 2]},{row / 7}\n" for row in range(60))
MODELS = "{ models { edges { node { name problemType versions { totalCount } } } } }"


async def pipeline(ada: Client, name: str, estimator: str, **parameters: Any) -> str:
    train = {"exclude": ["label"], **parameters} if parameters["target"] != "label" else parameters
    return (await ada.create_pipeline(name, ("data", "dataset", {}), ("train", f"train_{estimator}", train)))["pipeline"]["id"]


async def test_a_model_gets_no_version_of_another_problem_type(ada: Client, worker: object, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    assert (await ada.one(MODELS))["edges"][0]["node"] == {
        "name": "model 1",
        "problemType": "CLASSIFICATION",
        "versions": {"totalCount": 1},
    }
    version = await ada.ingest("d", TABLE)
    message = (
        "The model 'MODEL 1' is a CLASSIFICATION model, and this is a REGRESSION training; all versions of a model have one problem type. "
        "Run the pipeline with another modelName."
    )
    jobs = "{ jobs(filter: {kind: [TRAIN]}) { totalCount } }"
    before = await ada.one(jobs)
    for number, (estimator, parameters) in enumerate(
        (
            ("ridge_regression", {"target": "weight"}),
            ("random_forest", {"target": "weight"}),
            ("random_forest", {"target": "small", "problem_type": "regression"}),
        )
    ):
        refused = await ada.run_pipeline(await pipeline(ada, f"p{number}", estimator, **parameters), version, modelName="MODEL 1")
        assert (refused["__typename"], refused["issues"]) == ("InvalidInput", [{"path": ["modelName"], "message": message}])
    assert await ada.one(jobs) == before

    clustering = await ada.create_pipeline(
        "model 1", ("data", "dataset", {}), ("drop", "drop_columns", {"columns": ["label"]}), ("train", "train_k_means", {})
    )
    refused = await ada.run_pipeline(clustering["pipeline"]["id"], version)
    assert refused["issues"][0]["message"].startswith("The model 'model 1' is a CLASSIFICATION model, and this is a CLUSTERING training")


@pytest.mark.exhaustive
async def test_what_only_the_values_decide_is_refused_before_the_training_starts(ada: Client, worker: object, database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO models (owner_id, name, problem_type) SELECT id, 'm', 'regression' FROM users WHERE username = 'ada'")
        )
    version = await ada.ingest("d", TABLE)
    started = await ada.run_pipeline(await pipeline(ada, "p", "random_forest", target="small"), version, modelName="m")
    ended = await ada.wait(started["job"]["id"])
    assert (ended["status"], ended["error"]["code"], ended["tries"]) == ("FAILED", "OTHER_PROBLEM_TYPE", 1)
    assert ended["error"]["message"] == (
        "The model 'm' is a REGRESSION model, and step 'train' would train CLASSIFICATION; all versions of a model have one problem type. "
        "Choose another step or set its problem_type, or run the pipeline with another modelName."
    )
    assert [(node["key"], node["status"]) for node in ended["nodes"]] == [("data", "COMPLETED"), ("train", "FAILED")]
    assert (await ada.one("query($id: ID!) { run(id: $id) { metrics { key } } }", id=started["run"]["id"])) == {"metrics": []}
    again = await ada.run_pipeline(
        await pipeline(ada, "q", "random_forest", target="small", problem_type="regression", n_estimators=5), version, modelName="m"
    )
    assert (await ada.wait(again["job"]["id"]))["status"] == "COMPLETED"


@pytest.mark.exhaustive
async def test_of_two_first_trainings_the_one_that_settles_first_decides(ada: Client, worker: object, database: Database) -> None:
    version = await ada.ingest("d", TABLE)
    started = await ada.run_pipeline(await pipeline(ada, "m", "random_forest", target="label", n_estimators=300), version)
    is_settled = False
    async for event in ada.events(started["job"]["id"]):
        if not is_settled and event["type"] == "STEP_STARTED" and {"key": "train", "status": "RUNNING"} in event["data"]["nodes"]:
            async with database.engine.begin() as connection:  # another first version settles
                await connection.execute(
                    text("INSERT INTO models (owner_id, name, problem_type) SELECT id, 'm', 'regression' FROM users WHERE username = 'ada'")
                )
            is_settled = True
    assert is_settled
    ended = await ada.wait(started["job"]["id"])
    assert (ended["status"], ended["error"]["code"], ended["error"]["retryable"], ended["tries"]) == (
        "FAILED",
        "OTHER_PROBLEM_TYPE",
        False,
        1,
    )
    assert ended["error"]["message"].startswith("The model 'm' is a REGRESSION model, and this is a CLASSIFICATION training;")
    assert (await ada.one(MODELS))["edges"] == [{"node": {"name": "m", "problemType": "REGRESSION", "versions": {"totalCount": 0}}}]
