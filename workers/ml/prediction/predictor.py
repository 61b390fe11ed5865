"""Models that predict: what they take and answer, and those that our trainings write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl

# Their `predict` takes the most probable class; that of other estimators may decide a tie in another way.
_DECIDE_BY_PROBABILITY = ("lightgbm.sklearn.", "sklearn.ensemble._forest.")
_NULL_TYPES: Mapping[str, type[pl.DataType]] = {"number": pl.Float64, "text": pl.String}


@dataclass(frozen=True)
class Predictions:
    """A value for each row: a class, a number or a cluster. `probabilities` are rows by classes; `scores` what the predictor's `score` names."""

    values: np.ndarray
    probabilities: np.ndarray | None = None
    scores: np.ndarray | None = None


class Predictor(Protocol):
    """A model. `classes` are in the order of the probabilities; None of a model that does not classify.

    `score` names what it tells of a row besides: the `distance` to the center of its cluster, or the `score` of an outlier, greater for
    one that is easier to tell from the others; None if nothing.
    """

    classes: np.ndarray | None
    score: str | None

    def predict(self, features: pl.DataFrame) -> Predictions:
        """Predict rows of the features, as `Bundle.features` returns them."""
        ...

    def takes_missing(self, inputs: Mapping[str, str]) -> set[str]:
        """Return those of the inputs, a kind by name, whose value may be missing."""
        ...

    def categories(self, name: str) -> Sequence[Any] | None:
        """Return the categories that were seen of a text column, if the model tells them."""
        ...


class PipelinePredictor:
    """A scikit-learn Pipeline of `features`, a ColumnTransformer of the raw columns, and `model`, as our trainings write it: `transformer` and `estimator`."""

    def __init__(self, pipeline: Any, problem_type: str) -> None:
        self.transformer = pipeline["features"]
        self.estimator = pipeline["model"]
        self.classes = np.asarray(self.estimator.classes_) if problem_type == "CLASSIFICATION" else None
        self.score: str | None = None
        if self.classes is None and hasattr(self.estimator, "cluster_centers_"):
            self.score = "distance"
        elif self.classes is None and hasattr(self.estimator, "offset_"):
            self.score = "score"
        self._is_regression = problem_type == "REGRESSION"
        self._decides_by_probability = f"{type(self.estimator).__module__}.".startswith(_DECIDE_BY_PROBABILITY)
        self._categories = dict(_categories(self.transformer))

    def matrix(self, features: pl.DataFrame) -> np.ndarray:
        """Return what the estimator takes of the features."""
        return np.ascontiguousarray(self.transformer.transform(features), dtype=np.float64)

    def predict(self, features: pl.DataFrame) -> Predictions:
        matrix = self.matrix(features)
        if self.classes is not None:
            probabilities = np.asarray(self.estimator.predict_proba(matrix))
            if self._decides_by_probability:
                return Predictions(self.classes[probabilities.argmax(axis=1)], probabilities)
            return Predictions(np.asarray(self.estimator.predict(matrix)), probabilities)
        values = np.asarray(self.estimator.predict(matrix))
        if self._is_regression:
            return Predictions(values.astype(np.float64))
        values = values.astype(np.int64)
        if self.score == "distance":
            return Predictions(values, scores=np.linalg.norm(matrix - self.estimator.cluster_centers_[values], axis=1))
        return Predictions(values, scores=None if self.score is None else -np.asarray(self.estimator.score_samples(matrix)))

    def takes_missing(self, inputs: Mapping[str, str]) -> set[str]:
        from sklearn.utils import get_tags  # takes seconds to import, and importing this module must not

        if get_tags(self.estimator).input_tags.allow_nan:
            return set(inputs)
        found: set[str] = set()
        for transformer, members in _groups(self.transformer):
            nulls = pl.DataFrame({name: pl.Series([None], dtype=_NULL_TYPES[inputs[name]]) for name in members})
            if isinstance(transformer, str):  # "passthrough"
                continue
            try:
                outputs = transformer.transform(nulls)
            except (ValueError, TypeError, AttributeError):  # as scikit-learn refuses a missing value
                continue
            outputs = np.asarray(outputs.toarray() if hasattr(outputs, "toarray") else outputs, dtype=np.float64)
            width = outputs.shape[1] // len(members)
            found |= {name for number, name in enumerate(members) if not np.isnan(outputs[:, number * width : (number + 1) * width]).any()}
        return found

    def categories(self, name: str) -> Sequence[Any] | None:
        return self._categories.get(name)


def _groups(transformer: Any) -> Iterator[tuple[Any, list[str]]]:
    """Yield the fitted transformers of a ColumnTransformer with the columns of each."""
    for name, fitted, members in transformer.transformers_:
        if name != "remainder":
            yield fitted, list(members)


def _categories(transformer: Any) -> Iterable[tuple[str, Sequence[Any]]]:
    """Yield the categories of each encoded column."""
    for fitted, members in _groups(transformer):
        encoder = fitted
        while hasattr(encoder, "steps"):
            encoders = [step for _, step in encoder.steps if hasattr(step, "steps") or hasattr(step, "categories_")]
            if not encoders:
                break
            encoder = encoders[0]
        if hasattr(encoder, "categories_"):
            yield from zip(members, (list(categories) for categories in encoder.categories_), strict=True)
