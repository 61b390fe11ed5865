"""Integrated gradients of networks: exact, compared with finite differences and with closed forms."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, run
from tests.workers.test_explaining import explain, numbers

TRUST: Any = LazyModule("workers.ml.artifacts.trust")
NETWORKS: Any = LazyModule("workers.ml.explaining.networks")
ACTIVATIONS = ("relu", "tanh", "logistic")


def network(units: list[int], activation: str, seed: int = 0, scale: float = 1.0) -> Any:
    random = np.random.default_rng(seed)
    weights = [random.normal(size=sizes) * scale for sizes in pairwise(units)]
    biases = [random.normal(size=size) for size in units[1:]]
    return NETWORKS.Network.of(SimpleNamespace(coefs_=weights, intercepts_=biases, activation=activation))


def contributions(made: Any, rows: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Outputs × rows × inputs."""
    return np.stack([made.contributions(baseline, row) for row in rows], axis=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_gradient_is_what_finite_differences_say(activation: str) -> None:
    made = network([4, 6, 5, 3], activation)
    point, step = np.random.default_rng(1).normal(size=4), 1e-6
    ends = [made.outputs(point + side * step * np.eye(4)) for side in (1, -1)]
    gradient = made.gradient(point[None], np.ones(1))
    assert gradient == pytest.approx((ends[0] - ends[1]).T / (2 * step), abs=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1.0, exhaustive(8.0)])
def test_contributions_sum_up_to_the_difference_of_the_predictions_and_are_the_mean_gradient(activation: str, scale: float) -> None:
    made = network([4, 8, 8, 8, 2], activation, scale=scale)
    random = np.random.default_rng(2)
    rows, baseline = random.normal(size=(3, 4)) * 3, random.normal(size=4)
    found = contributions(made, rows, baseline)
    differences = (made.outputs(rows) - made.outputs(baseline[None])).T
    assert found.shape == (2, 3, 4)
    assert found.sum(axis=2) == pytest.approx(differences, rel=1e-9, abs=1e-9)
    # The mean gradient at very many points of the path, which is only nearly exact where it has jumps.
    count = 20_000
    shares = (np.arange(count) + 0.5) / count
    path = baseline + shares[:, None] * (rows[0] - baseline)
    mean = made.gradient(path, np.full(count, 1 / count))
    assert found[:, 0] == pytest.approx(mean * (rows[0] - baseline), rel=1e-3, abs=1e-3 * np.abs(differences).max())


def test_where_no_unit_changes_its_side_a_network_is_a_linear_model() -> None:
    made = network([3, 5, 1], "relu")
    made.biases[0][:] = 100
    coefficients = made.weights[0] @ made.weights[1][:, 0]
    rows, baseline = np.random.default_rng(3).normal(size=(4, 3)), np.zeros(3)
    assert contributions(made, rows, baseline)[0] == pytest.approx(coefficients * rows, abs=1e-9)
    assert len(made.bends(baseline, rows[0])) == 2


def test_a_unit_that_changes_its_side_halfway_counts_half() -> None:
    """y = max(x - 1, 0) from x = 0 to x = 2, and a column that it does not depend on."""
    estimator = SimpleNamespace(
        coefs_=[np.array([[1.0], [0.0]]), np.array([[1.0]])], intercepts_=[np.array([-1.0]), np.zeros(1)], activation="relu"
    )
    made = NETWORKS.Network.of(estimator)
    found = contributions(made, np.array([[2.0, 7.0]]), np.zeros(2))
    assert found.tolist() == [[[1.0, 0.0]]]


@pytest.mark.parametrize(
    ("target", "activation", "scale", "labels"),
    [
        ("kind", "relu", "raw score", ["high", "low", "middle"]),
        exhaustive("k", "tanh", "log-odds", ["yes"]),
        exhaustive("y", "logistic", "value", [None]),
    ],
)
def test_contributions_are_on_the_scale_that_the_model_computes_on(
    tmp_path: Path, target: str, activation: str, scale: str, labels: list[str | None]
) -> None:
    frame = numbers().with_columns(kind=pl.Series(["low", "middle", "high"] * 20))
    step = ("train_mlp", {"target": target, "activation": activation, "hidden_layers": [8, 8], "max_iter": 20, "learning_rate_init": 0.05})
    result, _ = run(tmp_path, frame.select("a", "b", "c", target), chain("scale", step))
    told = explain(tmp_path, result, "INTEGRATED_GRADIENTS")
    data = told["data"]
    assert (data["scale"], [output["classLabel"] for output in data["outputs"]], told["additivity_error"] < 1e-9) == (scale, labels, True)
    pipeline = TRUST.load_model(artifact_path(result, "MODEL"))
    rows = pl.DataFrame({name: data["values"][name] for name in "abc"})
    sums = np.array([output["baseValue"] + np.array(output["contributions"]).sum(axis=1) for output in data["outputs"]])
    if scale == "value":
        assert sums[0] == pytest.approx(pipeline.predict(rows))
    elif scale == "log-odds":
        assert 1 / (1 + np.exp(-sums[0])) == pytest.approx(pipeline.predict_proba(rows)[:, 1])
    else:
        exponentials = np.exp(sums - sums.max(axis=0))
        assert pytest.approx(pipeline.predict_proba(rows)) == (exponentials / exponentials.sum(axis=0)).T
