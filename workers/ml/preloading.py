"""What a forkserver imports and runs once, so that none of its bodies does.

The first call of many functions builds caches or imports modules, and a body always makes a first call. With these made here, the body of a training of
400 rows takes 15 % less CPU, and one that scales 400 rows 30 % less. No polars expression is evaluated: polars starts threads for it, and a fork has none
of them.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

MODULES = (
    "numpy",
    "polars",
    "pyarrow.parquet",
    "pyarrow.csv",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "lightgbm",
    "polars._utils.parquet",
    "email.parser",  # reads the versions of packages
    "workers.ml.ingest",
    "workers.ml.training",
    "workers.ml.dataset_output",
    "workers.ml.artifacts",
    "workers.ml.prediction.body",
)
# scikit-learn and LightGBM import these where they are installed, as where Trellis is developed. Bodies do not use them; they take half a second, and
# memory whose page tables each fork copies.
UNUSED_PACKAGES = ("pandas", "pytest")


class _Finder(PathFinder):
    """Finds installed packages but `UNUSED_PACKAGES`, also for libraries that ask for a specification before they import."""

    @classmethod
    def find_spec(cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return None if fullname in UNUSED_PACKAGES else super().find_spec(fullname, path, target)


def hide_unused_packages() -> None:
    sys.meta_path[:] = [_Finder if finder is PathFinder else finder for finder in sys.meta_path]


def show_all_packages() -> None:
    sys.meta_path[:] = [PathFinder if finder is _Finder else finder for finder in sys.meta_path]


def preload() -> None:
    """Import the heavy libraries and run a small training. An error is printed: the body that needs what failed fails with the same error."""
    hide_unused_packages()
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - see above
            traceback.print_exc()
    try:
        _warm_up()
    except Exception:  # noqa: BLE001 - see above
        traceback.print_exc()


def _warm_up() -> None:
    import narwhals.stable.v2 as narwhals
    import numpy as np
    import polars as pl
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from workers.ml.artifacts.model_file import canonical_archive
    from workers.ml.artifacts.plots import plot_confusion, plot_importance
    from workers.ml.artifacts.trust import TRUSTED_TYPES, import_skops
    from workers.ml.scoring import classification_scores
    from workers.ml.trainer import THREADS, thread_pools

    _ = narwhals.from_native(pl.DataFrame(schema={"number": pl.Float64}), eager_only=True).schema
    with thread_pools().limit(limits=THREADS):
        table = np.array([[number % 7, "ab"[number % 2]] for number in range(20)], dtype=object)
        truth = np.array(["yes", "no"] * 10, dtype=object)
        numbers, texts = Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())]), Pipeline([("encode", OneHotEncoder())])
        features = ColumnTransformer([("numbers", numbers, [0]), ("texts", texts, [1])], sparse_threshold=0)
        pipeline = Pipeline([("features", features), ("model", LogisticRegression())]).fit(table, truth)
        skops = import_skops()
        loaded = skops.loads(canonical_archive(skops.dumps(pipeline)), trusted=TRUSTED_TYPES)
        predicted = loaded.predict(table)
        classification_scores(truth, predicted, pipeline.predict_proba(table), pipeline.classes_)
    plot_importance({"method": "gain", "columns": [{"name": "column", "importance": 1.0}], "features": []}, Path(os.devnull))
    plot_confusion(truth, predicted, Path(os.devnull), "test rows")
