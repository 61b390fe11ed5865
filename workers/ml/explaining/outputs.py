"""What a model predicts as numbers, by output: probabilities of classes, a value, or the score of an outlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from workers.ml.errors import BadInput
from workers.ml.explaining.contributions import class_labels, output_labels
from workers.ml.prediction.predictor import Predictions, Predictor

MAX_OUTPUTS = 20


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model that are looked at; `labels` are classes, or None of a number. `quantity` names them to people."""

    predictor: Predictor
    labels: Sequence[str | None]
    quantity: str
    _columns: Sequence[int]

    @classmethod
    def of(cls, predictor: Predictor, label: str | None, target: str | None) -> Outputs:
        """Those of a class, or by default of the second of two classes, or of each of several, `MAX_OUTPUTS` at most. Raises BadInput (NOT_SUPPORTED)."""
        classes = class_labels(predictor)
        if classes:
            labels = [label] if label is not None else output_labels(predictor)[:MAX_OUTPUTS]
            return cls(predictor, labels, "probability", [classes.index(str(each)) for each in labels])
        if predictor.score == "distance":
            raise BadInput("NOT_SUPPORTED", "The model assigns clusters, which are no numbers. Look at its plots.")
        return cls(predictor, [None], "score of an outlier" if predictor.score else str(target or "prediction"), [])

    def numbers(self, features: pl.DataFrame) -> np.ndarray:
        """Return outputs × rows."""
        return self.of_predictions(self.predictor.predict(features))

    def of_predictions(self, predictions: Predictions) -> np.ndarray:
        if predictions.probabilities is not None:
            return np.asarray(predictions.probabilities, dtype=np.float64)[:, list(self._columns)].T
        values = predictions.values if predictions.scores is None else predictions.scores
        return np.asarray(values, dtype=np.float64)[None]
