"""The rows that a model was measured on, as a table: their features, what is true and what the model predicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from workers.ml.bundle import Bundle
from workers.ml.columns import unique
from workers.ml.data_split import Subset
from workers.ml.json_values import json_value
from workers.ml.steps.evaluate import predict_rows
from workers.ml.trainer import Trained

MAX_RESULT_CELLS = 5_000_000
MAX_CLASSES = 100  # with a column of probabilities each


def write_results(bundle: Bundle, trained: Trained, part: Subset, path: Path) -> None:
    """Write the rows as Parquet, of many the first. Its metadata have `trellis`: the part, the number of its rows, and the metrics measured on it."""
    rows = bundle.rows_of(part)
    total = len(rows)
    rows = rows[: max(1, MAX_RESULT_CELLS // (len(trained.features) + 1))]
    features = bundle.features(trained.features, rows)
    predictor = trained.predictor
    predictions = predict_rows(bundle, trained, part) if len(rows) == total else predictor.predict(features)
    taken = {*features.columns}

    def name(wanted: str) -> str:
        taken.add(free := unique(wanted, taken))
        return free

    made: dict[str, np.ndarray] = {}
    if trained.target is not None:
        made[name(trained.target)] = bundle.target_values(rows)
    made[name("prediction")] = predictions.values
    if predictor.classes is not None and predictions.probabilities is not None and len(predictor.classes) <= MAX_CLASSES:
        for number, value in enumerate(predictor.classes.tolist()):
            made[name(f"probability_{json_value(str(value), 100)}")] = predictions.probabilities[:, number]
    if predictor.score is not None and predictions.scores is not None:
        made[name(predictor.score)] = predictions.scores
    table = features.with_columns(pl.Series(column, values.tolist()) for column, values in made.items()).to_arrow()
    summary = {"part": part, "rows": total, "metrics": dict(sorted(bundle.metrics.items()))}
    pq.write_table(table.replace_schema_metadata({"trellis": json.dumps(summary)}), path, compression="zstd")
