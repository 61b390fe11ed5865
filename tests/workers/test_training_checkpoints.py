"""An interrupted training resumes from its last checkpoint and makes the same model as an uninterrupted one."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, run

ROWS = 600
RNG = np.random.default_rng(3)
FRAME = pl.DataFrame({f"x{number}": RNG.normal(size=ROWS) for number in range(6)}).with_columns(
    amount=pl.col("x0") * 3 + pl.col("x1") ** 2 + pl.Series(RNG.normal(size=ROWS)),
    label=pl.when(pl.col("x0") + pl.col("x2") > 0.4)
    .then(pl.lit("high"))
    .when(pl.col("x1") > 0)
    .then(pl.lit("middle"))
    .otherwise(pl.lit("low")),
)
SPLIT = ("split", {"test_fraction": 0.2, "validation_fraction": 0.2})
TRAININGS: list[tuple[str, dict[str, Any]]] = [
    ("train_lightgbm", {}),
    ("train_lightgbm", {"subsample": 0.7, "colsample_bytree": 0.6, "n_estimators": 120}),
    ("train_lightgbm", {"class_weight": "balanced"}),
    ("train_lightgbm", {"learning_rate": 0.5, "early_stopping_rounds": 15}),
    ("train_lightgbm", {"learning_rate": 0.4, "early_stopping_rounds": 60, "subsample": 0.8, "n_estimators": 300}),
    ("train_gradient_boosting", {"n_estimators": 40}),
    ("train_gradient_boosting", {"n_estimators": 40, "subsample": 0.6}),
    ("train_gradient_boosting", {"learning_rate": 0.5, "early_stopping_rounds": 8}),
    ("train_random_forest", {"n_estimators": 40}),
    ("train_random_forest", {"n_estimators": 40, "class_weight": "balanced"}),
    ("train_mlp", {"max_iter": 12, "hidden_layers": [8, 4], "batch_size": 50, "learning_rate_init": 0.01}),
    ("train_mlp", {"max_iter": 60, "early_stopping_rounds": 4, "checkpoint_every": 3, "learning_rate_init": 0.05, "hidden_layers": [8]}),
    ("train_mlp", {"max_iter": 40, "patience": 1, "learning_rate_init": 0.5, "activation": "tanh", "batch_size": 1_000}),
]

QUICK = {(1, "label"), (11, "label")}  # of boosting and a neural network


class Interrupted(Exception):
    """Stands for the death of the process."""


@dataclass
class InterruptingRecorder(PipelineRecorder):
    """Interrupts the training some points after some checkpoints: like a kill, at an arbitrary place."""

    checkpoint_count: int = 2
    points_left: int = 3

    def metric(self, key: str, step: int, value: float) -> None:
        if len(self.checkpoints) >= self.checkpoint_count:
            self.points_left -= 1
            if self.points_left < 0:
                raise Interrupted
        super().metric(key, step, value)


def interrupted_training(
    folder: Path, definition: dict[str, Any], target: str, checkpoint_count: int = 1
) -> tuple[dict[str, Any], InterruptingRecorder]:
    """Return what the interrupted training left: its last checkpoint and its reports."""
    folder.mkdir()
    recorder = InterruptingRecorder(checkpoint_count=checkpoint_count)
    with pytest.raises(Interrupted):
        run(folder, FRAME, definition, target=target, checkpointing={"interval": 0.0}, report=recorder)
    state, path = recorder.checkpoints[-1]
    return {"state": state, "path": str(path)}, recorder


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def curves(report: PipelineRecorder) -> dict[str, list[tuple[int, float]]]:
    """The points by key; of how long the steps took, only which there are."""
    points = report.metric_points
    return {key: [(step, 0.0 if key == "step_seconds" else value) for step, value in points[key]] for key in points}


def model_contents(result: Mapping[str, Any]) -> tuple[str, list[bytes]]:
    """Return the types, values and arrays of a model file. Object ids only tell which objects shared memory, so they are left out."""
    with zipfile.ZipFile(artifact_path(result, "MODEL")) as archive:
        names = archive.namelist()
        schema = re.sub(r'"__id__":\d+', "", archive.read("schema.json").decode())
        return schema, [archive.read(name) for name in names if name.endswith(".npy")]


@pytest.mark.parametrize(
    ("step", "parameters", "target"),
    [
        (step, parameters, target) if (number, target) in QUICK else exhaustive(step, parameters, target)
        for target in ("label", "amount")
        for number, (step, parameters) in enumerate(TRAININGS)
    ],
)
def test_the_model_and_its_curves_are_those_of_a_training_at_one_go(
    tmp_path: Path, step: str, parameters: dict[str, Any], target: str
) -> None:
    if target == "amount" and "class_weight" in parameters:
        parameters = {**parameters, "class_weight": None}
    exclude = {"label", "amount"} - {target}
    definition = chain(SPLIT, (step, {**parameters, "exclude": sorted(exclude)}))
    expected, uninterrupted = run(make_folder(tmp_path / "whole"), FRAME, definition, target=target)
    checkpoint, first = interrupted_training(tmp_path / "first", definition, target)
    done = checkpoint["state"]["done"]
    result, second = run(
        make_folder(tmp_path / "second"), FRAME, definition, target=target, checkpointing={"interval": 0.0, "checkpoint": checkpoint}
    )
    word = {"train_random_forest": "tree", "train_mlp": "epoch"}.get(step, "round")
    assert second.resume_messages == [f"Resumes from {word} {done} of {checkpoint['state']['total']}."]
    assert model_contents(result) == model_contents(expected)
    assert result["metrics"] == expected["metrics"]
    for key, points in curves(second).items():
        earlier_points = [point for point in curves(first).get(key, []) if point[0] < done]
        assert earlier_points + points == curves(uninterrupted)[key]


@pytest.mark.parametrize(
    ("step", "parameters"), [TRAININGS[1], *(exhaustive(*training) for training in (TRAININGS[0], *TRAININGS[5:7], TRAININGS[8]))]
)
def test_checkpoints_change_nothing_of_a_training_that_is_not_broken_off(tmp_path: Path, step: str, parameters: dict[str, Any]) -> None:
    definition = chain((step, {**parameters, "exclude": ["amount"]}))
    expected, _ = run(make_folder(tmp_path / "a"), FRAME, definition, target="label")
    result, report = run(make_folder(tmp_path / "b"), FRAME, definition, target="label", checkpointing={"interval": 0.0})
    assert report.checkpoints
    assert model_contents(result) == model_contents(expected)


@pytest.mark.parametrize("damage", [exhaustive("other data"), "no model", exhaustive("another type")])
def test_a_checkpoint_of_something_else_is_not_used_and_the_training_starts_over(tmp_path: Path, damage: str) -> None:
    step = "train_gradient_boosting" if damage == "another type" else "train_lightgbm"
    definition = chain((step, {"exclude": ["amount"], "n_estimators": 30}))
    checkpoint, _ = interrupted_training(tmp_path / "first", definition, "label")
    frame = FRAME
    if damage == "other data":
        frame = FRAME.with_columns(x0=pl.col("x0") + 1)
    elif damage == "no model":
        Path(checkpoint["path"]).write_bytes(b"tree\nnonsense")
    else:
        import pickle

        import skops.io

        skops.io.dump({"model": pickle.Unpickler}, checkpoint["path"])
    result, report = run(
        make_folder(tmp_path / "second"), frame, definition, target="label", checkpointing={"interval": 0.0, "checkpoint": checkpoint}
    )
    expected, uninterrupted = run(make_folder(tmp_path / "whole"), frame, definition, target="label")
    (message,) = report.resume_messages
    assert message.startswith("The checkpoint of an earlier attempt is not used: ")
    assert message.endswith("Training starts from the beginning.")
    assert curves(report) == curves(uninterrupted)
    assert model_contents(result) == model_contents(expected)


def test_what_is_kept_is_small_and_holds_no_code(tmp_path: Path) -> None:
    definition = chain(("train_lightgbm", {"exclude": ["amount"], "n_estimators": 30}))
    checkpoint, _ = interrupted_training(tmp_path / "first", definition, "label")
    assert len(json.dumps(checkpoint["state"])) < 1_000
    assert Path(checkpoint["path"]).read_text().startswith("tree\nversion=v4\n")
