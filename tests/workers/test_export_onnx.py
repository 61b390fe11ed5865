"""A model as ONNX: it predicts what the model predicts, or it does not appear."""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, run
from workers.ml.errors import BadInput
from workers.ml.exports import onnx_model

RUNTIME: Any = LazyModule("onnxruntime")
ROWS = 300
RANDOM = np.random.default_rng(1)
NUMBER = RANDOM.normal(size=ROWS)
TABLE = pl.DataFrame(
    {
        "a b": [None if i % 11 == 0 else float(NUMBER[i]) for i in range(ROWS)],
        "=1": [i % 7 for i in range(ROWS)],
        "färbe": [None if i % 13 == 0 else "rgb"[i % 3] for i in range(ROWS)],
        "flag": [i % 2 == 0 for i in range(ROWS)],
        "day": [date(2024, 1, 1) + timedelta(days=i) for i in range(ROWS)],
        "class": ["yes" if NUMBER[i] + i % 7 / 5 > 0.6 else "no" for i in range(ROWS)],
        "value": [3 * float(NUMBER[i]) + i % 7 for i in range(ROWS)],
    }
)
STEPS = ("decompose_dates", "impute", ("one_hot_encode", {}), "split")


def exported(
    folder: Path, train: str, target: str | None, *steps: Any, **parameters: Any
) -> tuple[dict[str, bytes], Any, PipelineRecorder]:
    """The files of the export of a model that is trained on the table, and the model."""
    exclude = [name for name in ("class", "value") if name != target]
    step = (train, {"exclude": exclude, **({} if target is None else {"target": target}), **parameters})
    result, _ = run(folder, TABLE, chain(*(steps or STEPS), step))
    recorder = PipelineRecorder()
    out = folder / "export"
    out.mkdir(exist_ok=True)
    spec: onnx_model.ModelExportSpec = {
        "model": str(artifact_path(result, "MODEL")),
        "signature": str(artifact_path(result, "SIGNATURE")),
        "parquet": str(folder / "in.parquet"),
        "folder": str(out),
        "stem": "m-v1",
        "name": "Version 1 of the model 'm'",
    }
    files = onnx_model.export_model(spec, recorder)["files"]
    return {file["filename"]: Path(file["path"]).read_bytes() for file in files}, onnx_model.load_model(spec["model"]), recorder


def predictions(files: dict[str, bytes], table: pl.DataFrame) -> list[np.ndarray]:
    """What the file predicts for these rows, fed as its signature says."""
    feed: dict[str, np.ndarray] = {}
    for each in json.loads(files["signature.json"])["inputs"]:
        source = each.get("from")
        series = table[each["column"]] if source is None else getattr(table[source["column"]].dt, source["part"])()
        if each["type"] == "string":
            feed[each["name"]] = series.fill_null(each["missing"]).to_numpy().astype(object).reshape(-1, 1)
        else:
            feed[each["name"]] = series.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float32).reshape(-1, 1)
    return RUNTIME.InferenceSession(files["m-v1.onnx"], providers=["CPUExecutionProvider"]).run(None, feed)


def inputs_of(model: Any) -> pl.DataFrame:
    parts = {f"day_{part}": getattr(TABLE["day"].dt, part)() for part in ("year", "month", "day", "weekday")}
    return TABLE.with_columns(flag=pl.col("flag").cast(pl.Float64), **parts).select(
        model.named_steps["features"].feature_names_in_.tolist()
    )


@pytest.mark.parametrize(
    "train",
    ["train_lightgbm", *map(exhaustive, ("train_random_forest", "train_gradient_boosting", "train_logistic_regression"))],
)
def test_a_classifier_predicts_the_same_classes_and_probabilities(tmp_path: Path, train: str) -> None:
    odd = {"n_estimators": 25} if train == "train_random_forest" else {}  # trees, so that no vote is a tie
    files, model, recorder = exported(tmp_path, train, "class", **odd)
    rows = inputs_of(model)
    labels, probabilities = predictions(files, TABLE)
    assert labels.tolist() == model.predict(rows).tolist()
    np.testing.assert_allclose(probabilities, model.predict_proba(rows), atol=1e-5)
    signature = json.loads(files["signature.json"])
    assert signature["output"]["classes"] == ["no", "yes"]
    assert {each["column"]: (each["name"], each["missing"]) for each in signature["inputs"]}.items() >= {
        "a b": ("a_b", "NaN"),
        "=1": ("x__1", "NaN"),
        "färbe": ("f_rbe", "(missing)"),
    }.items()
    assert signature["verified_rows"] == 200
    assert recorder.log_lines == ["The ONNX model predicts what the model predicts for 200 rows that it was trained on."]


@pytest.mark.parametrize(
    "train",
    [
        "train_random_forest",
        *map(exhaustive, ("train_ridge_regression", "train_linear_regression", "train_lightgbm", "train_xgboost", "train_mlp")),
    ],
)
def test_a_regression_predicts_the_same_values_and_twice_the_same_file(tmp_path: Path, train: str) -> None:
    # Years and days are large numbers, of which a network computes something else with 32 bits.
    steps = ("decompose_dates", "impute", ("ordinal_encode", {}), *(["scale"] if train == "train_mlp" else []), "split")
    files, model, _ = exported(tmp_path, train, "value", *steps)
    (values,) = predictions(files, TABLE)
    np.testing.assert_allclose(values.ravel(), model.predict(inputs_of(model)), atol=1e-4)
    assert exported(tmp_path, train, "value", *steps)[0] == files


def test_clusters_are_the_same(tmp_path: Path) -> None:
    files, model, _ = exported(tmp_path, "train_k_means", None, n_clusters=3)
    assert predictions(files, TABLE)[0].tolist() == model.predict(inputs_of(model)).tolist()


def test_a_model_that_the_converters_do_not_know_is_unsupported(tmp_path: Path) -> None:
    steps = ("decompose_dates", "impute", ("one_hot_encode", {"max_categories": 2}), "split")
    with pytest.raises(BadInput, match=r"has no form in ONNX: Infrequent categories are not implemented") as raised:
        exported(tmp_path, "train_logistic_regression", "class", *steps)
    assert raised.value.code == "UNSUPPORTED"


def test_a_file_that_predicts_something_else_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_other_rows = onnx_model._sample  # pyright: ignore[reportPrivateUsage] - to change what is compared
    monkeypatch.setattr(onnx_model, "_constants", lambda *_: {"färbe": "r"})
    with pytest.raises(BadInput, match=r"predicts something else in ONNX, .* for some of 200 rows") as raised:
        exported(tmp_path, "train_logistic_regression", "class")
    assert (raised.value.code, onnx_model._sample) == ("UNSUPPORTED", of_other_rows)  # pyright: ignore[reportPrivateUsage] - as above
    assert not [*tmp_path.glob("export/*")]


def test_rows_that_the_training_left_out_are_not_compared(tmp_path: Path) -> None:
    filtering = ("filter_rows", {"conditions": [{"column": "a b", "operator": "is_not_missing"}]})
    files, _, _ = exported(tmp_path, "train_logistic_regression", "class", "decompose_dates", filtering, ("one_hot_encode", {}), "split")
    assert json.loads(files["signature.json"])["verified_rows"] == 200


def test_without_the_extra_its_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(BadInput, match=r"its extra `onnx` is not installed. Run `pip install 'trellis\[onnx\]'`"):
        exported(tmp_path, "train_logistic_regression", "class")
