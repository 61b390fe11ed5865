"""At a rung, a trial asks whether it is good enough, and ends there if not: without a model, and with what the decision rests on."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import PipelineRecorder, chain, run
from workers.ml.errors import BadInput
from workers.ml.studies.halving import RungWatch, goes_on, rungs, rungs_of_trial

DATASETS: Any = LazyModule("sklearn.datasets")
SPLIT = ("split", {"strategy": "stratified", "test_fraction": 0.3, "validation_fraction": 0.2})
HALVING = {"metric": "validation_loss", "rungs": [{"number": 0, "steps": 2}, {"number": 1, "steps": 4}]}


@cache
def cancer() -> pl.DataFrame:
    data = DATASETS.load_breast_cancer()
    return pl.DataFrame(data.data[:, :6], schema=list("abcdef")).with_columns(target=pl.Series(data.target))


def test_rungs_grow_by_the_factor_and_brackets_begin_at_one_each() -> None:
    assert rungs(3, 81, 3) == [3, 9, 27]
    assert rungs(5, 5, 2) == []
    assert [[rung["steps"] for rung in rungs_of_trial(number, 3, 81, 3)] for number in range(1, 5)] == [[9, 27], [27], [3, 9, 27], [9, 27]]
    assert rungs_of_trial(2, 3, 81, 3) == [{"number": 2, "steps": 27}]
    assert rungs_of_trial(7, 5, 5, 2) == []


def test_the_best_part_goes_on_and_so_do_the_first_ones() -> None:
    assert [[goes_on(rank, of, 3) for rank in range(1, of + 1)].count(True) for of in range(1, 11)] == [1, 2, 1, 2, 2, 2, 3, 3, 3, 4]


@pytest.mark.parametrize(
    "step",
    [
        ("train_lightgbm", {"n_estimators": 8}),
        ("train_mlp", {}),
        *(exhaustive(step) for step in (("train_xgboost", {"n_estimators": 8}), ("train_gradient_boosting", {"n_estimators": 8}))),
    ],
    ids=str,
)
def test_a_training_ends_at_the_rung_where_it_is_not_good_enough(tmp_path: Path, step: tuple[str, dict[str, Any]]) -> None:
    asked: list[dict[str, Any]] = []
    report = PipelineRecorder()

    def standing(arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append(arguments)
        return {"rank": 2, "of": 3, "goes_on": arguments["rung"] == 0}

    report.answers["rung"] = standing
    definition = chain("scale", SPLIT, step, "cross_validate")
    result, _ = run(tmp_path, cancer(), definition, target="target", halving=HALVING, report=report)
    curve = report.metric_points["validation_loss"]
    assert [each for each, _ in curve] == [0, 1, 2, 3]
    assert asked == [
        {"rung": 0, "step": 1, "value": curve[1][1]},
        {"rung": 1, "step": 3, "value": curve[3][1]},
    ]
    assert {**result, "network": None} == {"kind": "pruned", "network": None, "pruning": {**asked[1], "rank": 2, "of": 3}}
    assert (result["network"] is not None) is (step[0] == "train_mlp")
    assert report.nodes[-2:] == [(step[0], "completed"), ("cross_validate", "skipped")]
    assert "is number 2 of 3 trials there." in report.outputs[step[0]]["note"]
    assert report.checkpoints == []


def test_a_training_that_is_good_enough_is_as_it_would_be_alone(tmp_path: Path) -> None:
    definition = chain(SPLIT, ("train_lightgbm", {"n_estimators": 8}))
    report = PipelineRecorder()
    report.answers["rung"] = lambda _: {"rank": 1, "of": 3, "goes_on": True}
    (tmp_path / "trial").mkdir()
    (tmp_path / "alone").mkdir()
    trial, _ = run(tmp_path / "trial", cancer(), definition, target="target", halving=HALVING, report=report)
    alone, _ = run(tmp_path / "alone", cancer(), definition, target="target")
    assert (trial["kind"], trial["metrics"]) == ("model", alone["metrics"])


def test_a_training_that_has_diverged_fails_at_its_next_rung() -> None:
    watch = RungWatch({"metric": "validation_loss", "rungs": [{"number": 0, "steps": 2}]}, PipelineRecorder())
    watch.check(0, {"validation_loss": math.nan})  # here is no rung
    with pytest.raises(BadInput, match="The training has diverged: after 2 steps, validation_loss is inf"):
        watch.check(1, {"validation_loss": math.inf})


def test_an_attempt_that_resumes_asks_nothing_again() -> None:
    report = PipelineRecorder()
    asked: list[int] = []

    def standing(arguments: dict[str, Any]) -> dict[str, Any]:
        asked.append(arguments["rung"])
        return {"rank": 1, "of": 1, "goes_on": True}

    report.answers["rung"] = standing
    watch = RungWatch({"metric": "loss", "rungs": rungs_of_trial(3, 3, 81, 3)}, report)
    watch.begin(9)
    for step in range(9, 81):
        watch.check(step, {"loss": 1.0})
    assert asked == [2]
