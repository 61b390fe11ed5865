"""Data that breaks training libraries: a training refuses it with a named error at the first try."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.workers.pipeline_runner import PipelineRecorder, chain, pipeline_error, run
from workers.ml.errors import BadInput
from workers.ml.steps import STEPS

ROWS = 60
RNG = np.random.default_rng(0)
NUMBERS = {"a": RNG.normal(size=ROWS), "b": RNG.normal(size=ROWS)}
LABELS = RNG.choice(["u", "v"], ROWS)
TRAINERS = [key for key, step in STEPS.items() if step.type == "TRAIN"]


def frame(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame({**NUMBERS, "y": LABELS, **columns})


NASTY: dict[str, pl.DataFrame] = {
    "a column without a number": frame(c=pl.Series([None] * ROWS, dtype=pl.Float64)),
    "a column without a text": frame(c=pl.Series([None] * ROWS, dtype=pl.String)),
    "one label": frame(y=["u"] * ROWS),
    "one number to predict": frame(y=[1.0] * ROWS),
    "a label met once": frame(y=["u"] * (ROWS - 1) + ["v"]),
    "as many labels as rows": frame(y=[f"label {row}" for row in range(ROWS)]),
    "a label that ends with NUL": frame(y=["u\0", "u"] * (ROWS // 2)),
    "hardly a label": frame(y=[None] * (ROWS - 3) + ["u", "v", "u"]),
    "one row": frame()[:1],
    "two rows": frame()[:2],
    "no row": frame()[:0],
    "nothing but the target": frame().select("y"),
    "infinite values": frame(c=[math.inf] + [0.0] * (ROWS - 1)),
    "values near the end of the floats": frame(c=[1e308, -1e308] * (ROWS // 2)),
    "a target near the end of the floats": frame(y=[1e308, -1e308] * (ROWS // 2)),
    "a target whose square is infinite": frame(y=[1e200, -1e200] * (ROWS // 2)),
    "whole numbers of 64 bits": frame(c=pl.Series([2**64 - 1, 0] * (ROWS // 2), dtype=pl.UInt64)),
    "whole numbers of 64 bits to predict": frame(y=[2**62, -(2**62)] * (ROWS // 2)),
    "the least of numbers": frame(c=[5e-324, 0.0] * (ROWS // 2)),
    "lists": frame(c=[[1, 2]] * ROWS),
    "names that are markup": frame(**{'"[]{},:\n': NUMBERS["a"], "": NUMBERS["b"]}),
    "constant features": frame(a=[1.0] * ROWS, b=[2.0] * ROWS),
}

QUICK = {  # most trainers refuse these, so that few models are made; and one that all learn from
    "a column without a number",
    "one label",
    "hardly a label",
    "no row",
    "infinite values",
    "a target near the end of the floats",
    "names that are markup",
}


def outcome(folder: Path, frame: pl.DataFrame, definition: dict[str, Any], recorder: PipelineRecorder) -> BadInput | None:
    """Return the refusal, None if a model was trained; other exceptions propagate."""
    try:
        run(folder, frame, definition, target="y", report=recorder)
    except BadInput as error:
        return error
    return None


@pytest.mark.parametrize(("name", "one_in"), [*((name, 4) for name in NASTY if name in QUICK), *(exhaustive(name, 1) for name in NASTY)])
def test_nasty_data_are_learnt_from_or_refused(tmp_path: Path, name: str, one_in: int) -> None:
    """By all trainers, as they are and after transforms; in `make test` by some, for each kind of data by others."""
    trainings = [(preparation, trainer) for preparation in ([], ["impute", "one_hot_encode", "scale"]) for trainer in TRAINERS]
    for preparation, trainer in trainings[list(NASTY).index(name) % one_in :: one_in]:
        fewer = {"n_estimators": 3} if "n_estimators" in STEPS[trainer].parameters.model_fields else {}
        recorder = PipelineRecorder()
        error = outcome(tmp_path, NASTY[name], chain(*preparation, (trainer, fewer)), recorder)
        if error is not None:
            assert error.path, trainer
            assert error.message.endswith("."), trainer
            assert error.code != "UNSUITABLE_DATA", (trainer, error.message)
            assert "failed" in dict(recorder.nodes).values(), trainer


@pytest.mark.parametrize(
    ("name", "steps", "code", "words"),
    [
        ("values near the end of the floats", ["train_random_forest"], "VALUES_TOO_LARGE", "as large as 1e+308"),
        ("a target whose square is infinite", ["train_ridge_regression"], "VALUES_TOO_LARGE", "in another unit"),
        ("a column without a text", ["one_hot_encode", "train_lightgbm"], "ALL_MISSING", "'c' has no value in any of the"),
        ("a label that ends with NUL", ["train_lightgbm"], "BAD_LABEL", "Clean the labels"),
        ("a target near the end of the floats", ["train_logistic_regression"], "CONTINUOUS_TARGET", "not integers"),
    ],
)
def test_what_libraries_stumble_over_is_named(tmp_path: Path, name: str, steps: list[str], code: str, words: str) -> None:
    error = pipeline_error(tmp_path, NASTY[name], chain(*steps), target="y")
    assert error.code == code
    assert words in error.message


def test_a_value_that_a_step_made_too_large_is_named_with_its_column(tmp_path: Path) -> None:
    steps = [("impute", {"columns": ["c"], "strategy": "constant", "fill_value": 1e300}), "train_random_forest"]
    error = pipeline_error(tmp_path, frame(c=[None, 1.0] * (ROWS // 2)), chain(*steps), target="y")
    assert (error.code, error.column) == ("VALUES_TOO_LARGE", "c")
    assert "as large as 1e+300 after the steps before 'train_random_forest'" in error.message
