"""Loads the file of a model version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from workers.ml.artifacts.trust import load_model
from workers.ml.errors import BadInput
from workers.ml.prediction.other_formats import BoosterPredictor, OnnxPredictor
from workers.ml.prediction.predictor import PipelinePredictor, Predictor


def load_predictor(path: Path, signature: Mapping[str, Any]) -> Predictor:
    """Load a model file, whose format its first bytes tell. Raises BadInput (BAD_MODEL)."""
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK\x03\x04"):
        try:
            return PipelinePredictor(_as_ours(load_model(path), signature), signature["output"]["problem_type"])
        except Exception as error:
            # Of another's file: a type that is not on our list, or another structure. Ours was compared with its checksum.
            told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            reason = f"The file of the model version cannot be used: {told}. Use a version that was trained here."
            raise BadInput("BAD_MODEL", reason) from error
    if start.startswith(b"tree\nversion="):
        return BoosterPredictor(path, signature)
    if start[:1] == b"\x08":  # the first field of a graph of ONNX, its version
        return OnnxPredictor(path, signature)
    raise BadInput("BAD_MODEL", "The file of the model version is in no format that can predict. Choose another version.")


def _as_ours(estimator: Any, signature: Mapping[str, Any]) -> Any:
    """The parts of a pipeline of ours; of an estimator that other code trained, which takes numbers alone, its columns as they are, and itself.

    Raises ValueError for one that does not take what the signature says.
    """
    if getattr(estimator, "named_steps", {}).keys() >= {"features", "model"}:
        return estimator
    from sklearn.compose import ColumnTransformer

    names = [each["name"] for each in signature["inputs"]]
    own = [str(name) for name in getattr(estimator, "feature_names_in_", names)]
    count = getattr(estimator, "n_features_in_", len(names))
    if count != len(names):
        raise ValueError(f"it takes {count} columns, and its signature names {len(names)}")
    if signature["output"]["problem_type"] == "CLASSIFICATION" and not hasattr(estimator, "predict_proba"):
        raise ValueError("it tells no probabilities of classes")
    order = own if {*own} == {*names} else names
    columns = ColumnTransformer([("columns", "passthrough", order)])
    return {"features": columns.fit(pl.DataFrame({name: [0.0] for name in names})), "model": estimator}
