"""The rows whose predictions are explained, as the model takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.errors import BadInput
from workers.ml.prediction.contents import ContentReader
from workers.ml.prediction.features import FeatureReader, composed_names, frame_of
from workers.ml.prediction.predictor import Predictor

MAX_CELLS = 2_000_000
BATCH_ROWS = 16_384


@dataclass(frozen=True)
class ExplainedRows:
    """`features` of rows that the model can predict, and their `truth` where it is known. `total` is how many rows there are to choose from."""

    features: pl.DataFrame
    truth: pl.Series | None
    total: int
    issues: Sequence[Mapping[str, Any]] = ()


def row_limit(max_rows: int, columns: int) -> int:
    """How many rows are explained, for each of which there are so many numbers."""
    return max(1, min(max_rows, MAX_CELLS // max(columns, 1)))


def held_out_rows(path: Path, signature: Mapping[str, Any], limit: int, seed: int) -> ExplainedRows:
    """Read the rows that a model was measured on, as its training wrote them: its columns, then the target and what it predicts."""
    frame = pl.read_parquet(path)
    names = [each["name"] for each in signature["inputs"]]
    has_target = signature["output"].get("target") is not None
    truth = frame[frame.columns[len(names)]] if has_target else None
    chosen = sample(frame.height, limit, seed)
    return ExplainedRows(frame.select(names)[chosen], None if truth is None else truth[chosen], frame.height)


def requested_rows(path: Path, signature: Mapping[str, Any], predictor: Predictor, limit: int, seed: int) -> ExplainedRows:
    """Read rows of a request, JSON objects. Raises BadInput, also NO_PREDICTIONS."""
    rows = json.loads(path.read_bytes())
    reader = FeatureReader(signature, predictor)
    batch = reader.read(frame_of(rows, reader, signature["output"].get("target")))
    issues = reader.issues.to_list()
    _require_any(batch.can_predict, issues)
    chosen = sample(batch.features.height, limit, seed)
    return ExplainedRows(batch.features[chosen], None, len(rows), issues)


def version_rows(
    path: Path,
    signature: Mapping[str, Any],
    predictor: Predictor,
    contents: ContentReader | None,
    limit: int,
    seed: int,
    row: int | None = None,
) -> ExplainedRows:
    """Read a sample of the rows of a version, or one of them, and the target where the version has it. Raises BadInput, also NO_PREDICTIONS."""
    reader = FeatureReader(signature, predictor)
    target = signature["output"].get("target")
    with pq.ParquetFile(path) as file:
        total = file.metadata.num_rows
        chosen = sample(total, limit, seed) if row is None else np.array([row])
        frame = _read(file, chosen, reader, target, [] if contents is None else contents.file_columns)
    if contents is None:
        batch = reader.read(frame)
        of = np.arange(frame.height)
    else:
        found = contents.read_rows(chosen.tolist(), frame)
        of = found.of
        batch = reader.read_contents(frame[of], found)
    issues = reader.issues.to_list()
    _require_any(batch.can_predict, issues)
    truth = frame[target][of].filter(pl.Series(batch.can_predict)) if target in frame.columns else None
    features = batch.features
    if features.height > limit:  # items that are divided have several rows
        kept = sample(features.height, limit, seed)
        features, truth = features[kept], None if truth is None else truth[kept]
    return ExplainedRows(features, truth, total, issues)


def table_row(path: Path, signature: Mapping[str, Any], predictor: Predictor, row: int) -> pl.DataFrame:
    """Read one row of a version, as the file has it."""
    with pq.ParquetFile(path) as file:
        return _read(file, np.array([row]), FeatureReader(signature, predictor), None, [])


def _read(file: pq.ParquetFile, chosen: np.ndarray, reader: FeatureReader, target: str | None, others: Sequence[str]) -> pl.DataFrame:
    """Read these rows, in ascending order, of the columns that the model needs, the target and others, where they are."""
    composed = composed_names(pl.DataFrame(schema=dict.fromkeys(file.schema_arrow.names, pl.Null))).columns
    names = dict(zip(composed, file.schema_arrow.names, strict=True))
    wanted = reader.column_names(composed)
    wanted += [name for name in dict.fromkeys((target, *others)) if name is not None and name in names and name not in wanted]
    first, parts = 0, list[pa.RecordBatch]()
    for batch in file.iter_batches(BATCH_ROWS, columns=[names[name] for name in wanted], use_threads=False):
        within = chosen[(chosen >= first) & (chosen < first + batch.num_rows)] - first
        if len(within):
            parts.append(batch.take(pa.array(within)))
        first += batch.num_rows
    if not wanted or not parts:
        return pl.DataFrame(height=len(chosen))
    return composed_names(pl.DataFrame(pl.from_arrow(pa.Table.from_batches(parts)))).select(wanted)


def sample(total: int, limit: int, seed: int) -> np.ndarray:
    """Choose `limit` of the rows at random, in ascending order; all if there are no more."""
    if total <= limit:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed % 2**64).choice(total, limit, replace=False))


def _require_any(can_predict: np.ndarray, issues: Sequence[Mapping[str, Any]]) -> None:
    if not can_predict.any():
        reasons = " ".join(str(issue["message"]) for issue in issues[:3])
        raise BadInput("NO_PREDICTIONS", f"The model cannot predict any of the rows, so there is nothing to explain. {reasons}".rstrip())
