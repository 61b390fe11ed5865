"""The bodies of PREDICT jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from workers.ml.contents.places import ItemFiles
from workers.ml.errors import BadInput
from workers.ml.json_values import json_value
from workers.ml.prediction.contents import ContentReader
from workers.ml.prediction.dataset import DatasetPredictions, write_predictions
from workers.ml.prediction.features import FeatureReader, frame_of
from workers.ml.prediction.loading import load_predictor
from workers.ml.prediction.predictor import Predictions
from workers.ml.reporting import Reporter
from workers.ml.trainer import THREADS, thread_pools

MAX_ANSWER_BYTES = 8 * 1024**2
TEXT_LENGTH = 1_000_000  # of a label, which is whole


class ModelFiles(TypedDict):
    """Paths of a model's file and of its signature."""

    model: str
    signature: str


class RowsSpec(ModelFiles):
    """`rows` is the path of a JSON list of objects."""

    rows: str


class DatasetSpec(ModelFiles):
    """`columns` are {name, type, nullable} of the Parquet file, as in its version; what is written goes to `folder`. `items` are the files of its items, if
    the model takes columns that are read from their contents."""

    parquet: str
    columns: list[dict[str, Any]]
    folder: str
    items: NotRequired[ItemFiles | None]


def predict_rows(spec: RowsSpec, reporter: Reporter) -> dict[str, Any]:
    """Return {predictions, issues, classes}. Raises BadInput: BAD_MODEL, RESULT_TOO_LARGE, and those of `FeatureReader.read`."""
    rows = json.loads(Path(spec["rows"]).read_bytes())
    signature = _load_json(spec["signature"])
    reporter.progress(5, "Load the model")
    with thread_pools().limit(limits=THREADS):
        predictor = load_predictor(Path(spec["model"]), signature)
        reader = FeatureReader(signature, predictor)
        reporter.progress(20, f"Predict: 0 of {len(rows):,} rows")
        batch = reader.read(frame_of(rows, reader, signature["output"].get("target")))
        predicted = iter(_answers(predictor.predict(batch.features), predictor.score) if batch.can_predict.any() else [])
    predictions = [next(predicted) if can_predict else {"prediction": None} for can_predict in batch.can_predict.tolist()]
    answer: dict[str, Any] = {"predictions": predictions, "issues": reader.issues.to_list()}
    if predictor.classes is not None:
        answer["classes"] = [json_value(each, TEXT_LENGTH) for each in predictor.classes.tolist()]
    size = len(json.dumps(answer))
    if size > MAX_ANSWER_BYTES:
        message = f"The predictions have {size:,} bytes; an answer has at most {MAX_ANSWER_BYTES:,}. Predict fewer rows at once, or use `predictDataset`."
        raise BadInput("RESULT_TOO_LARGE", message)
    reporter.progress(100, f"Predict: {len(rows):,} of {len(rows):,} rows")
    return answer


def predict_dataset(spec: DatasetSpec, reporter: Reporter) -> DatasetPredictions:
    """Write the rows of a Parquet file with their predictions. Raises BadInput: BAD_MODEL, NO_PREDICTIONS, and those of `FeatureReader.read`."""
    signature = _load_json(spec["signature"])
    reporter.progress(1, "Load the model")
    with thread_pools().limit(limits=THREADS):
        predictor = load_predictor(Path(spec["model"]), signature)
        contents = None if (files := spec.get("items")) is None else ContentReader(signature["contents"], files)
        return write_predictions(Path(spec["parquet"]), spec["columns"], Path(spec["folder"]), signature, predictor, reporter, contents)


def _answers(predictions: Predictions, score: str | None) -> list[dict[str, Any]]:
    answers = [{"prediction": json_value(value, TEXT_LENGTH)} for value in predictions.values.tolist()]
    for name, values in (("probabilities", predictions.probabilities), (str(score), predictions.scores)):
        if values is not None:
            for answer, value in zip(answers, np.asarray(values).tolist(), strict=True):
                answer[name] = value
    return answers


def _load_json(path: str) -> dict[str, Any]:
    return json.loads(Path(path).read_bytes())
