"""ONNX: a model for other programs, which appears only if it predicts what the model itself predicts.

A number is a float32, a text a string of its own input. ONNX has no missing text: the first step of a text column fills it with a constant, which the caller
does instead, and `signature.json` names it.
"""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import polars as pl

from workers.ml.artifacts.trust import load_model
from workers.ml.contents.places import ItemFiles
from workers.ml.errors import BadInput
from workers.ml.exports.source import ExportResult, written
from workers.ml.prediction.contents import ContentReader
from workers.ml.prediction.features import FeatureReader, composed_names
from workers.ml.prediction.predictor import PipelinePredictor
from workers.ml.reporting import Reporter

OPSETS = {"": 18, "ai.onnx.ml": 3}
VERIFIED_ROWS, READ_ROWS = 200, 5_000
TOLERANCE = 1e-5
UNSUPPORTED = "UNSUPPORTED"


class ModelExportSpec(TypedDict):
    """`model` and `signature` are files of the model version, `parquet` has the rows that it was trained on; `stem` begins the names of files."""

    model: str
    signature: str
    parquet: str
    folder: str
    stem: str
    name: str
    """Of the model and its version, for messages."""
    items: NotRequired[ItemFiles | None]
    """The files of the version's items, if the model reads their contents."""


def export_model(spec: ModelExportSpec, reporter: Reporter) -> ExportResult:
    """Raises BadInput (UNSUPPORTED) for a model that cannot be converted, or that the conversion changes."""
    reporter.progress(0, "Read the model")
    signature = json.loads(Path(spec["signature"]).read_text(encoding="utf-8"))
    pipeline = load_model(spec["model"])
    inputs = signature["inputs"]
    names = _input_names([each["name"] for each in inputs])
    reporter.progress(20, "Convert the model")
    missing = _constants(pipeline, {each["name"] for each in inputs if each["kind"] == "text"})
    content = _convert(pipeline, inputs, names, spec["name"])
    reporter.progress(60, "Verify the model")
    rows = _verify(pipeline, content, _sample(spec, pipeline, signature), names, missing, spec["name"])
    reporter.log(f"The ONNX model predicts what the model predicts for {rows:,} rows that it was trained on.")
    folder = Path(spec["folder"])
    model_path, description = folder / "model.onnx", folder / "signature.json"
    model_path.write_bytes(content)
    document = {
        "inputs": [
            {
                "name": names[each["name"]],
                "column": each["name"],
                "type": "string" if each["kind"] == "text" else "float",
                "missing": missing.get(each["name"]) if each["kind"] == "text" else "NaN",
                **({"from": each["from"]} if "from" in each else {}),
            }
            for each in inputs
        ],
        "output": signature["output"],
        "verified_rows": rows,
    }
    description.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    files = [
        written(model_path, f"{spec['stem']}.onnx", "application/octet-stream", None),
        written(description, description.name, "application/json", None),
    ]
    return {"files": files, "rows": rows}


def _input_names(columns: list[str]) -> dict[str, str]:
    """A name for the input of each column: letters, digits and underscores, as the converter takes them."""
    names: dict[str, str] = {}
    for column in columns:
        plain = re.sub(r"\W", "_", column, flags=re.ASCII)
        base = plain if plain[:1].isalpha() else f"x_{plain}"
        number = 1
        while (name := base if number == 1 else f"{base}_{number}") in names.values():
            number += 1
        names[column] = name
    return names


def _steps(transformer: Any) -> list[Any]:
    """The transformers in a Pipeline, and in Pipelines in it, in order."""
    return [each for _, step in transformer.steps for each in _steps(step)] if hasattr(transformer, "steps") else [transformer]


def _is_imputer(step: Any) -> bool:
    return type(step).__name__ == "SimpleImputer"


def _constants(pipeline: Any, texts: set[str]) -> dict[str, str]:
    """What stands for a missing value of each text column."""
    constants: dict[str, str] = {}
    for _, transformer, members in pipeline.named_steps["features"].transformers_:
        imputer = next((step for step in _steps(transformer) if _is_imputer(step) and step.missing_values is None), None)
        for position, member in enumerate(members):
            if member in texts and imputer is not None:
                constants[member] = str(imputer.statistics_[position])
    return constants


def _convert(pipeline: Any, inputs: list[dict[str, Any]], names: Mapping[str, str], name: str) -> bytes:
    try:
        from skl2onnx import to_onnx  # an extra; takes a second to import
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType
        from sklearn.base import is_classifier

        _register_converters()
    except ImportError as error:
        raise BadInput(
            UNSUPPORTED,
            "This worker cannot write ONNX: its extra `onnx` is not installed. Run `pip install 'trellis[onnx]'` where workers run.",
        ) from error
    types: Any = [
        (names[each["name"]], StringTensorType([None, 1]) if each["kind"] == "text" else FloatTensorType([None, 1])) for each in inputs
    ]
    prepared = _without_text_imputers(pipeline, {each["name"] for each in inputs if each["kind"] == "text"}, names)
    options = {id(prepared[-1]): {"zipmap": False}} if is_classifier(pipeline) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return to_onnx(prepared, initial_types=types, options=options, target_opset=OPSETS).SerializeToString()
    except Exception as error:  # the converters raise what they like for what they do not know
        reason = str(error).partition("\n")[0][:200]
        raise BadInput(
            UNSUPPORTED, f"{name} ({type(pipeline[-1]).__name__}) has no form in ONNX: {reason} Download its model file instead."
        ) from error


def _register_converters() -> None:
    from lightgbm import LGBMClassifier, LGBMRegressor  # see _convert
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator

    from workers.ml.convolution import onnx_nodes

    classifier, regressor = (
        shape_calculator.calculate_linear_classifier_output_shapes,
        shape_calculator.calculate_linear_regressor_output_shapes,
    )
    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    update_registered_converter(LGBMClassifier, "LightGbmLGBMClassifier", classifier, convert_lightgbm, options=options)
    update_registered_converter(LGBMRegressor, "LightGbmLGBMRegressor", regressor, convert_lightgbm)
    onnx_nodes.register()
    if find_spec("xgboost") is not None:  # an extra too
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor

        update_registered_converter(XGBClassifier, "XGBoostXGBClassifier", classifier, convert_xgboost, options=options)
        update_registered_converter(XGBRegressor, "XGBoostXGBRegressor", regressor, convert_xgboost)


def _without_text_imputers(pipeline: Any, texts: set[str], names: Mapping[str, str]) -> Any:
    """A copy of the Pipeline without the steps that fill missing texts, and with the names of inputs for columns."""
    from sklearn.pipeline import Pipeline  # takes long to import

    features = copy.copy(pipeline.named_steps["features"])
    transformers: list[tuple[str, Any, list[str]]] = []
    for group, transformer, members in features.transformers_:
        if group == "remainder":
            continue
        kept = transformer
        if texts & set(members):
            steps = [step for step in _steps(transformer) if not _is_imputer(step)]
            kept = Pipeline([(str(number), step) for number, step in enumerate(steps)]) if steps else "passthrough"
        transformers.append((group, kept, [names[member] for member in members]))
    features.transformers = features.transformers_ = transformers
    features.feature_names_in_ = np.array([names[name] for name in features.feature_names_in_], dtype=object)
    return Pipeline([("features", features), *pipeline.steps[1:]])


def _sample(spec: ModelExportSpec, pipeline: Any, signature: Mapping[str, Any]) -> pl.DataFrame:
    """The first rows as predictions take them: with parts of dates, other names, cleaned and embedded texts and what is read from items."""
    reader = FeatureReader(signature, PipelinePredictor(pipeline, signature["output"]["problem_type"]))
    is_slow = any("embedding" in each.get("from", {}) for each in signature["inputs"])
    frame = composed_names(pl.scan_parquet(spec["parquet"]).head(VERIFIED_ROWS if is_slow else READ_ROWS).collect())
    if (files := spec.get("items")) is None:
        return reader.read(frame).features
    frame = frame.head(VERIFIED_ROWS)
    found = ContentReader(signature["contents"], files).read(frame)
    return reader.read_contents(frame[found.of], found).features


def _verify(pipeline: Any, content: bytes, sample: pl.DataFrame, names: Mapping[str, str], missing: Mapping[str, str], name: str) -> int:
    """Compare predictions; return of how many rows. Raises BadInput (UNSUPPORTED) if one differs."""
    import onnxruntime  # see _convert

    rows = sample[:VERIFIED_ROWS]
    try:
        expected = pipeline.predict(rows)
    except ValueError:  # rows that a step of the training filtered
        numbers = pl.selectors.numeric()
        rows = sample.filter(pl.all_horizontal(pl.all().is_not_null(), numbers.is_finite()))[:VERIFIED_ROWS]
        if not rows.height:
            raise BadInput(UNSUPPORTED, f"{name} cannot be verified: it takes no row of the data that it was trained on.") from None
        expected = pipeline.predict(rows)
    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed: dict[str, Any] = {}
    for column in rows.columns:
        series = rows[column]
        if series.dtype == pl.String:
            feed[names[column]] = series.fill_null(missing.get(column, "")).to_numpy().astype(object).reshape(-1, 1)
        else:
            feed[names[column]] = series.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float32).reshape(-1, 1)
    try:
        results = session.run(None, {each.name: feed[each.name] for each in session.get_inputs()})
    except Exception as error:  # the runtime's own kinds have no common base; such as for DBSCAN, whose noise has no row
        reason = " ".join(str(error).split())
        raise BadInput(UNSUPPORTED, f"{name} was converted, and cannot run in ONNX: {reason} Download its model file instead.") from error
    if hasattr(pipeline, "predict_proba"):
        probabilities = pipeline.predict_proba(rows)
        ranked = np.sort(probabilities, axis=1)
        is_tied = (
            ranked[:, -1] - ranked[:, -2:].min(axis=1) <= 2 * TOLERANCE if ranked.shape[1] > 1 else False
        )  # the last digits decide, which differ even between two batches of one runtime
        is_equal = bool(((np.asarray(results[0]) == expected) | is_tied).all())
        is_equal = is_equal and float(np.abs(results[1] - probabilities).max()) <= TOLERANCE
    elif np.asarray(expected).dtype.kind == "f":
        allowed = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        is_equal = float(np.abs(np.asarray(results[0]).ravel() - expected).max()) <= allowed
    else:
        is_equal = bool((np.asarray(results[0]).ravel() == expected).all())
    if not is_equal:
        raise BadInput(
            UNSUPPORTED,
            f"{name} predicts something else in ONNX, which computes with 32 bits, for some of {rows.height:,} rows. Download its model file instead.",
        )
    return rows.height
