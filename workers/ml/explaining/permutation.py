"""Permutation importance: how much worse a model predicts its target without what a column tells (L. Breiman, 2001).

The values of a column are exchanged among the rows before anything is computed of them, so that all that the model makes of the column is exchanged together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workers.ml.errors import BadInput
from workers.ml.prediction.predictor import Predictor

REPEATS = 5
MIN_ROWS = 2
BATCH_CELLS = 2_000_000


@dataclass(frozen=True)
class PermutationImportance:
    """`losses` are columns × repetitions: how much worse the metric is. `score` is the metric with all columns."""

    metric: str
    score: float
    losses: np.ndarray


def permutation_importance(
    predictor: Predictor,
    features: pl.DataFrame,
    truth: pl.Series,
    groups: Mapping[str, Sequence[str]],
    chosen: Sequence[str],
    seed: int,
    progress: Callable[[float], None],
) -> PermutationImportance:
    """Exchange the values of each chosen group of columns, `REPEATS` times. Raises BadInput (NO_TARGET_VALUES)."""
    measure = _Measure(predictor, truth)
    usable = measure.usable
    if usable.sum() < MIN_ROWS:
        message = f"Only {int(usable.sum())} of the rows has a value of the target. Choose rows that have it."
        raise BadInput("NO_TARGET_VALUES", message, column=truth.name)
    features = features.filter(pl.Series(usable))
    score = measure(predictor.predict(features).values)
    count = features.height
    at_once = max(1, min(REPEATS, BATCH_CELLS // max(1, count * features.width)))
    losses = np.zeros((len(chosen), REPEATS))
    numbers = {name: number for number, name in enumerate(groups)}
    for position, name in enumerate(chosen):
        # Of its own seed, so that a column has the same numbers whichever others are chosen.
        random = np.random.default_rng([seed % 2**64, numbers[name]])
        orders = [random.permutation(count) for _ in range(REPEATS)]
        for start in range(0, REPEATS, at_once):
            some = orders[start : start + at_once]
            frames = [features.with_columns(features.select(groups[name])[order]) for order in some]
            predicted = predictor.predict(pl.concat(frames)).values.reshape(len(some), count)
            losses[position, start : start + len(some)] = [measure.loss(score, measure(values)) for values in predicted]
        progress((position + 1) / len(chosen))
    return PermutationImportance(measure.metric, score, losses)


class _Measure:
    """The primary metric of the model. Values of the target that the model does not know as classes are never predicted."""

    def __init__(self, predictor: Predictor, truth: pl.Series) -> None:
        if predictor.classes is None:
            values = truth.cast(pl.Float64, strict=False)
            self.metric = "rmse"
            self.usable = values.is_finite().fill_null(value=False).to_numpy()
            self._truth = values.filter(pl.Series(self.usable)).to_numpy()
            return
        self.metric = "accuracy"
        dtype = pl.String if predictor.classes.dtype.kind in "UO" else pl.Float64
        self.usable = truth.is_not_null().to_numpy()
        labels = truth.filter(pl.Series(self.usable)).cast(dtype, strict=False)
        known = pl.Series(predictor.classes.tolist()).cast(dtype)
        self._codes = {value: number for number, value in enumerate(known.to_list())}
        self._dtype = dtype
        self._truth = np.array([self._codes.get(value, -1) for value in labels.to_list()])

    def __call__(self, predicted: np.ndarray) -> float:
        if self.metric == "rmse":
            return float(np.sqrt(np.square(predicted.astype(np.float64) - self._truth).mean()))
        codes = pl.Series(predicted.tolist()).cast(self._dtype).replace_strict(self._codes, return_dtype=pl.Int64).to_numpy()
        return float((codes == self._truth).mean())

    def loss(self, score: float, permuted: float) -> float:
        return permuted - score if self.metric == "rmse" else score - permuted
