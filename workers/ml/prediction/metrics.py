"""Metrics of the predictions of a dataset whose rows have the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from workers.ml import scoring

MAX_CELLS = 5_000_000  # rows times columns that are measured at once
SAMPLE_SEED = 0


def measure(path: Path, target: str, prediction: str, probabilities: Sequence[str], classes: np.ndarray | None) -> dict[str, Any]:
    """Return {metrics, measuredRows}, as trainings measure them; of a file with more than `MAX_CELLS`, on a sample of its rows.

    Rows without a target or a prediction are left out. Return nothing if none is left.
    """
    scan = pl.scan_parquet(path).select(target, prediction, *probabilities)
    limit = MAX_CELLS // (2 + len(probabilities))
    total = int(scan.select(pl.len()).collect().item())
    if total > limit:
        chosen = np.zeros(total, dtype=bool)
        chosen[np.random.default_rng(SAMPLE_SEED).choice(total, limit, replace=False)] = True
        scan = scan.filter(pl.Series(chosen))
    frame = scan.with_columns(pl.selectors.float().fill_nan(None)).drop_nulls([target, prediction]).collect(engine="streaming")
    return _regression(frame, target, prediction) if classes is None else _classification(frame, target, prediction, probabilities, classes)


def _regression(frame: pl.DataFrame, target: str, prediction: str) -> dict[str, Any]:
    truth = frame[target].cast(pl.Float64, strict=False)
    usable = truth.is_finite().fill_null(value=False)
    frame, truth = frame.filter(usable), truth.filter(usable)
    if not frame.height:
        return {}
    return {"metrics": scoring.regression_scores(truth.to_numpy(), frame[prediction].to_numpy()), "measuredRows": frame.height}


def _classification(frame: pl.DataFrame, target: str, prediction: str, probabilities: Sequence[str], classes: np.ndarray) -> dict[str, Any]:
    """Classes are compared by their number among the model's, since labels may be long; others are one more class."""
    if not frame.height:
        return {}
    labels = pl.Series(classes.tolist())
    dtype = pl.String if labels.dtype == pl.String else pl.Float64
    numbers = np.arange(len(labels))
    codes = {
        name: frame[name]
        .cast(dtype, strict=False)
        .replace_strict(labels.cast(dtype), numbers, default=len(labels), return_dtype=pl.Int64)
        .to_numpy()
        for name in (target, prediction)
    }
    scores = scoring.classification_scores(codes[target], codes[prediction], frame.select(probabilities).to_numpy(), numbers)
    return {"metrics": scores, "measuredRows": frame.height}
