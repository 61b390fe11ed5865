"""What evaluates a model is refused before the training where it cannot work; a category named as another column is trained on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client

pytestmark = pytest.mark.exhaustive

ROWS = [f"{row / 7:.4f},{'red' if row % 3 else 'blue'},{row * 31 % 97 / 97:.3f}" for row in range(60)]
TABLE = "a,color,color_red,y\n" + "\n".join(f"{values},{'z' if row == 0 else 'xy'[row % 2]}" for row, values in enumerate(ROWS))
# The only row of the class `z` is among the training rows with this seed.
STEPS = (
    ("split", "split", {"strategy": "random", "test_fraction": 0.05, "seed": 1}),
    ("encode", "one_hot_encode", {}),
    ("train", "train_logistic_regression", {"target": "y"}),
    ("check", "cross_validate", {}),
)
RUN = "query($id: ID!) { run(id: $id) { metrics { key } modelVersion { number } } }"


async def start(ada: Client, name: str, version: str, *steps: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    return await ada.run_pipeline((await ada.create_pipeline(name, *steps))["pipeline"]["id"], version, modelName="m")


async def test_a_rare_class_is_told_before_the_training_and_the_advice_trains(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", TABLE)
    started = await start(ada, "p", version, ("data", "dataset", {}), *STEPS)
    ended = await ada.wait(started["job"]["id"])
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "TOO_FEW_ROWS")
    assert ended["error"]["message"] == (
        "Step 'check' splits the training and validation rows into 5 folds, but the class 'z' of 'y' has 1 row there and every fold needs one. "
        "Remove the step 'check', or remove the rows of such classes with a filter_rows step and the condition 'y' not_in [\"z\"]."
    )
    statuses = {node["key"]: node["status"] for node in ended["nodes"]}
    assert (statuses["train"], statuses["check"]) == ("SKIPPED", "FAILED")
    assert await ada.one(RUN, id=started["run"]["id"]) == {"metrics": [], "modelVersion": None}

    keep = ("keep", "filter_rows", {"conditions": [{"column": "y", "operator": "not_in", "value": ["z"]}]})
    started = await start(ada, "q", version, ("data", "dataset", {}), keep, *STEPS)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended["error"]
    outputs = {node["key"]: node["output"] for node in ended["nodes"]}
    assert outputs["encode"]["renamed"] == {"color_red": "color_red_2"}
    assert (await ada.one(RUN, id=started["run"]["id"]))["modelVersion"] == {"number": 1}
