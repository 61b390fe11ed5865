"""Studies of architectures: each trial trains another one, whatever its parameters say, and the front shows what size is worth."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import update as update_rows

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.tables import Study, Trial
from tests.client import Client
from tests.endings import key_of
from tests.exhaustive import exhaustive
from tests.studies.searching import create, created, ended
from workers.ml.architectures import digest, perceptron_definition
from workers.ml.studies.drawing import draw

CSV = "a,b,y\n" + "".join(f"{row * 7 % 23},{row * 5 % 17},{('no', 'yes', 'perhaps')[row * 7 % 23 % 3]}\n" for row in range(60))
SPLIT = ("split", "split", {"test_fraction": 0.2, "validation_fraction": 0.3})
RATES = {"node": "train", "name": "learning_rate_init", "type": "DOUBLE", "low": 1e-3, "high": 0.1, "log": True}
LAYERS = {"node": "train", "name": "layers", "type": "INT", "low": 1, "high": 3}
WIDTHS = {"node": "train", "name": "width", "type": "INT", "low": 2, "high": 5}
ACTIVATIONS = {"node": "train", "name": "activation", "type": "CATEGORICAL", "choices": ["relu", "tanh"]}
TOLD = """query($id: ID!) { study(id: $id) { kind status reason trialsCompleted trialsFailed trialsPruned
  space { node name type low high step log choices condition } objective { goal }
  paretoFront { number value architecture { parameterCount } }
  trials(first: 30, orderBy: {field: NUMBER, direction: ASC}) { edges { node { number status value parameters suggestedFrom
    architecture { definition hash parameterCount flops sizeBytes } job { error { code message } }
    run { architecture { hash } } } } } } }"""
FRONT = "query($id: ID!) { study(id: $id) { paretoFront { number } } }"
LIMITS = {"maxTrials": 6, "maxParallel": 3}
DEFAULT_INPUTS: dict[str, Any] = {"kind": "NAS", "method": "RANDOM", "objective": {"metric": "validation_loss"}, "seed": 4}


async def _inputs(client: Client, *training: Any, **fields: Any) -> dict[str, Any]:
    version = await client.ingest("d", CSV)
    node = training[0] if training else ("train", "train_mlp", {"target": "y", "max_iter": 4})
    pipeline = await client.create_pipeline("p", ("data", "dataset", {}), SPLIT, node)
    space = [LAYERS, WIDTHS, ACTIVATIONS, RATES]
    return {"name": "s", "pipelineId": pipeline["pipeline"]["id"], "datasetVersionId": version, "space": space, **DEFAULT_INPUTS, **fields}


async def _told(client: Client, study: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    await ended(client, study)
    told = await client.one(TOLD, id=study)
    return told, [edge["node"] for edge in told["trials"]["edges"]]


def _front(trials: list[tuple[int, int, float]], *, is_less_better: bool = True) -> list[int]:
    """The numbers of the (number, size, value) that no other dominates, the smallest first: each pair is compared."""
    losses = [(size, value if is_less_better else -value, number) for number, size, value in trials]
    front = [
        (size, number)
        for size, loss, number in losses
        if not any(
            other_size <= size and other_loss <= loss and (other_size, other_loss, other) < (size, loss, number)
            for other_size, other_loss, other in losses
        )
    ]
    return [number for _, number in sorted(front)]


@pytest.mark.parametrize(
    ("method", "count"), [("RANDOM", 6), exhaustive("BAYESIAN", 13), exhaustive("EVOLUTION", 22), exhaustive("HYPERBAND", 8)]
)
async def test_each_trial_has_an_architecture_of_its_own(ada: Client, database: Database, worker: object, method: str, count: int) -> None:
    budget: dict[str, Any] = {**LIMITS, "maxTrials": count}
    if method == "HYPERBAND":
        budget |= {"minSteps": 1, "maxSteps": 4, "reductionFactor": 2}
    study = await created(ada, await _inputs(ada, method=method, budget=budget))
    told, trials = await _told(ada, study)
    assert (told["kind"], told["status"], told["reason"], told["trialsFailed"]) == ("NAS", "COMPLETED", "TRIALS", 0)
    assert told["trialsCompleted"] + told["trialsPruned"] == len(trials) == count
    assert (told["trialsPruned"] > 0) is (method == "HYPERBAND")
    for trial in trials:
        drawn = {key.removeprefix("train."): value for key, value in trial["parameters"].items()}
        units = [2, *[drawn["width"]] * drawn["layers"], 3]
        definition = perceptron_definition(units[1:-1], drawn["activation"])
        weights, biases = sum(a * b for a, b in pairwise(units)), sum(units[1:])
        assert trial["architecture"] == {
            "definition": definition,
            "hash": digest(definition),
            "parameterCount": weights + biases,
            "flops": 2 * weights,
            "sizeBytes": 8 * (weights + biases),
        }
        assert trial["run"]["architecture"]["hash"] == trial["architecture"]["hash"]
    assert len({trial["architecture"]["hash"] for trial in trials}) == count
    sized = [
        (trial["number"], trial["architecture"]["parameterCount"], trial["value"]) for trial in trials if trial["status"] == "COMPLETED"
    ]
    assert [trial["number"] for trial in told["paretoFront"]] == _front(sized)
    if method == "RANDOM":
        await _compare_fronts(ada, database, study)


async def _compare_fronts(client: Client, database: Database, study: str) -> None:
    """Give the trials other sizes and values, with ties, and compare the front with that of all pairs."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for turn in range(12):
        sized = [(number, rng.randint(1, 4), float(rng.randint(1, 4))) for number in range(1, 7)]
        is_less_better = turn % 2 == 0
        async with database.work(SYSTEM) as work:
            goal = "minimize" if is_less_better else "maximize"
            await work.run(update_rows(Study).where(Study.id == key_of(study)).values(goal=goal))
            for number, size, value in sized:
                row = update_rows(Trial).where(Trial.study_id == key_of(study), Trial.number == number)
                await work.run(row.values(parameter_count=size, value=value))
        front = (await client.one(FRONT, id=study))["paretoFront"]
        assert [trial["number"] for trial in front] == _front(sized, is_less_better=is_less_better)


@pytest.mark.exhaustive
async def test_equal_architectures_are_one_however_they_are_written(ada: Client, worker: object) -> None:
    layers = {"node": "train", "name": "hidden_layers", "type": "CATEGORICAL", "choices": [[3], [5]]}
    width: dict[str, Any] = {"node": "train", "name": "width", "type": "CATEGORICAL", "choices": [3, 5]}
    width["condition"] = {"node": "train", "name": "hidden_layers", "in": [[5]]}
    space = [layers, width, RATES]  # two architectures: the first choice is the same as the second with a width of 3
    budget = {"maxTrials": 3, "maxParallel": 1}
    study = await created(ada, await _inputs(ada, space=space, budget=budget, reproducible=True))
    told, trials = await _told(ada, study)
    assert (told["status"], told["trialsCompleted"], told["trialsFailed"]) == ("COMPLETED", 2, 1)
    taken: set[str] = set()
    stored = [{**parameter, "type": parameter["type"].lower()} for parameter in told["space"]]
    for trial in trials:
        points = [draw("random", stored, 4, trial["number"], [], "minimize", redraw)["parameters"] for redraw in range(21)]
        hashes = [digest(perceptron_definition(_hidden(point), "relu")) for point in points]
        new = next((index for index, each in enumerate(hashes) if each not in taken), None)
        if new is None:
            assert (trial["status"], trial["parameters"], trial["architecture"]) == ("FAILED", {}, None)
            assert trial["job"]["error"]["code"] == "NO_NEW_ARCHITECTURE"
            assert trial["job"]["error"]["message"].startswith("Each of 21 points that were drawn for trial 3 has an architecture that ")
        else:
            assert (trial["parameters"], trial["architecture"]["hash"]) == (points[new], hashes[new])
            taken.add(hashes[new])
    assert len(taken) == 2


def _hidden(point: dict[str, Any]) -> list[int]:
    return [point["train.width"]] if "train.width" in point else point["train.hidden_layers"]


REFUSED: tuple[tuple[dict[str, Any], list[str], str], ...] = (
    ({"method": "GRID", "space": [LAYERS, WIDTHS], "budget": {"maxTrials": 12}}, ["method"], "A grid has its points, some with the same "),
    ({"space": [RATES]}, ["space"], "None of these parameters changes the architecture. Search some of activation, hidden_layers, layers, width of"),
    ({"space": [LAYERS, RATES]}, ["budget", "maxTrials"], "The space has at most 3 architectures, and the budget 6 trials"),
    ({"reproducible": True}, ["budget", "maxParallel"], "Which architectures a trial may have depends on all before it, so "),
)  # fmt: skip


async def test_what_has_no_architectures_to_search_is_refused_where_it_stands(ada: Client) -> None:
    inputs = await _inputs(ada, budget=LIMITS)
    boosting = await ada.create_pipeline("b", ("data", "dataset", {}), SPLIT, ("train", "train_lightgbm", {"target": "y"}))
    leaves = {"node": "train", "name": "num_leaves", "type": "INT", "low": 2, "high": 9}
    other = {"pipelineId": boosting["pipeline"]["id"], "space": [leaves]}
    refused = (*REFUSED, (other, ["kind"], "Step 'train' (Train LightGBM) declares no architecture that could be searched. "))
    for changes, path, message in refused:
        answer = await create(ada, **{**inputs, **changes})
        assert answer["__typename"] == "InvalidInput", answer
        assert [(issue["path"], issue["message"][: len(message)]) for issue in answer["issues"]] == [(path, message)]
    assert await ada.one("{ studies { totalCount } }") == {"totalCount": 0}
