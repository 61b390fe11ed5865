"""Model files that other tools wrote predict what those tools predict, and a file that is none of them is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from workers.ml.errors import BadInput

LIGHTGBM: Any = LazyModule("lightgbm")
SKL2ONNX: Any = LazyModule("skl2onnx")
ONNX_TYPES: Any = LazyModule("skl2onnx.common.data_types")
LINEAR: Any = LazyModule("sklearn.linear_model")
LOADING: Any = LazyModule("workers.ml.prediction.loading")

NAMES = ("width", "height")
ROWS = np.random.default_rng(3).normal(size=(200, 2)).astype(np.float32).astype(np.float64)
LABELS = np.array(["small", "large"])[(ROWS.sum(axis=1) > 0).astype(int)]
SIZES = ROWS @ [2.0, -1.0] + 5
SIGNATURE = {"inputs": [{"name": name, "kind": "number", "type": "FLOAT", "nullable": False} for name in NAMES]}
Written = tuple[bytes, Any, Any]


def booster() -> Written:
    model = LIGHTGBM.LGBMClassifier(n_estimators=5, verbose=-1).fit(ROWS, LABELS)
    return model.booster_.model_to_string().encode(), model.predict(ROWS), model.predict_proba(ROWS)


def onnx_columns() -> Written:
    model = LINEAR.LogisticRegression().fit(ROWS, LABELS)
    graph = SKL2ONNX.to_onnx(model, initial_types=[("all", ONNX_TYPES.FloatTensorType([None, 2]))])  # answers a map for each row
    return graph.SerializeToString(), model.predict(ROWS), model.predict_proba(ROWS)


def onnx_matrix() -> Written:
    model = LINEAR.LinearRegression().fit(ROWS, SIZES)
    return SKL2ONNX.to_onnx(model, ROWS[:1].astype(np.float32)).SerializeToString(), model.predict(ROWS), None


@pytest.mark.parametrize("write", [booster, exhaustive(onnx_columns), exhaustive(onnx_matrix)])
def test_a_file_of_another_tool_predicts_what_that_tool_predicts(tmp_path: Path, write: Callable[[], Written]) -> None:
    content, values, probabilities = write()
    path = tmp_path / "model"
    path.write_bytes(content)
    output = {"problem_type": "REGRESSION"} if probabilities is None else {"problem_type": "CLASSIFICATION", "classes": ["large", "small"]}
    predicted = LOADING.load_predictor(path, SIGNATURE | {"output": output}).predict(pl.DataFrame(ROWS, schema=list(NAMES)))
    if probabilities is None:
        assert predicted.values.tolist() == pytest.approx(values.tolist(), abs=1e-5)
    else:
        assert predicted.values.tolist() == values.tolist()
        assert predicted.probabilities == pytest.approx(probabilities, abs=1e-6)


@pytest.mark.parametrize(
    "content", [b"import os", b"PK\x03\x04 no archive", b"tree\nversion=v4\nno booster", exhaustive(b"\x08\x07 no graph")]
)
def test_a_file_that_no_tool_wrote_is_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"The file of the model version .* Choose another version|Use a") as raised:
        LOADING.load_predictor(path, SIGNATURE | {"output": {"problem_type": "REGRESSION"}})
    assert raised.value.code == "BAD_MODEL"
