"""A training that was broken off goes on from its last checkpoint, and ends with the very model that it would have made at one go."""

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

from tests.workers.pipelines import Recorder, artifact, chain, run

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
EVERY_KIND: list[tuple[str, dict[str, Any]]] = [
    ("train_lightgbm", {}),
    ("train_lightgbm", {"subsample": 0.7, "colsample_bytree": 0.6, "n_estimators": 120}),
    ("train_lightgbm", {"class_weight": "balanced"}),
    ("train_lightgbm", {"learning_rate": 0.5, "early_stopping_rounds": 15}),
    ("train_lightgbm", {"learning_rate": 0.4, "early_stopping_rounds": 60, "subsample": 0.8, "n_estimators": 300}),
    ("train_gradient_boosting", {"n_estimators": 40}),
    ("train_gradient_boosting", {"n_estimators": 40, "subsample": 0.6}),
    ("train_random_forest", {"n_estimators": 40}),
    ("train_random_forest", {"n_estimators": 40, "class_weight": "balanced"}),
]


class BrokenOff(Exception):
    """The process is gone."""


@dataclass
class Doomed(Recorder):
    """Ends the training after some checkpoints and a few points more, as a kill does: at no place of its own choosing."""

    after: int = 2
    more: int = 3

    def metric(self, key: str, step: int, value: float) -> None:
        if len(self.kept) >= self.after:
            self.more -= 1
            if self.more < 0:
                raise BrokenOff
        super().metric(key, step, value)


def broken_off(folder: Path, definition: dict[str, Any], target: str, after: int = 1) -> tuple[dict[str, Any], Doomed]:
    """What the broken training left for the next: its last checkpoint, and all that it told."""
    folder.mkdir()
    report = Doomed(after=after)
    with pytest.raises(BrokenOff):
        run(folder, FRAME, definition, target=target, keeping={"every": 0.0}, report=report)
    state, path = report.kept[-1]
    return {"state": state, "path": str(path)}, report


def numbered(folder: Path) -> Path:
    folder.mkdir()
    return folder


def contents(result: Mapping[str, Any]) -> tuple[str, list[bytes]]:
    """All that a model file says: types, values and arrays. The numbers of its objects tell which of them shared memory, and nothing else."""
    with zipfile.ZipFile(artifact(result, "MODEL")) as archive:
        names = archive.namelist()
        schema = re.sub(r'"__id__":\d+', "", archive.read("schema.json").decode())
        return schema, [archive.read(name) for name in names if name.endswith(".npy")]


@pytest.mark.parametrize("target", ["label", "amount"])
@pytest.mark.parametrize(("step", "parameters"), EVERY_KIND)
def test_the_model_and_its_curves_are_those_of_a_training_at_one_go(
    tmp_path: Path, step: str, parameters: dict[str, Any], target: str
) -> None:
    if target == "amount" and "class_weight" in parameters:
        parameters = {**parameters, "class_weight": None}
    exclude = {"label", "amount"} - {target}
    definition = chain(SPLIT, (step, {**parameters, "exclude": sorted(exclude)}))
    whole, at_one_go = run(numbered(tmp_path / "whole"), FRAME, definition, target=target)
    found, first = broken_off(tmp_path / "first", definition, target)
    done = found["state"]["done"]
    result, second = run(numbered(tmp_path / "second"), FRAME, definition, target=target, keeping={"every": 0.0, "found": found})
    word = "tree" if step == "train_random_forest" else "round"
    assert second.told == [f"Goes on from {word} {done} of {found['state']['total']}."]
    assert contents(result) == contents(whole)
    assert result["metrics"] == whole["metrics"]
    for key, points in second.points.items():
        kept = [point for point in first.points.get(key, []) if point[0] < done]
        assert kept + points == at_one_go.points[key]


def test_checkpoints_change_nothing_of_a_training_that_is_not_broken_off(tmp_path: Path) -> None:
    for number, (step, parameters) in enumerate(EVERY_KIND[:2] + EVERY_KIND[5:8]):
        definition = chain((step, {**parameters, "exclude": ["amount"]}))
        whole, _ = run(numbered(tmp_path / f"a{number}"), FRAME, definition, target="label")
        kept, report = run(numbered(tmp_path / f"b{number}"), FRAME, definition, target="label", keeping={"every": 0.0})
        assert report.kept
        assert contents(kept) == contents(whole)


@pytest.mark.parametrize("damage", ["other data", "no model", "another type"])
def test_a_checkpoint_of_something_else_is_not_used_and_the_training_starts_over(tmp_path: Path, damage: str) -> None:
    step = "train_gradient_boosting" if damage == "another type" else "train_lightgbm"
    definition = chain((step, {"exclude": ["amount"], "n_estimators": 30}))
    found, _ = broken_off(tmp_path / "first", definition, "label")
    frame = FRAME
    if damage == "other data":
        frame = FRAME.with_columns(x0=pl.col("x0") + 1)
    elif damage == "no model":
        Path(found["path"]).write_bytes(b"tree\nnonsense")
    else:
        import pickle

        import skops.io

        skops.io.dump({"model": pickle.Unpickler}, found["path"])
    result, report = run(numbered(tmp_path / "second"), frame, definition, target="label", keeping={"every": 0.0, "found": found})
    whole, at_one_go = run(numbered(tmp_path / "whole"), frame, definition, target="label")
    (told,) = report.told
    assert told.startswith("The checkpoint of an earlier attempt is not used: ")
    assert told.endswith("The training starts from its beginning.")
    assert report.points == at_one_go.points
    assert contents(result) == contents(whole)


def test_what_is_kept_is_small_and_holds_no_code(tmp_path: Path) -> None:
    definition = chain(("train_lightgbm", {"exclude": ["amount"], "n_estimators": 30}))
    found, _ = broken_off(tmp_path / "first", definition, "label")
    assert len(json.dumps(found["state"])) < 1_000
    assert Path(found["path"]).read_text().startswith("tree\nversion=v4\n")
