"""The enums of models, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.tables.models import ModelFormat
from graph.core.enums import describe

__all__ = ["ModelFormat"]

describe(
    ModelFormat,
    "The format of the file of a model version.",
    SKOPS="A scikit-learn Pipeline that takes the raw columns, as skops writes it; what trainings here write, those of LightGBM too.",
    LIGHTGBM="The text format of LightGBM.",
    ONNX="A graph of ONNX operators, without data in other files.",
    SAFETENSORS="Tensors by name, without the code that uses them.",
    OPAQUE="Any other file; it is kept and never loaded.",
)
