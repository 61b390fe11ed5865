"""A training that stops early has the model of its best step, and keeps models of earlier steps as files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run
from workers.ml.early_stopping import EarlyStopping, checkpoint_steps

DATASETS: Any = LazyModule("sklearn.datasets")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
SPLIT = ("split", {"test_fraction": 0.2, "validation_fraction": 0.2})
NOISE = 20


def noisy(name: str) -> pl.DataFrame:
    """A real table with columns of noise, which a training soon learns by heart."""
    data = getattr(DATASETS, f"load_{name}")()
    noise = np.random.default_rng(5).normal(size=(len(data.data), NOISE))
    target = data.target if name == "diabetes" else [str(data.target_names[label]) for label in data.target]
    columns = [*(str(column) for column in data.feature_names), *(f"noise {number}" for number in range(NOISE))]
    return pl.DataFrame(np.hstack([data.data, noise]), schema=columns).with_columns(target=pl.Series(target))


def trained(folder: Path, frame: pl.DataFrame, step: str, parameters: dict[str, Any]) -> tuple[Any, Any]:
    folder.mkdir()
    return run(folder, frame, chain(SPLIT, *(["scale"] if step == "train_mlp" else []), (step, parameters)), target="target")


def predicted(path: Path, frame: pl.DataFrame) -> Any:
    model = TRUST.load_model(path)
    return (model.predict_proba if hasattr(model, "predict_proba") else model.predict)(frame.drop("target"))


TRAININGS = [
    ("train_lightgbm", "breast_cancer", {"learning_rate": 0.3}),
    exhaustive("train_lightgbm", "diabetes", {"learning_rate": 0.3}),
    exhaustive("train_lightgbm", "wine", {"learning_rate": 0.3, "early_stopping_metric": "validation_accuracy"}),
    exhaustive("train_gradient_boosting", "diabetes", {"learning_rate": 0.3, "subsample": 0.7, "early_stopping_metric": "validation_r2"}),
    exhaustive("train_gradient_boosting", "wine", {"learning_rate": 0.3}),
    exhaustive("train_xgboost", "wine", {"early_stopping_min_delta": 0.01}),
    exhaustive("train_xgboost", "diabetes", {}),
    ("train_mlp", "wine", {"learning_rate_init": 0.05, "hidden_layers": [8]}),
]


@pytest.mark.parametrize(("step", "data", "parameters"), TRAININGS)
def test_the_model_is_that_of_a_training_of_as_many_steps_and_so_is_each_checkpoint(
    tmp_path: Path, step: str, data: str, parameters: dict[str, Any]
) -> None:
    frame = noisy(data)
    steps = "max_iter" if step == "train_mlp" else "n_estimators"
    stopping = {**parameters, steps: 400, "early_stopping_rounds": 10, "checkpoint_every": 3}
    result, report = trained(tmp_path / "early", frame, step, stopping)
    metric = parameters.get("early_stopping_metric", "validation_loss")
    values = [value for _, value in report.metric_points[metric]]
    best = result["best_step"]
    assert best + 11 == len(values) < 400, "it ended ten steps after the best one"
    if "early_stopping_min_delta" not in parameters:
        assert best == int(np.argmin(values) if metric.endswith("loss") else np.argmax(values))
    checkpoints = {each["step"]: Path(each["path"]) for each in result["artifacts"] if each["role"] == "CHECKPOINT"}
    assert sorted(checkpoints) == sorted({best, *range(2, len(values), 3)[-10:]})
    assert checkpoints[best] == artifact_path(result, "MODEL")
    shorter = {key: value for key, value in parameters.items() if not key.startswith("early")}
    for at in {best, max(checkpoints)}:
        plain, _ = trained(tmp_path / str(at), frame, step, {**shorter, steps: at + 1})
        assert plain["best_step"] is None
        assert not any(each["role"] == "CHECKPOINT" for each in plain["artifacts"])
        np.testing.assert_array_equal(predicted(checkpoints[at], frame), predicted(artifact_path(plain, "MODEL"), frame))
        if at == best:
            of_test_rows = {key: value for key, value in plain["metrics"].items() if not key.startswith("cv_")}
            assert {key: result["metrics"][key] for key in of_test_rows} == of_test_rows


@pytest.mark.parametrize(
    ("metric", "min_delta", "values", "best_step", "steps"),
    [
        ("validation_loss", 0.0, [3, 2, 2, 2, 2, 1], 1, 5),
        ("validation_loss", 0.0, [math.nan, 2, math.nan, 1, 1, math.inf, 1], 3, 7),
        ("validation_loss", 0.5, [3, 2.6, 2.4, 2.3, 2.2], 2, 5),
        ("validation_accuracy", 0.0, [0.5, 0.6, 0.6, 0.5, 0.5], 1, 5),
        ("validation_r2", 0.0, [-1, math.nan, math.nan, math.nan, 1], 0, 4),
    ],
)
def test_the_best_step_is_the_first_that_beats_all_by_the_least_improvement(
    metric: str, min_delta: float, values: list[float], best_step: int, steps: int
) -> None:
    stopping = EarlyStopping(3, min_delta, metric)
    taken = next((step + 1 for step, value in enumerate(values) if stopping.update(step, {metric: value})), len(values))
    assert (stopping.best_step, taken) == (best_step, steps)
    resumed = EarlyStopping(3, min_delta, metric)
    resumed.restore(stopping.notes)
    assert (resumed.best_step, resumed.best) == (stopping.best_step, stopping.best)


def test_of_many_checkpoints_the_last_ten_are_kept() -> None:
    assert checkpoint_steps(None, 100) == []
    assert checkpoint_steps(30, 100) == [29, 59, 89]
    assert checkpoint_steps(1, 5_000) == list(range(4_990, 5_000))
    assert checkpoint_steps(101, 100) == []


def test_a_curve_that_the_training_has_not_is_refused_before_it_trains(tmp_path: Path) -> None:
    step = ("train_lightgbm", {"early_stopping_rounds": 5, "early_stopping_metric": "validation_r2"})
    error = pipeline_error(tmp_path, noisy("wine"), chain(SPLIT, step), target="target")
    assert error.path is not None
    assert (error.code, error.path[-1]) == ("BAD_PARAMETER", "early_stopping_metric")
    assert "validation_accuracy" in str(error)
