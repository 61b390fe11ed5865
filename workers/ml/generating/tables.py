"""Generators of tables, with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import make_blobs, make_classification, make_regression

Columns = dict[str, Any]


def write(generator: str, parameters: dict[str, Any], seed: int, target: Path, progress: Callable[[float, str], None]) -> dict[str, Any]:
    """Write the data as Parquet; return how many rows and columns it has."""
    features, rest = GENERATORS[generator](parameters, seed)
    _drop(features, parameters["missing"], seed)
    columns: Columns = {f"feature_{index}": values for index, values in enumerate(features.T, 1)} | rest
    # From pandas' point of view NaN is missing; the file has nulls.
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    progress(0.7, "Write the file")
    pq.write_table(table, target, compression="zstd")
    return {"rows": table.num_rows, "columns": table.num_columns}


def _classification(parameters: dict[str, Any], seed: int) -> tuple[Any, Columns]:
    features, classes = make_classification(
        n_samples=parameters["rows"],
        n_features=parameters["features"],
        n_informative=parameters["informative"],
        n_redundant=0,
        n_classes=parameters["classes"],
        n_clusters_per_class=1,
        class_sep=parameters["separation"],
        flip_y=parameters["flipped"],
        random_state=seed,
    )
    return features, {"label": [f"class_{number + 1}" for number in classes]}


def _regression(parameters: dict[str, Any], seed: int) -> tuple[Any, Columns]:
    made: Any = make_regression(  # Any: whether the coefficients are returned too is not in the types
        n_samples=parameters["rows"],
        n_features=parameters["features"],
        n_informative=parameters["informative"],
        noise=parameters["noise"],
        random_state=seed,
    )
    features, target = made
    return features, {"target": target}


def _blobs(parameters: dict[str, Any], seed: int) -> tuple[Any, Columns]:
    blobs: Any = make_blobs(  # Any: whether the centres are returned too is not in the types
        n_samples=parameters["rows"],
        n_features=parameters["features"],
        centers=parameters["groups"],
        cluster_std=parameters["spread"],
        random_state=seed,
    )
    points, groups = blobs[:2]
    return points, {"group": groups.astype(np.int64) + 1}


def _drop(features: Any, share: float, seed: int) -> None:
    """Replace a share of the cells by NaN; without one, nothing is drawn."""
    if share > 0:
        features[np.random.default_rng(seed).random(features.shape) < share] = np.nan


GENERATORS: dict[str, Callable[[dict[str, Any], int], tuple[Any, Columns]]] = {
    "classification": _classification,
    "regression": _regression,
    "blobs": _blobs,
}
