"""Loads the file of a model version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
            return PipelinePredictor(load_model(path), signature["output"]["problem_type"])
        except Exception as error:
            # Of another's file: a type that is not on our list, or another structure. Ours was compared with its checksum.
            reason = f"The file of the model version cannot be used: {type(error).__name__}: {error}. Use a version that was trained here."
            raise BadInput("BAD_MODEL", reason) from error
    if start.startswith(b"tree\nversion="):
        return BoosterPredictor(path, signature)
    if start[:1] == b"\x08":  # the first field of a graph of ONNX, its version
        return OnnxPredictor(path, signature)
    raise BadInput("BAD_MODEL", "The file of the model version is in no format that can predict. Choose another version.")
