"""Model files that other tools wrote: graphs of ONNX, and boosters in LightGBM's text format. Neither can run code.

They take what the signature beside them says; the classes, and which values may be missing, are known from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workers.ml.errors import BadInput
from workers.ml.prediction.predictor import Predictions

_TENSOR_TYPES: Mapping[str, type[Any]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}


class _SignedPredictor:
    """What the signature says of a model."""

    score: str | None = None

    def __init__(self, signature: Mapping[str, Any]) -> None:
        classes = signature["output"].get("classes")
        self.classes = None if classes is None else np.asarray(classes)
        self._names = [each["name"] for each in signature["inputs"]]
        self._nullable = {each["name"] for each in signature["inputs"] if each.get("nullable")}

    def takes_missing(self, inputs: Mapping[str, str]) -> set[str]:
        return self._nullable & set(inputs)

    def categories(self, name: str) -> Sequence[Any] | None:  # noqa: ARG002 - these files do not tell them
        return None

    def _classified(self, probabilities: np.ndarray) -> Predictions:
        """Raises BadInput (BAD_MODEL)."""
        assert self.classes is not None
        if probabilities.ndim == 1:  # of the second of two classes
            probabilities = np.column_stack([1 - probabilities, probabilities])
        if probabilities.shape[1] != len(self.classes):
            raise _bad_model(f"it has {probabilities.shape[1]} classes, and its signature {len(self.classes)}")
        return Predictions(self.classes[probabilities.argmax(axis=1)], probabilities)


class BoosterPredictor(_SignedPredictor):
    """A booster in LightGBM's text format, on the features in the order of the signature."""

    def __init__(self, path: Path, signature: Mapping[str, Any]) -> None:
        from lightgbm import Booster
        from lightgbm.basic import LightGBMError

        super().__init__(signature)
        try:
            self.booster = Booster(model_file=str(path))
        except LightGBMError as error:
            raise _bad_model(str(error)) from error
        if self.booster.num_feature() != len(self._names):
            raise _bad_model(f"it takes {self.booster.num_feature()} features, and its signature names {len(self._names)}")

    def matrix(self, features: pl.DataFrame) -> np.ndarray:
        """Return what the booster takes of the features."""
        return _matrix(features, self._names, np.float64)

    def predict(self, features: pl.DataFrame) -> Predictions:
        values = np.asarray(self.booster.predict(self.matrix(features), num_threads=1))
        return Predictions(values) if self.classes is None else self._classified(values)


class OnnxPredictor(_SignedPredictor):
    """A graph that takes each column by its name, rows by one, or all of them as one matrix in the order of the signature.

    Its last output has the probabilities of a classifier, rows by classes or maps from class to probability; its first the value otherwise.
    """

    def __init__(self, path: Path, signature: Mapping[str, Any]) -> None:
        super().__init__(signature)
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise BadInput("NOT_SUPPORTED", "This worker cannot run ONNX models: install it with `pip install 'trellis[onnx]'`.") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            # From bytes, a graph has no folder in which it could name files with data.
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _bad_model(str(error)) from error
        self._feeds = self._plan_feeds([(each.name, each.type) for each in self._session.get_inputs()])

    def _plan_feeds(self, inputs: Sequence[tuple[str, str]]) -> Mapping[str, Callable[[pl.DataFrame], np.ndarray]]:
        unknown = [type_ for _, type_ in inputs if type_ not in _TENSOR_TYPES]
        if unknown:
            raise _bad_model(f"it takes inputs of the type {unknown[0]}")
        if {name for name, _ in inputs} <= set(self._names):
            return {
                name: lambda features, name=name, type_=type_: _matrix(features, [name], _TENSOR_TYPES[type_]) for name, type_ in inputs
            }
        if len(inputs) == 1:
            ((name, type_),) = inputs
            return {name: lambda features: _matrix(features, self._names, _TENSOR_TYPES[type_])}
        raise _bad_model(f"it takes the inputs {', '.join(name for name, _ in inputs)}, which its signature does not name")

    def predict(self, features: pl.DataFrame) -> Predictions:
        try:
            outputs: list[Any] = list(self._session.run(None, {name: feed(features) for name, feed in self._feeds.items()}))
        except Exception as error:
            raise _bad_model(str(error)) from error
        if self.classes is None:
            return Predictions(np.asarray(outputs[0]).reshape(features.height))
        probabilities = outputs[-1]
        if isinstance(probabilities, list):
            probabilities = [[row[label] for label in self.classes.tolist()] for row in probabilities]
        return self._classified(np.asarray(probabilities, dtype=np.float64))


def _matrix(features: pl.DataFrame, names: Sequence[str], dtype: type[Any]) -> np.ndarray:
    """Return these columns, rows by columns."""
    if dtype is np.str_:
        return np.column_stack([features[name].fill_null("").to_numpy().astype(object) for name in names])
    return np.column_stack([features[name].cast(pl.Float64).to_numpy() for name in names]).astype(dtype)


def _bad_model(reason: str) -> BadInput:
    return BadInput("BAD_MODEL", f"The file of the model version cannot be used: {reason}. Use another version.")
