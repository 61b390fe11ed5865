"""Contributions of columns to predictions, which sum up to them: Shapley values of trees and of linear models, integrated gradients of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from workers.ml.convolution.estimators import ConvolutionalNetwork
from workers.ml.errors import BadInput
from workers.ml.explaining.convolutions import Convolutions
from workers.ml.explaining.networks import Network
from workers.ml.explaining.rows import sample
from workers.ml.explaining.trees import booster_of
from workers.ml.prediction.other_formats import BoosterPredictor
from workers.ml.prediction.predictor import PipelinePredictor, Predictor

Scale = Literal["log-odds", "raw score", "value"]
_Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Contributions, outputs × rows × columns as the estimator takes them; what they are added to; and predictions, outputs × rows."""
BATCH = 100  # rows that are explained at once
MAX_WORK = 50_000_000_000  # steps: some minutes
MAX_OPERATIONS = 500_000_000_000  # of floating point: some minutes
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Contributions:
    """`values` are outputs × rows × columns, `base` the prediction without any column, `predictions` outputs × rows what the model computes itself.

    `scale` is what they add up to: the log-odds of a class, a raw score, from which the model computes its prediction, or the predicted value.
    `labels` are the classes of the outputs, None of a number.
    """

    labels: Sequence[str | None]
    values: np.ndarray
    base: np.ndarray
    predictions: np.ndarray
    scale: Scale

    @property
    def error(self) -> float:
        """The greatest difference between the sum of contributions and the prediction."""
        sums = self.base[:, None] + self.values.sum(axis=2)
        return float(np.abs(sums - self.predictions).max(initial=0.0))

    def summed(self, members: Sequence[Sequence[int]]) -> Contributions:
        """Sum the contributions of the columns of each group."""
        return replace(self, values=np.stack([self.values[..., list(each)].sum(axis=-1) for each in members], axis=-1))

    def of_class(self, label: str, classes: Sequence[str]) -> Contributions:
        """Keep those to one class. Of two classes, there is an output for the second: the first has the opposite ones."""
        if label in self.labels:
            kept = [self.labels.index(label)]
            return replace(self, labels=[label], values=self.values[kept], base=self.base[kept], predictions=self.predictions[kept])
        assert len(classes) == 2
        whole = 0.0 if self.scale == "log-odds" else 1.0  # the scores of the classes of a forest sum up to 1
        return replace(self, labels=[label], values=-self.values, base=whole - self.base, predictions=whole - self.predictions)


def class_labels(predictor: Predictor) -> list[str]:
    """The classes as texts; none of a model that does not classify."""
    if predictor.classes is None:
        return []
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in predictor.classes.tolist()]


def output_labels(predictor: Predictor) -> list[str | None]:
    """The classes that there are outputs for: the second of two, or all of several; None for a number."""
    labels = class_labels(predictor)
    return [None] if not labels else list(labels[1:] if len(labels) == 2 else labels)


def columns_of(transformer: Any) -> dict[str, range]:
    """Return the outputs that each column has of a fitted ColumnTransformer."""
    found: dict[str, range] = {}
    for group, _, members in transformer.transformers_:
        if group == "remainder":
            continue
        indices = transformer.output_indices_[group]
        width = (indices.stop - indices.start) // max(len(members), 1)
        for number, member in enumerate(members):
            found[str(member)] = range(indices.start + number * width, indices.start + (number + 1) * width)
    return found


def tree_shap(
    predictor: Predictor, features: pl.DataFrame, seed: int, progress: Callable[[float], None]
) -> tuple[Contributions, pl.DataFrame]:
    """Return the contributions and the rows that they are of: of a large forest, a sample. Raises BadInput (NOT_SUPPORTED)."""
    if not isinstance(predictor, PipelinePredictor | BoosterPredictor):
        raise _not_supported("TREE_SHAP", "models of trees")
    explain = _explainer(predictor)
    features = features[sample(features.height, max(1, MAX_WORK // max(explain.work, 1)), seed)]

    def of_batch(matrix: np.ndarray) -> _Batch:
        contributions, predictions = explain.contributions(matrix)
        by_output = np.moveaxis(contributions, 1, 0)
        return by_output[..., :-1], by_output[:, 0, -1], predictions.T

    return _by_column(predictor, features, of_batch, explain.scale, progress), features


def linear(predictor: Predictor, features: pl.DataFrame, background: pl.DataFrame, progress: Callable[[float], None]) -> Contributions:
    """Coefficient × (value − mean of the background), of the columns as the estimator takes them. Raises BadInput (NOT_SUPPORTED)."""
    estimator: Any = getattr(predictor, "estimator", None)
    if not isinstance(predictor, PipelinePredictor) or not hasattr(estimator, "coef_"):
        raise _not_supported("LINEAR", "linear models")
    mean = _mean(predictor, background)
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    base = coefficients @ mean + np.atleast_1d(estimator.intercept_)
    is_classifier = predictor.classes is not None

    def of_batch(matrix: np.ndarray) -> _Batch:
        predictions = np.asarray(estimator.decision_function(matrix) if is_classifier else estimator.predict(matrix), dtype=np.float64)
        return coefficients[:, None, :] * (matrix - mean)[None], base, predictions.reshape(len(matrix), -1).T

    scale: Scale = "value" if not is_classifier else "log-odds" if len(coefficients) == 1 else "raw score"
    return _by_column(predictor, features, of_batch, scale, progress)


def integrated_gradients(
    predictor: Predictor, features: pl.DataFrame, background: pl.DataFrame, seed: int, progress: Callable[[float], None]
) -> tuple[Contributions, pl.DataFrame]:
    """Return the contributions, on the way from the mean of the background, and the rows that they are of: of a large network, a sample.

    Raises BadInput (NOT_SUPPORTED).
    """
    estimator: Any = getattr(predictor, "estimator", None)
    if not isinstance(predictor, PipelinePredictor) or not (hasattr(estimator, "coefs_") or isinstance(estimator, ConvolutionalNetwork)):
        raise _not_supported("INTEGRATED_GRADIENTS", "neural networks")
    network = Convolutions(estimator) if isinstance(estimator, ConvolutionalNetwork) else Network.of(estimator)
    features = features[sample(features.height, max(1, MAX_OPERATIONS // network.work), seed)]
    baseline = _mean(predictor, background)
    base = network.own_outputs(baseline[None])[0]

    def of_batch(matrix: np.ndarray) -> _Batch:
        return np.stack([network.contributions(baseline, row) for row in matrix], axis=1), base, network.own_outputs(matrix).T

    scale: Scale = "value" if predictor.classes is None else _scale(predictor.classes, is_log_odds=True)
    return _by_column(predictor, features, of_batch, scale, progress), features


def _mean(predictor: PipelinePredictor, background: pl.DataFrame) -> np.ndarray:
    """The mean of each column as the estimator takes it."""
    return np.asarray(sum(predictor.matrix(batch).sum(axis=0) for batch in background.iter_slices(BATCH)) / background.height)


def _by_column(
    predictor: PipelinePredictor | BoosterPredictor,
    features: pl.DataFrame,
    of_batch: Callable[[np.ndarray], _Batch],
    scale: Scale,
    progress: Callable[[float], None],
) -> Contributions:
    """Sum those of the outputs of a transformer, such as the categories of an encoded column, by the column that they are made of.

    A few rows at a time: a column of texts may have thousands of outputs, for each class.
    """
    outputs = columns_of(predictor.transformer) if isinstance(predictor, PipelinePredictor) else None
    members = None if outputs is None else [list(outputs.get(name, ())) for name in features.columns]
    parts: list[_Batch] = []
    done = 0
    for batch in features.iter_slices(BATCH):
        values, base, predictions = of_batch(predictor.matrix(batch))
        summed = values if members is None else np.stack([values[..., each].sum(axis=-1) for each in members], axis=-1)
        parts.append((summed, base, predictions))
        done += batch.height
        progress(done / features.height)
    contributions, predictions = (np.concatenate([part[place] for part in parts], axis=1) for place in (0, 2))
    return Contributions(output_labels(predictor), contributions, parts[0][1], predictions, scale)


@dataclass(frozen=True)
class _Explainer:
    """`contributions` takes rows as the estimator does, and returns rows × outputs × (columns and the base), and the predictions, rows × outputs."""

    contributions: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    scale: Scale
    work: int = 0


def _explainer(predictor: PipelinePredictor | BoosterPredictor) -> _Explainer:
    if isinstance(predictor, BoosterPredictor):
        return _lightgbm(predictor.booster, predictor.classes)
    estimator: Any = getattr(predictor, "estimator", None)
    classes = predictor.classes
    if hasattr(estimator, "booster_"):
        return _lightgbm(estimator.booster_, classes)
    if hasattr(estimator, "estimators_") and hasattr(estimator.estimators_[0], "get_booster"):
        return _xgboost(estimator.estimators_[0], classes)  # a vote of one
    if hasattr(estimator, "get_booster"):
        return _xgboost(estimator, classes)
    trees = booster_of(estimator)
    if trees is None:
        raise _not_supported("TREE_SHAP", "models of trees")
    is_boosting = hasattr(estimator, "learning_rate")

    def contributions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = _of_booster(trees.booster, matrix.astype(np.float32).astype(np.float64))
        found[..., -1] += trees.offsets
        return found, _own_predictions(estimator, matrix, found.shape[1], is_boosting=is_boosting)

    return _Explainer(contributions, "value" if classes is None else _scale(classes, is_log_odds=is_boosting), trees.work)


def _own_predictions(estimator: Any, matrix: np.ndarray, outputs: int, *, is_boosting: bool) -> np.ndarray:
    if not hasattr(estimator, "classes_"):
        predictions = estimator.predict(matrix)
    else:
        predictions = estimator.decision_function(matrix) if is_boosting else estimator.predict_proba(matrix)
    return np.asarray(predictions, dtype=np.float64).reshape(len(matrix), -1)[:, -outputs:]


def _scale(classes: np.ndarray, *, is_log_odds: bool) -> Scale:
    return "log-odds" if is_log_odds and len(classes) == 2 else "raw score"


def _of_booster(booster: Any, matrix: np.ndarray) -> np.ndarray:
    found = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=1))
    return found.reshape(len(matrix), -1, matrix.shape[1] + 1)


def _lightgbm(booster: Any, classes: np.ndarray | None) -> _Explainer:
    def contributions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = np.asarray(booster.predict(matrix, raw_score=True, num_threads=1))
        return _of_booster(booster, matrix), scores.reshape(len(matrix), -1)

    if classes is not None:
        return _Explainer(contributions, _scale(classes, is_log_odds=True))
    # Objectives such as Poisson's predict the exponential of the score.
    sample = np.zeros((2, booster.num_feature()))
    is_value = np.allclose(booster.predict(sample, raw_score=True), booster.predict(sample), rtol=TOLERANCE)
    return _Explainer(contributions, "value" if is_value else "raw score")


def _xgboost(estimator: Any, classes: np.ndarray | None) -> _Explainer:
    from xgboost import DMatrix

    booster = estimator.get_booster()
    rounds = (0, int(estimator.best_iteration) + 1) if getattr(estimator, "early_stopping_rounds", None) is not None else (0, 0)

    def contributions(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = DMatrix(matrix, nthread=1)
        options: Mapping[str, Any] = {"iteration_range": rounds, "strict_shape": True, "validate_features": False}
        found = booster.predict(rows, pred_contribs=True, **options)
        return found.astype(np.float64), booster.predict(rows, output_margin=True, **options).astype(np.float64)

    return _Explainer(contributions, "value" if classes is None else _scale(classes, is_log_odds=True))


def _not_supported(method: str, models: str) -> BadInput:
    return BadInput("NOT_SUPPORTED", f"{method} explains {models}, and the file of this version holds another one. Use PERMUTATION.")
