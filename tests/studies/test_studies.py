"""A study makes its trials, counts them, finds the best one and ends; its best model is registered. What is somebody else's does not exist."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update as update_rows

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.settings import StateSettings
from db.tables import Study
from tests.client import Client, GraphQLErrors
from tests.endings import key_of
from tests.studies.searching import ALPHAS, STUDY, change, create, created, ended, ridge, trials

INTERCEPT = {"node": "train", "name": "fit_intercept", "type": "CATEGORICAL", "choices": [True, False]}


async def test_a_grid_is_searched_whole_and_its_best_model_is_registered(ada: Client, bob: Client, worker: object) -> None:
    inputs = await ridge(ada)
    space = [{**ALPHAS, "condition": {"node": "train", "name": "fit_intercept", "in": [True]}}, INTERCEPT]
    study = await created(ada, inputs, method="GRID", space=space, seed=3, budget={"maxParallel": 3})
    told = await ended(ada, study)
    assert (told["status"], told["reason"], told["trialsTotal"], told["trialsCompleted"], told["trialsFailed"]) == (
        "COMPLETED",
        "TRIALS",
        5,
        5,
        0,
    )
    assert told["objective"] == {"metric": "rmse", "goal": "MINIMIZE", "target": None}
    assert told["space"][0] == {
        "node": "train", "name": "alpha", "type": "DOUBLE", "low": 0.5, "high": 2.0, "step": 0.5, "log": False, "choices": None,
        "condition": {"node": "train", "name": "fit_intercept", "in": [True]},
    }  # fmt: skip
    made = trials(told)
    assert [trial["number"] for trial in made] == [1, 2, 3, 4, 5]
    points = [tuple(sorted(trial["parameters"].items())) for trial in made]
    grid = [{"train.alpha": alpha, "train.fit_intercept": True} for alpha in (0.5, 1, 1.5, 2)] + [{"train.fit_intercept": False}]
    assert sorted(points, key=repr) == sorted((tuple(sorted(point.items())) for point in grid), key=repr)
    assert {trial["run"]["seed"] for trial in made} == {3}
    assert [trial["run"]["trial"] for trial in made] == [{"number": number} for number in range(1, 6)]
    for trial in made:
        assert (trial["status"], trial["run"]["status"], trial["job"]["kind"], trial["job"]["status"]) == ("COMPLETED",) * 2 + (
            "TRAIN",
            "COMPLETED",
        )
        assert trial["job"]["parameters"]["study"] == told["id"]
        drawn = {key.removeprefix("train."): value for key, value in trial["parameters"].items()}
        assert drawn.items() <= trial["run"]["hyperparameters"].items()
    best = min(made, key=lambda trial: trial["value"])
    assert told["bestTrial"]["value"] == best["value"]
    assert [each["value"] for each in told["bestValues"]] == sorted((each["value"] for each in told["bestValues"]), reverse=True)
    assert told["bestValues"][-1]["trialNumber"] == told["bestTrial"]["number"]
    compared = await ada.one(
        "query($ids: [ID!]!) { compareRuns(ids: $ids) { parameters { key differs } metrics { key values } } }",
        ids=[trial["run"]["id"] for trial in made],
    )
    assert {"key": "fit_intercept", "differs": True} in compared["parameters"]
    assert next(each["values"] for each in compared["metrics"] if each["key"] == "rmse") == [trial["value"] for trial in made]
    of_study = "query($study: ID!) { runs(filter: {studyId: $study}) { totalCount } models { totalCount } }"
    assert await ada.execute(of_study, study=study) == {"runs": {"totalCount": 5}, "models": {"totalCount": 0}}

    register = """mutation($id: ID!) { registerTrial(input: {id: $id, modelName: "best"}) { __typename ... on WrongState { state }
      ... on RegisterTrialPayload { modelVersion { id number run { id } snapshot { definition { nodes { key parameters } } } artifacts { role } model { name } } } } }"""
    assert await bob.one(register, id=told["bestTrial"]["id"]) == {"__typename": "NotFound"}
    version = (await ada.one(register, id=told["bestTrial"]["id"]))["modelVersion"]
    winner = next(trial for trial in made if trial["id"] == told["bestTrial"]["id"])
    assert (version["number"], version["model"], version["run"]) == (1, {"name": "best"}, {"id": winner["run"]["id"]})
    nodes = {node["key"]: node["parameters"] for node in version["snapshot"]["definition"]["nodes"]}
    assert {f"train.{name}": value for name, value in nodes["train"].items() if f"train.{name}" in winner["parameters"]} == winner[
        "parameters"
    ]
    assert {"MODEL", "SIGNATURE"} <= {artifact["role"] for artifact in version["artifacts"]}
    predicted = await ada.one(
        "mutation($id: ID!) { predict(input: {modelVersionId: $id, rows: [{a: 1}]}) { ... on PredictPayload { job { id } } } }",
        id=version["id"],
    )
    assert (await ada.wait(predicted["job"]["id"]))["status"] == "COMPLETED"
    assert await ada.one(register, id=told["bestTrial"]["id"]) == {"__typename": "WrongState", "state": "REGISTERED"}
    lineage = "query($id: ID!) { lineage(id: $id, direction: UPSTREAM) { nodes { kind } } }"
    kinds = {node["kind"] for node in (await ada.one(lineage, id=version["id"]))["nodes"]}
    assert kinds == {"MODEL_VERSION", "RUN", "JOB", "PIPELINE_SNAPSHOT", "DATASET_VERSION"}

    retry = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on WrongState { state message } } }"
    refused = await ada.one(retry, id=made[0]["job"]["id"])
    assert (refused["__typename"], refused["state"]) == ("WrongState", "COMPLETED")
    assert "which is not run again" in refused["message"]
    for mutation in ("pauseStudy", "resumeStudy", "cancelStudy", "deleteStudy"):
        assert (await change(bob, mutation, study))["__typename"] == "NotFound"
    assert await bob.one(STUDY, id=study) is None
    assert await change(ada, "deleteStudy", study) == {"__typename": "DeleteStudyPayload"}
    assert await ada.one(STUDY, id=study) is None
    assert await ada.one("query($id: ID!) { node(id: $id) { id } }", id=told["bestTrial"]["id"]) is None


async def test_a_study_ends_when_too_many_trials_fail_or_its_time_is_over_or_it_is_cancelled(
    ada: Client, database: Database, worker: object
) -> None:
    inputs = await ridge(ada)
    options: dict[str, Any] = {"method": "RANDOM", "space": [ALPHAS]}
    pipeline = await ada.create_pipeline("n", ("data", "dataset", {}), ("train", "train_k_nearest_neighbors", {"target": "b"}))
    too_many = {**inputs, "pipelineId": pipeline["pipeline"]["id"]}
    neighbors = {"node": "train", "name": "n_neighbors", "type": "INT", "low": 100, "high": 105}  # of 60 rows
    failing = await created(ada, too_many, method="RANDOM", space=[neighbors], budget={"maxFailed": 1, "maxParallel": 1})
    told = await ended(ada, failing)
    assert (told["status"], told["reason"], told["trialsFailed"], told["bestTrial"]) == ("FAILED", "FAILURES", 2, None)
    job = await ada.one(
        "query($id: ID!) { job(id: $id) { status error { code } outputs { __typename } } }", id=trials(told)[0]["job"]["id"]
    )
    assert job == {"status": "FAILED", "error": {"code": "TOO_FEW_ROWS"}, "outputs": []}

    going = await created(ada, {**inputs, "name": "t"}, **options, budget={"maxTrials": 1_000, "maxParallel": 2})
    assert (await change(ada, "cancelStudy", going))["__typename"] == "CancelStudyPayload"
    told = await ended(ada, going)
    assert (told["status"], told["reason"]) == ("CANCELLED", "USER")
    assert {trial["job"]["status"] for trial in trials(told)} <= {"CANCELLED", "COMPLETED"}
    assert {trial["status"] for trial in trials(told)} <= {"CANCELLED", "COMPLETED"}

    timed = await created(ada, {**inputs, "name": "u"}, **options, budget={"maxTrials": 1_000, "maxParallel": 1, "maxSeconds": 1_000})
    async with database.work(SYSTEM) as work:
        await work.run(update_rows(Study).where(Study.id == key_of(timed)).values(seconds_used=1_000))
    told = await ended(ada, timed)
    assert told["reason"] == "TIME"


async def test_the_trials_of_a_study_stream_without_gap_or_repeat(ada: Client, bob: Client, worker: object) -> None:
    inputs = await ridge(ada)
    study = await created(ada, inputs, method="GRID", space=[ALPHAS], budget={"maxParallel": 2})
    query = "subscription($id: ID!, $after: String) { studyTrials(id: $id, after: $after) { cursor trial { number } study { status } } }"
    first: list[dict[str, Any]] = []
    async with aclosing(ada.subscribe(query, id=study)) as stream:
        async for event in stream:
            first.append(event["studyTrials"])
            if len(first) == 3:
                break
    rest = [event["studyTrials"] async for event in ada.subscribe(query, id=study, after=first[-1]["cursor"])]
    replayed = [event["studyTrials"] async for event in ada.subscribe(query, id=study)]
    assert [event["cursor"] for event in first + rest] == [event["cursor"] for event in replayed]
    assert len({event["cursor"] for event in replayed}) == len(replayed)
    assert {event["trial"]["number"] for event in replayed} == {1, 2, 3, 4}
    assert rest[-1]["study"]["status"] == "COMPLETED"
    with pytest.raises(GraphQLErrors):
        _ = [event async for event in bob.subscribe(query, id=study)]


@pytest.mark.exhaustive
async def test_the_same_seed_makes_the_same_trials(ada: Client, worker: object) -> None:
    inputs = await ridge(ada)
    space = [{"node": "train", "name": "alpha", "type": "DOUBLE", "low": 0.001, "high": 1000.0, "log": True}]
    options = {"method": "RANDOM", "space": space, "seed": 11, "reproducible": True, "budget": {"maxTrials": 4, "maxParallel": 2}}
    first, second = [trials(await ended(ada, await created(ada, {**inputs, "name": name}, **options))) for name in ("one", "two")]
    assert [(trial["parameters"], trial["value"], trial["suggestedFrom"]) for trial in first] == [
        (trial["parameters"], trial["value"], trial["suggestedFrom"]) for trial in second
    ]
    assert len({trial["parameters"]["train.alpha"] for trial in first}) == 4


@pytest.mark.exhaustive
async def test_a_target_ends_a_study(ada: Client, worker: object) -> None:
    inputs = await ridge(ada)
    objective = {"metric": "rmse", "target": 1_000_000.0}
    study = await created(
        ada, {**inputs, "objective": objective}, method="RANDOM", space=[ALPHAS], budget={"maxTrials": 50, "maxParallel": 1}
    )
    told = await ended(ada, study)
    assert (told["status"], told["reason"], told["trialsCompleted"]) == ("COMPLETED", "TARGET", 1)


REFUSED: tuple[tuple[str, dict[str, Any], list[str], str], ...] = (
    ("rmse", {"node": "trian", "name": "alpha"}, ["space", "0", "node"], "The pipeline has no node 'trian'. Its nodes: data, train."),
    ("rmse", {"node": "train", "name": "alhpa"}, ["space", "0", "name"], "Node 'train' has no parameter 'alhpa' that can be searched."),
    ("rmse", {"low": -1.0}, ["space", "0", "low"], "train.alpha does not take -1: -1.0 is too small; it must be at least 0."),
    ("rmse", {"low": 0.0, "log": True}, ["space", "0", "low"], "train.alpha: a logarithmic range must begin above 0, and `low` is 0."),
    ("rmse", {"step": 0.3}, ["space", "0", "step"], "train.alpha: steps of 0.3 from 1 do not reach 2; the last one is 1.9."),
    ("rmse", {"high": 0.5}, ["space", "0", "high"], "train.alpha: `high` (0.5) is less than `low` (1). Exchange them."),
    ("rmse", {"type": "CATEGORICAL", "low": None, "high": None, "choices": []}, ["space", "0", "choices"], "train.alpha: a CATEGORICAL parameter"),
    ("rmse", {"condition": {"node": "train", "name": "max_iter", "in": [1]}}, ["space", "0", "condition"], "train.alpha depends on train.max_iter"),
    ("rmse", {"condition": {"node": "train", "name": "alpha", "in": [1]}}, ["space", "0", "condition"], "The conditions form a circle"),
    ("rmse", {}, ["space", "0", "step"], "train.alpha has no step, so a grid of it has no end."),
    ("rmse", {"step": 0.001}, ["budget", "maxTrials"], "The grid has 1,001 points, and the budget 20 trials."),
    ("accuracy", {"step": 1.0}, ["objective", "metric"], "The runs of this pipeline do not report 'accuracy'. They report: rmse, mae, r2"),
)  # fmt: skip


async def test_what_cannot_be_searched_is_refused_where_it_stands(ada: Client, worker: object) -> None:
    inputs = await ridge(ada)
    for metric, fields, path, message in REFUSED:
        parameter = {"node": "train", "name": "alpha", "type": "DOUBLE", "low": 1.0, "high": 2.0, **fields}
        answer = await create(ada, **{**inputs, "objective": {"metric": metric}}, method="GRID", space=[parameter])
        assert answer["__typename"] == "InvalidInput", answer
        assert [(issue["path"], issue["message"][: len(message)]) for issue in answer["issues"]] == [(path, message)]
    assert await ada.one("{ studies { totalCount } }") == {"totalCount": 0}


async def test_a_metric_of_validation_rows_needs_a_pipeline_that_holds_some_out(ada: Client, worker: object) -> None:
    inputs = await ridge(ada)
    training = ("train", "train_lightgbm", {"target": "b", "n_estimators": 2})

    without: tuple[tuple[Any, ...], ...] = ((), (("split", "split", {"test_fraction": 0.3}),))

    async def answer(*split: Any, method: str = "RANDOM", parameter: dict[str, Any] | None = None) -> dict[str, Any]:
        pipeline = await ada.create_pipeline(f"p{uuid4()}", ("data", "dataset", {}), *split, training)
        space = [{"node": "train", "name": "num_leaves", "type": "INT", "low": 2, "high": 9}, *([parameter] if parameter else [])]
        given = {"name": f"s{uuid4()}", "pipelineId": pipeline["pipeline"]["id"], "objective": {"metric": "validation_loss"}}
        return await create(ada, **{**inputs, **given}, method=method, space=space, budget={"maxTrials": 1})

    for method in ("RANDOM", "HYPERBAND"):
        for split in without:
            (issue,) = (await answer(*split, method=method))["issues"]
            assert issue["path"] == ["objective", "metric"]
            assert issue["message"].startswith("The runs of this pipeline do not report 'validation_loss'. They report: ")
            assert ", train_loss, " in issue["message"]
            assert "validation_accuracy" not in issue["message"]
            assert issue["message"].endswith(" Set validation_fraction in a split step: no rows are held out for validation.")
    share = {"node": "split", "name": "validation_fraction", "type": "DOUBLE", "low": 0.1, "high": 0.3}
    assert (await answer(("split", "split", {}), parameter=share))["__typename"] == "CreateStudyPayload"
    held_out = ("split", "split", {"validation_fraction": 0.2})
    assert (await answer(held_out))["__typename"] == "CreateStudyPayload"


async def test_the_cost_of_a_study_is_told_beforehand(
    ada: Client, bob: Client, settings: StateSettings, monkeypatch: pytest.MonkeyPatch, worker: object
) -> None:
    monkeypatch.setattr(settings, "credit_prices", {"TRAIN": 10})
    inputs = await ridge(ada)
    query = """query($pipeline: ID!) { estimateStudyCost(pipelineId: $pipeline, maxTrials: 30, maxParallel: 4) {
      credits seconds basedOn basis } }"""
    ids = {"pipeline": inputs["pipelineId"]}
    assert await ada.one(query, **ids) == {
        "credits": 300,
        "seconds": None,
        "basedOn": 0,
        "basis": "No training of this pipeline has completed, so the time is not known.",
    }
    assert await bob.one(query, **ids) is None
