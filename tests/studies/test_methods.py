"""Methods that learn from trials: what they drew and whom they ended can be computed again from what the API tells."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client
from tests.studies.searching import CREATE, create, ended, trials
from workers.ml.studies.drawing import draw
from workers.ml.studies.halving import goes_on, rungs_of_trial

CSV = "a,b,y\n" + "".join(f"{row * 7 % 23},{row * 5 % 17},{'yes' if row * 7 % 23 > 11 else 'no'}\n" for row in range(60))
SPLIT = ("split", "split", {"test_fraction": 0.2, "validation_fraction": 0.3})
RATES = {"node": "train", "name": "learning_rate", "type": "DOUBLE", "low": 1e-4, "high": 0.5, "log": True}
LEAVES = {"node": "train", "name": "num_leaves", "type": "INT", "low": 2, "high": 9}
TOLD = """query($id: ID!) { study(id: $id) { status trialsCompleted trialsPruned trialsFailed bestTrial { number }
  budget { minSteps maxSteps reductionFactor } importances { parameter importance }
  space { node name type low high step log choices condition }
  trials(first: 30, orderBy: {field: NUMBER, direction: ASC}) { edges { node { number status value parameters suggestedFrom
    pruning { rung step value rank of } job { status nodes { key status output } } run { status modelVersion { id } hyperparameters
      metricHistory(keys: ["validation_loss"], maxPoints: 50) { points { step value } } } } } } } }"""


async def _inputs(client: Client, *training: Any, **fields: Any) -> dict[str, Any]:
    version = await client.ingest("d", CSV)
    node = training[0] if training else ("train", "train_lightgbm", {"target": "y", "min_child_samples": 1})
    pipeline = await client.create_pipeline("p", ("data", "dataset", {}), SPLIT, node)
    given = {"objective": {"metric": "validation_loss"}, "space": [RATES, LEAVES], "seed": 5, **fields}
    return {"name": "s", "pipelineId": pipeline["pipeline"]["id"], "datasetVersionId": version, **given}


def _stored(space: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**parameter, "type": parameter["type"].lower()} for parameter in space]


@pytest.mark.exhaustive
async def test_hyperband_ends_trials_that_are_not_among_the_best_at_a_rung(ada: Client, worker: object) -> None:
    budget = {"maxTrials": 5, "maxParallel": 1, "minSteps": 2, "maxSteps": 8, "reductionFactor": 2}
    created = await create(ada, **await _inputs(ada, method="HYPERBAND", budget=budget))
    study = created["study"]["id"]
    await ended(ada, study)
    told = await ada.one(TOLD, id=study)
    assert told["budget"] == {"minSteps": 2, "maxSteps": 8, "reductionFactor": 2}
    assert told["importances"] == []
    at_rungs: dict[int, list[float]] = {}
    pruned: list[int] = []
    for trial in trials(told):
        (series,) = trial["run"]["metricHistory"]
        points = [(point["step"], point["value"]) for point in series["points"]]
        decision, steps = None, 8
        for rung in rungs_of_trial(trial["number"], 2, 8, 2):
            value, values = points[rung["steps"] - 1][1], at_rungs.setdefault(rung["number"], [])
            values.append(value)
            rank = 1 + sum(other < value for other in values)
            if not goes_on(rank, len(values), 2):
                steps = rung["steps"]
                decision = {"rung": rung["number"], "step": steps - 1, "value": value, "rank": rank, "of": len(values)}
                break
        assert trial["pruning"] == decision
        assert [step for step, _ in points] == list(range(steps))
        assert trial["parameters"] == draw("random", _stored(told["space"]), 5, trial["number"], [], "minimize")["parameters"]
        assert (trial["job"]["status"], trial["run"]["status"], trial["suggestedFrom"]) == ("COMPLETED", "COMPLETED", None)
        nodes = {node["key"]: node for node in trial["job"]["nodes"]}
        if decision is None:
            assert (trial["status"], trial["value"], trial["run"]["hyperparameters"]["n_estimators"]) == ("COMPLETED", points[-1][1], 8)
        else:
            pruned.append(trial["number"])
            assert (trial["status"], trial["value"], nodes["train"]["status"]) == ("PRUNED", None, "COMPLETED")
            assert f"is number {decision['rank']} of {decision['of']} trials there" in nodes["train"]["output"]["note"]
    assert pruned
    assert (told["status"], told["trialsPruned"], told["trialsCompleted"]) == ("COMPLETED", len(pruned), 5 - len(pruned))
    update = "mutation($id: ID!) { registerTrial(input: {id: $id}) { __typename } }"
    ids = {trial["number"]: trial["id"] for trial in trials(await ended(ada, study))}
    assert await ada.one(update, id=ids[pruned[0]]) == {"__typename": "WrongState"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("method", "count"), [("BAYESIAN", 13), ("EVOLUTION", 23)])
async def test_what_is_drawn_from_trials_is_a_function_of_those_that_may_be_looked_at(
    ada: Client, worker: object, method: str, count: int
) -> None:
    budget = {"maxTrials": count, "maxParallel": 2}
    inputs = await _inputs(ada, ("train", "train_lightgbm", {"target": "y", "n_estimators": 3}))
    study = (await create(ada, **inputs, method=method, budget=budget, reproducible=True))["study"]["id"]
    await ended(ada, study)
    told = await ada.one(TOLD, id=study)
    assert told["trialsCompleted"] == count
    rows = [{**trial, "status": "completed", "points": {}} for trial in trials(told)]
    for trial in trials(told):
        before = [row for row in rows if row["number"] <= trial["number"] - 2]
        drawn = draw(method.lower(), _stored(told["space"]), 5, trial["number"], before, "minimize")
        assert (trial["parameters"], trial["suggestedFrom"]) == (drawn["parameters"], drawn["suggested_from"])
    assert trials(told)[-1]["suggestedFrom"] == count - 2
    assert {each["parameter"] for each in told["importances"]} == {"train.learning_rate", "train.num_leaves"}
    assert sum(each["importance"] for each in told["importances"]) == pytest.approx(1.0)
    assert [each["importance"] for each in told["importances"]] == sorted(
        (each["importance"] for each in told["importances"]), reverse=True
    )


REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "what is measured at the end": (
        {"objective": {"metric": "log_loss"}},
        ["objective", "metric"],
        "HYPERBAND compares trials during their training, and 'log_loss' is measured after it. Use one of validation_loss, ",
    ),
    "its steps in the space": (
        {"space": [{"node": "train", "name": "n_estimators", "type": "INT", "low": 2, "high": 9}]},
        ["space", "0", "name"],
        "HYPERBAND itself says how many steps a trial has: at most `maxSteps` of the budget. Leave train.n_estimators out.",
    ),
    "a first rung past the end": (
        {"budget": {"minSteps": 100}},
        ["budget", "minSteps"],
        "Trials are first compared after 100 steps, and end after 100. Give fewer, or raise `maxSteps`.",
    ),
    "more steps than the step takes": (
        {"budget": {"maxSteps": 20_000}},
        ["budget", "maxSteps"],
        "train.n_estimators does not take 20000: ",
    ),
    "a factor of one": (
        {"budget": {"reductionFactor": 1}},
        ["budget", "reductionFactor"],
        "1 parts of which one goes on: a budget has from 2 to 10 of them.",
    ),
    "rungs of another method": (
        {"method": "RANDOM", "budget": {"minSteps": 3}},
        ["budget", "minSteps"],
        "Only HYPERBAND ends trials before their last step. Leave this out, or use that method.",
    ),
}


async def test_a_study_that_cannot_be_halved_is_refused_with_the_place(ada: Client) -> None:
    inputs = await _inputs(ada, method="HYPERBAND")
    for changes, path, message in REFUSED.values():
        answer = await ada.one(CREATE, input={**inputs, **changes})
        assert answer["__typename"] == "InvalidInput", answer
        (issue,) = answer["issues"]
        assert issue["path"] == path
        assert issue["message"].startswith(message)
    pipeline = await ada.create_pipeline("n", ("data", "dataset", {}), SPLIT, ("train", "train_k_nearest_neighbors", {"target": "y"}))
    neighbors = {"node": "train", "name": "n_neighbors", "type": "INT", "low": 1, "high": 5}
    answer = await ada.one(CREATE, input={**inputs, "pipelineId": pipeline["pipeline"]["id"], "space": [neighbors]})
    (issue,) = answer["issues"]
    assert issue["path"] == ["method"]
    assert issue["message"].startswith("Step 'train' (Train k nearest neighbours) does not train step by step")
    assert await ada.one("{ studies { totalCount } }") == {"totalCount": 0}
