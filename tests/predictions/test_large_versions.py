"""A version is predicted in batches: memory does not grow with its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule

pytestmark = pytest.mark.exhaustive

MODEL_FILE: Any = LazyModule("workers.ml.artifacts.model_file")
LINEAR: Any = LazyModule("sklearn.linear_model")
COMPOSE: Any = LazyModule("sklearn.compose")
PIPELINE: Any = LazyModule("sklearn.pipeline")

NAMES = [f"x{number}" for number in range(10)]
BODY = """
import json, sys
from workers.ml.prediction.body import predict_dataset

class Reporter:
    steps, peak = [], 0
    def progress(self, percent, step):
        self.steps.append(step)
        if step == "Measure":  # all rows are written; what follows is measured and profiled as in other jobs
            # Not `ru_maxrss`, which starts with that of the parent.
            status = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
            Reporter.peak = int(status["VmHWM"].split()[0]) * 1024
    def log(self, message):
        pass

result = predict_dataset(json.loads(sys.argv[1]), Reporter())
print(json.dumps({
    "peak": Reporter.peak, "rows": result["row_count"], "answer": result["answer"],
    "steps": [step for step in Reporter.steps if step.startswith("Predict: ")],
}))
"""


@pytest.mark.parametrize(("few", "many"), [(20_000, 100_000), exhaustive(100_000, 1_000_000)])
def test_many_rows_are_predicted_in_the_memory_of_a_few(tmp_path: Path, few: int, many: int) -> None:
    rng = np.random.default_rng(1)
    small = pl.DataFrame(rng.normal(size=(100_000, 10)), schema=NAMES)
    model = PIPELINE.Pipeline(
        [("features", COMPOSE.ColumnTransformer([("unchanged", "passthrough", NAMES)])), ("model", LINEAR.LogisticRegression())]
    ).fit(small, np.where(small["x0"] + small["x1"] > 0, "yes", "no"))
    MODEL_FILE.write_model(model, tmp_path / "model", small.head(10))
    signature = {
        "inputs": [{"name": name, "kind": "number", "type": "FLOAT"} for name in NAMES],
        "output": {"problem_type": "CLASSIFICATION", "target": "truth", "classes": ["no", "yes"]},
    }
    (tmp_path / "signature").write_text(json.dumps(signature))
    peaks: list[int] = []
    for rows in (few, many):
        table = pl.DataFrame(rng.normal(size=(rows, 10)), schema=NAMES)
        table = table.with_columns(truth=pl.when(pl.col("x0") + pl.col("x1") > 0).then(pl.lit("yes")).otherwise(pl.lit("no")))
        table.write_parquet(tmp_path / "source.parquet", row_group_size=few)
        (folder := tmp_path / str(rows)).mkdir()
        spec = {
            **{name: str(tmp_path / name) for name in ("model", "signature")},
            "parquet": str(tmp_path / "source.parquet"),
            "columns": [{"name": name, "type": "FLOAT", "nullable": False} for name in NAMES],
            "folder": str(folder),
        }
        process = subprocess.run([sys.executable, "-c", BODY, json.dumps(spec)], capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
        measured = json.loads(process.stdout)
        assert (measured["rows"], measured["answer"]["predicted"], measured["steps"][-1]) == (
            rows,
            rows,
            f"Predict: {rows:,} of {rows:,} rows",
        )
        assert measured["answer"]["metrics"]["accuracy"] > 0.99
        assert pl.read_parquet(folder / "data.parquet", columns=["prediction"])["prediction"].to_list() == model.predict(table).tolist()
        peaks.append(measured["peak"])
    assert peaks[1] - peaks[0] < 40 * 1024**2, peaks  # the larger table of the larger case has 85 MB
