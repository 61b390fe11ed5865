"""Predictions of a Parquet file, batch by batch: its rows and columns, and the predictions beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.columns import unique
from workers.ml.dataset_output import preview_rows
from workers.ml.errors import BadInput
from workers.ml.json_values import json_value
from workers.ml.prediction.contents import ContentReader
from workers.ml.prediction.features import Batch, FeatureReader, composed_names
from workers.ml.prediction.metrics import measure
from workers.ml.prediction.predictor import Predictions, Predictor
from workers.ml.reporting import Reporter

if TYPE_CHECKING:
    from workers.ml.profiling import ProfileReport

MAX_BATCH_ROWS = 65_536
MIN_BATCH_ROWS = 1_000
BATCH_CELLS = 2_000_000
PREDICTED_PERCENT, MEASURED_PERCENT = 70.0, 75.0
MAX_NAMED_VALUE = 100  # characters of a class in the name of a column


class DatasetPredictions(TypedDict):
    """As `DatasetResult` of a pipeline, and the `answer` of the job."""

    parquet: str
    row_count: int
    column_count: int
    columns: list[dict[str, Any]]
    preview: list[dict[str, Any]]
    profile: ProfileReport
    answer: dict[str, Any]


@dataclass(frozen=True)
class OutputColumns:
    """The names of the columns that hold predictions, and their types."""

    prediction: str
    prediction_type: pa.DataType
    probabilities: Sequence[str]
    score: str | None
    """The column with what the predictor's `score` names."""

    def fields(self) -> list[tuple[str, pa.DataType]]:
        numbers = [*self.probabilities, *([] if self.score is None else [self.score])]
        return [(self.prediction, self.prediction_type), *((name, pa.float64()) for name in numbers)]

    def arrays(self, batch: Batch, predictions: Predictions | None) -> Iterator[pa.Array]:
        """Yield an array for each field, with null for the rows that cannot be predicted."""
        values = None if predictions is None else predictions.values
        yield _scatter(values, batch.can_predict, self.prediction_type)
        for number in range(len(self.probabilities)):
            probabilities = None if predictions is None else predictions.probabilities
            yield _scatter(None if probabilities is None else probabilities[:, number], batch.can_predict, pa.float64())
        if self.score is not None:
            yield _scatter(None if predictions is None else predictions.scores, batch.can_predict, pa.float64())


def write_predictions(
    source: Path,
    columns: Sequence[Mapping[str, Any]],
    folder: Path,
    signature: Mapping[str, Any],
    predictor: Predictor,
    reporter: Reporter,
    contents: ContentReader | None = None,
) -> DatasetPredictions:
    """Write `data.parquet` into the folder; where the model divides items into parts, with a row for each part.

    Raises BadInput (NO_PREDICTIONS) if the model can predict none of the rows, and those of `ContentReader.read`.
    """
    from workers.ml.profiling import profile_parquet

    reader = FeatureReader(signature, predictor)
    target = folder / "data.parquet"
    with pq.ParquetFile(source) as file:
        total, schema = file.metadata.num_rows, file.schema_arrow
        output = _output_columns(schema.names, signature, predictor)
        predicted = 0
        written_schema = pa.schema([*schema, *(pa.field(name, type_) for name, type_ in output.fields())])
        with pq.ParquetWriter(target, written_schema, compression="zstd") as writer:
            done = written = 0
            for rows in _batches(file, _batch_rows(len(written_schema) + (0 if contents is None else contents.width))):
                done += rows.num_rows
                if contents is None:
                    batch = reader.read(_read_columns(rows, reader))
                else:
                    found = contents.read(composed_names(pl.DataFrame(pl.from_arrow(rows))))
                    rows = rows.take(pa.array(found.of))  # noqa: PLW2901 - a row for each part of an item
                    batch = reader.read_contents(_read_columns(rows, reader), found)
                predictions = predictor.predict(batch.features) if batch.can_predict.any() else None
                writer.write_batch(pa.RecordBatch.from_arrays([*rows.columns, *output.arrays(batch, predictions)], schema=written_schema))
                written, predicted = written + rows.num_rows, predicted + int(batch.can_predict.sum())
                reporter.progress(2 + (PREDICTED_PERCENT - 2) * done / max(total, 1), f"Predict: {done:,} of {total:,} rows")
    issues = reader.issues.to_list()
    for issue in issues:
        reporter.log(str(issue["message"]))
    if total and not predicted:
        reasons = " ".join(str(issue["message"]) for issue in issues[:3])
        raise BadInput("NO_PREDICTIONS", f"The model cannot predict any of the {total:,} rows. {reasons} Choose another version.")
    answer: dict[str, Any] = {"rows": written, "predicted": predicted, "issues": issues, "columns": _named(output, predictor.score)}
    if predictor.classes is not None:
        answer["classes"] = [json_value(each) for each in predictor.classes.tolist()]
    if (truth := signature["output"].get("target")) in schema.names:
        reporter.progress(PREDICTED_PERCENT, "Measure")
        answer |= measure(target, str(truth), output.prediction, output.probabilities, predictor.classes)
    made = [{"name": name, "type": _column_type(type_), "nullable": predicted < written} for name, type_ in output.fields()]
    return {
        "parquet": str(target),
        "row_count": written,
        "column_count": len(written_schema),
        "columns": [*map(dict, columns), *made],
        "preview": preview_rows(target),
        "profile": profile_parquet(str(target), reporter, start_percent=MEASURED_PERCENT, end_percent=99),
        "answer": answer,
    }


def _batch_rows(columns: int) -> int:
    """Rows of a batch, so that memory does not grow with the file, and hardly with its columns."""
    return max(MIN_BATCH_ROWS, min(MAX_BATCH_ROWS, BATCH_CELLS // columns))


def _batches(file: pq.ParquetFile, size: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one row group after the other: over several of them, the reader keeps what it has read."""
    for group in range(file.num_row_groups):
        yield from file.iter_batches(size, row_groups=[group], use_threads=False)


def _read_columns(rows: pa.RecordBatch, reader: FeatureReader) -> pl.DataFrame:
    frame = composed_names(pl.DataFrame(pl.from_arrow(rows)))
    return frame.select(reader.column_names(frame.columns)) if reader.column_names(frame.columns) else pl.DataFrame(height=rows.num_rows)


def _output_columns(names: Sequence[str], signature: Mapping[str, Any], predictor: Predictor) -> OutputColumns:
    taken = set(names)

    def name(wanted: str) -> str:
        taken.add(free := unique(wanted, taken))
        return free

    prediction = name("prediction")
    if predictor.classes is not None:
        classes = predictor.classes.tolist()
        return OutputColumns(prediction, pa.array(classes).type, [name(f"probability_{_label(value)}") for value in classes], None)
    if signature["output"]["problem_type"] == "REGRESSION":
        return OutputColumns(prediction, pa.float64(), [], None)
    return OutputColumns(prediction, pa.int64(), [], None if predictor.score is None else name(predictor.score))


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(json_value(str(value), MAX_NAMED_VALUE))


def _scatter(values: np.ndarray | None, can_predict: np.ndarray, type_: pa.DataType) -> pa.Array:
    if values is None:
        return pa.nulls(len(can_predict), type_)
    if len(values) == len(can_predict):
        return pa.array(values.tolist() if values.dtype.kind in "UO" else values, type_)
    positions = np.full(len(can_predict), -1)
    positions[can_predict] = np.arange(len(values))
    return pa.array(values.tolist() if values.dtype.kind in "UO" else values, type_).take(pa.array(positions, mask=~can_predict))


def _named(output: OutputColumns, score: str | None) -> dict[str, Any]:
    named: dict[str, Any] = {"prediction": output.prediction}
    if output.probabilities:
        named["probabilities"] = list(output.probabilities)
    return named if score is None else named | {score: output.score}


def _column_type(type_: pa.DataType) -> str:
    if pa.types.is_boolean(type_):
        return "BOOLEAN"
    if pa.types.is_integer(type_):
        return "INTEGER"
    return "FLOAT" if pa.types.is_floating(type_) else "CATEGORY"
