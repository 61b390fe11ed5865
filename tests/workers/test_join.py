"""A join adds columns of another version's rows, as pandas merges them, and never repeats a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, column_schema
from workers.ml.errors import BadInput

TRAINING: Any = LazyModule("workers.ml.training")
VERSION = "version_" + "a" * 32
FRAME = pl.DataFrame({"id": [1, 2, 3, 4, None], "city": ["Ulm", "Bonn", None, "Ulm", "Kiel"], "size": [1.0, 2.0, 3.0, 4.0, 5.0]})
OTHER = pl.DataFrame({"place": ["Ulm", "Bonn", "Ulm ", None], "size": [10, 20, 30, 40], "mayor": ["A", "B", "C", "D"]})


def join(
    folder: Path, parameters: dict[str, Any], *steps: Any, frame: pl.DataFrame = FRAME, other: pl.DataFrame = OTHER
) -> tuple[Any, PipelineRecorder]:
    frame.write_parquet(folder / "in.parquet")
    other.write_parquet(folder / "other.parquet")
    (folder / "out").mkdir(exist_ok=True)
    report = PipelineRecorder()
    spec = {
        "definition": chain(("join_dataset", {"version": VERSION, **parameters}), *steps),
        "parquet": str(folder / "in.parquet"),
        "columns": column_schema(frame),
        "target_column": None,
        "problem_type": None,
        "seed": 7,
        "folder": str(folder / "out"),
        "context": {},
        "versions": {VERSION: {"parquet": str(folder / "other.parquet"), "columns": column_schema(other)}},
    }
    return json.loads(json.dumps(TRAINING.run_pipeline(spec, report))), report


def refusal(folder: Path, parameters: dict[str, Any], **frames: pl.DataFrame) -> BadInput:
    try:
        join(folder, parameters, **frames)
    except BadInput as error:
        return error
    raise AssertionError("the join was not refused")


def test_rows_get_the_columns_of_their_key_as_pandas_merges_them(tmp_path: Path) -> None:
    for how in ("left", "inner"):
        result, report = join(tmp_path, {"on": ["city"], "other_on": ["place"], "how": how})
        written = pl.read_parquet(result["parquet"])
        known = OTHER.drop_nulls("place").to_pandas().rename(columns={"size": "size_2", "place": "city"})
        expected = FRAME.to_pandas().merge(known, on="city", how=how)
        assert written.columns == expected.columns.tolist() == ["id", "city", "size", "size_2", "mayor"]
        assert written["size"].to_list() == expected["size"].tolist()
        assert written["mayor"].to_list() == [value if isinstance(value, str) else None for value in expected["mayor"]]
        assert report.outputs["join_dataset"]["renamed"] == {"size": "size_2"}


def test_numbers_of_different_types_are_joined_by_value_and_columns_can_be_chosen(tmp_path: Path) -> None:
    result, _ = join(
        tmp_path,
        {"on": ["id"], "other_on": ["key"], "columns": ["note"]},
        other=pl.DataFrame({"key": [1.0, 3.0], "x": [1, 1], "note": ["a", "b"]}),
    )
    assert pl.read_parquet(result["parquet"])["note"].to_list() == ["a", None, "b", None, None]


def test_what_would_repeat_rows_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    twice = pl.concat([OTHER, OTHER.with_columns(mayor=pl.lit("E"))])
    by_city = {"on": ["city"], "other_on": ["place"]}
    error = refusal(tmp_path, by_city, other=twice)
    assert (error.code, error.path) == ("DUPLICATE_KEYS", ["definition", "nodes", "1", "parameters", "duplicates"])
    result, _ = join(tmp_path, {**by_city, "duplicates": "first"}, other=twice)
    assert pl.read_parquet(result["parquet"])["mayor"].to_list() == ["A", "B", None, "A", None]
    assert refusal(tmp_path, {"on": ["id"], "other_on": ["place"]}).code == "WRONG_COLUMN_TYPE"
    assert refusal(tmp_path, {"on": ["city"]}).code == "UNKNOWN_COLUMN"
    assert refusal(tmp_path, {**by_city, "columns": ["mayer"]}).column == "mayer"
    assert refusal(tmp_path, {"on": ["city", "size"], "other_on": ["place"]}).code == "BAD_PARAMETER"
    assert refusal(tmp_path, {**by_city, "how": "inner"}, other=OTHER.with_columns(place=pl.lit("x"))[:1]).code == "NO_ROWS"


def test_a_model_of_joined_columns_says_where_they_are_from(tmp_path: Path) -> None:
    frame = pl.DataFrame({"city": ["Ulm", "Bonn"] * 30, "label": ["yes", "no"] * 30})
    steps = [("select_columns", {"columns": ["size"]}), ("train_naive_bayes", {"target": "label"})]
    result, _ = join(tmp_path, {"on": ["city"], "other_on": ["place"]}, *steps, frame=frame)
    assert result["metrics"]["accuracy"] == 1
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    source = {"version": VERSION, "column": "size", "on": ["city"], "other_on": ["place"]}
    assert signature["derived"] == [{"name": "size", "from": source}]
    assert "and the columns `size` of another version" in artifact_path(result, "MODEL_CARD").read_text()
