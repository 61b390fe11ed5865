"""The step `prepare`: what it does to each column, by the training rows alone, and what the model card tells of it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, run

TRUST: Any = LazyModule("workers.ml.artifacts.trust")
ROWS = 120
FRAME = pl.DataFrame(
    {
        "gap": [None if row % 5 == 0 else float(row) for row in range(ROWS)],
        "text_number": [None if row % 10 == 3 else f" {row}.5" for row in range(ROWS)],
        "postcode": [f"0{row % 3}123" for row in range(ROWS)],
        "color": [("red", "blue", None)[row % 3] for row in range(ROWS)],
        "id": [f"u{row}" for row in range(ROWS)],
        "same": ["x"] * ROWS,
        "none": pl.Series([None] * ROWS, dtype=pl.Float64),
        "day": [date(2024, 1, 1) + timedelta(row) for row in range(ROWS)],
        "label": [str(int(row % 5 == 0)) for row in range(ROWS)],
    }
)


def test_every_column_gets_what_its_values_need_and_the_card_tells(tmp_path: Path) -> None:
    split = ("split", {"strategy": "time", "time_column": "day", "test_fraction": 0.25})
    result, report = run(tmp_path, FRAME, chain(split, "prepare", ("train_random_forest", {"n_estimators": 5})), target="label")
    train = FRAME[:90]
    median = train["gap"].drop_nulls().median()
    numbers_median = np.median([row + 0.5 for row in range(90) if row % 10 != 3])
    told = report.outputs["prepare"]["prepared"]
    assert told == {
        "day": "a date, replaced by its year, month, day, weekday and so on",
        "text_number": f"text of numbers, read as numbers, 12 missing numbers filled with the median {numbers_median:g}",
        "id": "dropped: its text differs in nearly every row (90 values in 90 training rows)",
        "same": "dropped: it has the same value in all training rows",
        "none": "dropped: it has no value in the training rows",
        "day_year": "dropped: it has the same value in all training rows",
        "gap": f"24 missing numbers filled with the median {median:g}",
        "postcode": "3 categories, encoded as columns of 0 and 1",
        "color": "3 categories, encoded as columns of 0 and 1",
    }
    card = artifact_path(result, "MODEL_CARD").read_text()
    assert "## Preparation" in card
    assert f"| `gap` | 24 missing numbers filled with the median {median:g} |" in card
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    derived = [
        *({"name": f"day_{part}", "from": {"column": "day", "part": part}} for part in ("month", "day", "weekday")),
        {"name": "text_number", "from": {"column": "text_number", "cast": "FLOAT"}},
    ]
    assert signature["derived"] == derived
    assert [entry["name"] for entry in signature["inputs"]] == [
        "gap",
        "text_number",
        "postcode",
        "color",
        "day_month",
        "day_day",
        "day_weekday",
    ]
    # The target is text of numbers as well, and stays as it is.
    assert signature["output"]["classes"] == ["0", "1"]

    code = card.split("```python\n")[1].split("```")[0]
    FRAME.write_parquet(tmp_path / "data.parquet")
    for role in ("MODEL", "SIGNATURE"):
        path = artifact_path(result, role)
        code = code.replace(f'"{path.name}"', repr(str(path)))
    code = code.replace('"data.parquet"', repr(str(tmp_path / "data.parquet"))).replace(
        "print(model.predict(rows))", "predicted = model.predict(rows)"
    )
    names: dict[str, Any] = {}
    exec(code, names)
    assert (names["predicted"][90:] == FRAME["label"].to_numpy()[90:]).mean() == result["metrics"]["accuracy"]


def test_named_columns_alone_are_prepared_and_a_dataset_is_written(tmp_path: Path) -> None:
    result, _ = run(tmp_path, FRAME, chain(("prepare", {"columns": ["gap", "day", "color"], "scale": True})))
    written = pl.read_parquet(result["parquet"])
    parts = ["day_month", "day_day", "day_weekday"]
    assert written.columns == [
        "gap",
        "text_number",
        "postcode",
        "color_(missing)",
        "color_blue",
        "color_red",
        "id",
        "same",
        "none",
        "label",
        *parts,
    ]
    filled = FRAME["gap"].fill_null(FRAME["gap"].median()).to_numpy()
    np.testing.assert_allclose(written["gap"].to_numpy(), (filled - filled.mean()) / filled.std())
    assert written["text_number"].to_list() == FRAME["text_number"].to_list()
