"""Plausible tables that libraries stumble over: each ends in a result, or in an error that names node and column and a way out that works."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive, few
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, pipeline_error, run
from workers.ml.errors import BadInput
from workers.ml.steps import STEPS

TRUST: Any = LazyModule("workers.ml.artifacts.trust")
ROWS = 60
NUMBERS = np.random.default_rng(3).normal(size=(ROWS, 2))
LABELS = ["u" if row % 2 else "v" for row in range(ROWS)]
COLORS = ["red" if row % 3 else "blue" for row in range(ROWS)]


def table(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"x": NUMBERS[:, 0], "z": NUMBERS[:, 1], "y": LABELS, **columns})


def missing(dtype: Any) -> pl.Series:
    return pl.Series([None] * ROWS, dtype=dtype)


TABLES: dict[str, pl.DataFrame] = {
    "ordinary": table(),
    "constant columns": table(x=[1.0] * ROWS, z=[2] * ROWS),
    "one row": table()[:1],
    "six rows": table()[:6],
    "one class": table(y=["u"] * ROWS),
    "a class with one row": table(y=[*LABELS[:-1], "w"]),
    "a class with two rows": table(y=[*LABELS[:-2], "w", "w"]),
    "as many classes as rows": table(y=[f"label {row}" for row in range(ROWS)]),
    "a column without a number": table(z=missing(pl.Float64)),
    "a column without a text": table(z=missing(pl.String)),
    "some missing numbers": table(x=[None if row % 5 == 0 else float(row) for row in range(ROWS)]),
    "two equal columns": table(z=NUMBERS[:, 0]),
    "text": table(z=COLORS),
    "a category as another column is named": table(x=COLORS, x_red=NUMBERS[:, 1]),
    "a text of its own in each row": table(z=[f"value {row}" for row in range(ROWS)]),
    "infinite values": table(x=[math.inf, -math.inf, *NUMBERS[2:, 0]]),
    "dates": table(z=pl.Series(range(ROWS)).cast(pl.Date)),
    "a target with missing values": table(y=[None if row % 4 == 0 else label for row, label in enumerate(LABELS)]),
    "a target without a value": table(y=missing(pl.String)),
    "a boolean target": table(y=[row % 2 == 0 for row in range(ROWS)]),
    "one number to predict": table(y=[1.5] * ROWS),
    "numbers to predict": table(y=NUMBERS[:, 0] * 3),
    "whole numbers to predict": table(y=[row * 7 for row in range(ROWS)]),
    "an infinite number to predict": table(y=[math.inf, *NUMBERS[1:, 0]]),
    "dates to predict": table(y=pl.Series(range(ROWS)).cast(pl.Date)),
    "names that are no words": table().rename({"x": "1", "z": ' {"a":1} '}),
    "only the target": table().select("y"),
}  # fmt: skip
QUICK = {"a class with one row", "six rows"}
FEW = {"n_estimators": 3}
PREPARATIONS: list[list[Any]] = [
    [],
    [("impute", {"strategy": "constant", "fill_value": 1.5}), "one_hot_encode", "scale"],
    [("split", {"strategy": "random", "validation_fraction": 0.2}), "ordinal_encode"],
    [("split", {"strategy": "stratified", "stratify_by": "y"}), ("one_hot_encode", {"max_categories": 2})],
]
TRAININGS: list[list[Any]] = [
    ["train_logistic_regression", ("cross_validate", {"folds": 20}), ("evaluate", {"part": "validation"})],
    ["train_ridge_regression", "cross_validate"],
    [("train_lightgbm", FEW), "evaluate", "cross_validate"],
    [("train_k_means", {"n_clusters": 8}), "evaluate"],
    [],
]
LIBRARY_WORDS = ("sklearn", "verbose_feature_names_out", "n_splits", "Input X", "LightGBM]", "polars", "numpy", "dtype", "Traceback")


def check_error(error: BadInput, definition: dict[str, Any], frame: pl.DataFrame, recorder: PipelineRecorder) -> None:
    """The error names a node that has failed, a column of the table, and advice; no words of a library reach the user."""
    assert error.code != "UNSUITABLE_DATA", recorder.log_lines
    assert error.path is not None
    assert error.path[:2] == ["definition", "nodes"]
    node = definition["nodes"][int(error.path[2])]
    assert recorder.errors.keys() == {node["key"]}
    if len(error.path) > 4:
        assert error.path[4] in STEPS[node["step"]].parameters.model_fields, error.path
    assert error.column is None or error.column in frame.columns
    assert len(error.message.split(". ")) >= 2, error.message
    assert error.message.endswith(".")
    assert not any(word in error.message for word in LIBRARY_WORDS), error.message


@pytest.mark.parametrize("name", [name if name in QUICK else exhaustive(name) for name in TABLES])
def test_a_table_ends_in_a_result_or_in_advice(tmp_path: Path, name: str) -> None:
    frame = TABLES[name]
    for preparation in PREPARATIONS:
        for training in TRAININGS if preparation else TRAININGS[:-1]:
            definition = chain(*preparation, *training)
            recorder = PipelineRecorder()
            try:
                run(tmp_path, frame, definition, target="y" if training else None, report=recorder)
            except BadInput as error:
                check_error(error, definition, frame, recorder)
            else:
                assert not recorder.errors


def test_a_category_named_as_another_column_trains_under_a_name_of_its_own_that_is_told(tmp_path: Path) -> None:
    frame = TABLES["a category as another column is named"]
    result, recorder = run(tmp_path, frame, chain("one_hot_encode", "scale", "train_logistic_regression"), target="y")
    assert recorder.outputs["one_hot_encode"]["renamed"] == {"x_red": "x_red_2"}
    assert "there is one of that name already; it is called 'x_red_2'." in "".join(recorder.log_lines)
    importance = json.loads(artifact_path(result, "FEATURE_IMPORTANCE").read_text())
    assert sorted(feature["name"] for feature in importance["features"]) == ["x_blue", "x_red", "x_red_2", "z"]
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    assert len(set(model["features"].get_feature_names_out())) == 4
    assert len(model.predict(frame)) == ROWS

    result, recorder = run(tmp_path, frame, chain(("one_hot_encode", {"columns": ["x"]})))
    assert pl.read_parquet(result["parquet"]).columns == ["x_blue", "x_red_2", "z", "y", "x_red"]
    result, recorder = run(tmp_path, table(z=COLORS), chain("one_hot_encode", "train_logistic_regression"), target="y")
    assert "renamed" not in recorder.outputs["one_hot_encode"]
    assert list(TRUST.load_model(artifact_path(result, "MODEL"))["features"].get_feature_names_out()) == ["x", "z_blue", "z_red"]


def steps_with(error: BadInput, steps: Sequence[Any]) -> list[Any]:
    """Follow the advice of a cross-validation that is refused: filter as it says, or set the folds, or else remove the step."""
    if "not_in" in error.message:
        values = json.loads(error.message.split("not_in ")[1].removesuffix("."))
        return [("filter_rows", {"conditions": [{"column": error.column, "operator": "not_in", "value": values}]}), *steps]
    if "folds to at most" in error.message:
        return [*steps[:-1], ("cross_validate", {"folds": int(error.message.split("at most ")[1].split(",")[0].rstrip("."))})]
    assert "Remove the step 'cross_validate'" in error.message
    return list(steps[:-1])


@pytest.mark.parametrize(
    ("frame", "folds", "code"),
    few(
        2,
        [
            (TABLES["a class with one row"], 5, "TOO_FEW_ROWS"),
            (TABLES["a class with two rows"], 5, "TOO_FEW_ROWS"),
            (TABLES["a class with two rows"].with_columns(y=pl.Series([*LABELS[:-1], "w"])), 20, "TOO_FEW_ROWS"),
            (table(y=[*["u"] * 57, "v", "v", "v"]), 5, "TOO_FEW_ROWS"),
            (TABLES["as many classes as rows"], 2, "TOO_FEW_ROWS"),
            (TABLES["numbers to predict"][:20], 20, "TOO_FEW_ROWS"),
        ],
    ),
)
def test_a_cross_validation_that_cannot_be_done_is_refused_before_the_training_and_its_advice_works(
    tmp_path: Path, frame: pl.DataFrame, folds: int, code: str
) -> None:
    recorder = PipelineRecorder()
    trainer = "train_ridge_regression" if frame["y"].dtype.is_numeric() else "train_logistic_regression"
    steps = [("split", {"strategy": "random"}), trainer, ("cross_validate", {"folds": folds})]
    error = pipeline_error(tmp_path, frame, chain(*steps), target="y", report=recorder)
    assert (error.code, error.column) == (code, "y")
    assert (recorder.metric_points, recorder.checkpoints) == ({}, [])
    assert [(key, status) for key, status in recorder.nodes if status != "running"][-2:] == [
        (trainer, "skipped"),
        ("cross_validate", "failed"),
    ]
    (tmp_path / "again").mkdir()
    result, recorder = run(tmp_path / "again", frame, chain(*steps_with(error, steps)), target="y")
    assert (result["kind"], recorder.errors) == ("model", {})


@pytest.mark.parametrize(
    "error", [ValueError("Found array with 0 feature(s)"), TypeError("a bug"), MemoryError()], ids=lambda error: type(error).__name__
)
def test_a_step_that_fails_while_it_only_evaluates_does_not_take_the_model_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setitem(STEPS, "measure_badly", replace(STEPS["evaluate"], key="measure_badly", title="Measure badly", run=fail))
    definition = chain(("train_lightgbm", FEW), "measure_badly", "evaluate")
    result, recorder = run(tmp_path, TABLES["ordinary"], definition, target="y")
    assert result["kind"] == "model"
    assert "accuracy" in result["metrics"]
    assert TRUST.load_model(artifact_path(result, "MODEL")).predict(TABLES["ordinary"]).shape == (ROWS,)
    assert dict(recorder.nodes) == {
        "dataset": "completed",
        "train_lightgbm": "completed",
        "measure_badly": "failed",
        "evaluate": "completed",
    }
    code = "UNSUITABLE_DATA" if isinstance(error, ValueError) else "BODY_FAILED"
    message = recorder.errors["measure_badly"]["message"]
    assert recorder.errors["measure_badly"]["code"] == code
    assert message.startswith("Step 'measure_badly' (Measure badly) ")
    assert not str(error) or str(error) not in message
    assert str(error) in "".join(recorder.log_lines)
    assert recorder.log_lines[-1] == f"{message} The trained model is kept."


def test_what_nobody_foresaw_is_refused_with_the_step_and_the_library_speaks_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> dict[str, Any]:
        raise ValueError("Input X contains\n nothing good.")

    monkeypatch.setitem(STEPS, "scale", replace(STEPS["scale"], run=fail))
    recorder = PipelineRecorder()
    error = pipeline_error(tmp_path, TABLES["ordinary"], chain("scale", "train_k_means"), report=recorder)
    assert (error.code, error.path) == ("UNSUITABLE_DATA", ["definition", "nodes", "1", "parameters"])
    assert "Input X" not in error.message
    assert recorder.log_lines == ["ValueError in step 'scale': Input X contains nothing good."]
    assert recorder.errors.keys() == {"scale"}


@pytest.mark.parametrize(
    ("frame", "steps", "code", "words"),
    [
        (TABLES["only the target"], ["train_logistic_regression"], "NO_COLUMNS", "besides the target 'y'. Upload a version with more columns"),
        (table()[["x", "y"]], [("drop_columns", {"columns": ["x"]}), "train_lightgbm"], "NO_COLUMNS", "Drop or exclude fewer columns."),
        (TABLES["six rows"], ["train_logistic_regression"], "TOO_FEW_ROWS", "Add rows or filter fewer, 7 are the least."),
        (table()[:7], ["train_logistic_regression"], "TOO_FEW_ROWS", "or link a split step with a test_fraction of 0.3."),
        (TABLES["six rows"], [("train_k_means", {"n_clusters": 8})], "TOO_FEW_ROWS", "Set n_clusters to at most 5, add rows or filter fewer."),
        (TABLES["a column without a number"], ["train_logistic_regression"], "MISSING_VALUES", "No row has a value to learn from: drop the column"),
        (table(y=[f"label {row}" for row in range(ROWS)] ).sample(300, with_replacement=True, seed=1).with_columns(y=pl.Series([f"l{n}" for n in range(300)])),
         ["train_lightgbm"], "CONTINUOUS_TARGET", "Keep fewer classes with a filter_rows step, or choose another target."),
        (TABLES["numbers to predict"], [("train_lightgbm", {"problem_type": "classification"})], "CONTINUOUS_TARGET", "Set problem_type to regression"),
        (TABLES["numbers to predict"], ["train_logistic_regression"], "CONTINUOUS_TARGET", "Use a regression step, or choose another target."),
    ],
)  # fmt: skip
def test_the_advice_fits_the_table(tmp_path: Path, frame: pl.DataFrame, steps: list[Any], code: str, words: str) -> None:
    error = pipeline_error(tmp_path, frame, chain(*steps), target="y")
    assert (error.code, words in error.message) == (code, True), error.message


def test_the_recommended_split_of_seven_rows_trains(tmp_path: Path) -> None:
    result, _ = run(
        tmp_path, table()[:7], chain(("split", {"test_fraction": 0.3, "strategy": "random"}), "train_logistic_regression"), target="y"
    )
    assert result["kind"] == "model"


def test_whole_numbers_are_filled_with_a_fraction(tmp_path: Path) -> None:
    frame = table(z=[*range(ROWS - 1), 0])
    result, recorder = run(
        tmp_path, frame, chain(("impute", {"columns": ["z"], "strategy": "constant", "fill_value": 1.5}), "train_lightgbm"), target="y"
    )
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    filled = model["features"].transform(pl.DataFrame({"x": [0.0], "z": pl.Series([None], dtype=pl.Float64)}))
    assert 1.5 in filled[0].tolist()
    assert recorder.outputs["impute"]["filled"] == {}
