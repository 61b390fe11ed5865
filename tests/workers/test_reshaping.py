"""Steps that rename, convert, deduplicate, bin, draw in and count words, against pandas, numpy and scikit-learn."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run

PANDAS: Any = LazyModule("pandas")
DATASETS: Any = LazyModule("sklearn.datasets")
TEXT: Any = LazyModule("sklearn.feature_extraction.text")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3, 4, 5, 6],
        "word": ["1", " 2.5", "x", None, "true", "No"],
        "day": ["2024-01-31", "2024-02-30", None, "2024-03-01", "2024-03-01", "soon"],
        "size": [1.9, -1.9, float("inf"), None, 0.0, 1.0],
        "key": ["a", "b", "a", None, None, "a"],
    }
)


def read(folder: Path, *steps: Any, frame: pl.DataFrame = FRAME, **options: Any) -> pl.DataFrame:
    return pl.read_parquet(run(folder, frame, chain(*steps), **options)[0]["parquet"])


@pytest.mark.parametrize(
    ("column", "type_", "expected"),
    [
        ("word", "number", [1.0, 2.5, None, None, None, None]),
        ("word", "boolean", [True, None, None, None, True, False]),
        ("size", "integer", [1, -1, None, None, 0, 1]),
        ("size", "boolean", [True, True, None, None, False, True]),
        ("size", "text", ["1.9", "-1.9", "inf", None, "0.0", "1.0"]),
        ("day", "date", [date(2024, 1, 31), None, None, date(2024, 3, 1), date(2024, 3, 1), None]),
        ("day", "datetime", [datetime(2024, 1, 31), None, None, datetime(2024, 3, 1), datetime(2024, 3, 1), None]),
    ],
)
def test_columns_are_converted_and_what_cannot_be_fails_or_is_missing(tmp_path: Path, column: str, type_: str, expected: list[Any]) -> None:
    cast = {"columns": [column], "type": type_}
    frame = read(tmp_path, ("cast_columns", {**cast, "errors": "missing"}))
    assert (frame.columns, frame[column].to_list()) == (FRAME.columns, expected)
    if any(new is None and old is not None for new, old in zip(expected, FRAME[column], strict=True)):
        error = pipeline_error(tmp_path, FRAME, chain(("cast_columns", cast)))
        assert (error.code, error.column) == ("BAD_VALUE", column)


def test_columns_are_renamed_in_their_place_and_later_steps_use_the_new_name(tmp_path: Path) -> None:
    renaming = [{"column": "word", "name": "w"}, {"column": "key", "name": "group"}]
    condition = {"column": "group", "operator": "equals", "value": "a"}
    frame = read(tmp_path, ("rename_columns", {"columns": renaming}), ("filter_rows", {"conditions": [condition]}))
    assert (frame.columns, frame["id"].to_list()) == (["id", "w", "day", "size", "group"], [1, 3, 6])
    taken = chain(("rename_columns", {"columns": [{"column": "word", "name": "key"}]}))
    assert pipeline_error(tmp_path, FRAME, taken).code == "NAME_TAKEN"
    again = read(tmp_path, ("drop_columns", {"columns": ["key"]}), ("rename_columns", {"columns": [{"column": "word", "name": "key"}]}))
    assert (again.columns, again["key"].to_list()) == (["id", "key", "day", "size"], FRAME["word"].to_list())
    steps = ("rename_columns", {"columns": renaming}), ("derive_columns", {"columns": [{"name": "word", "formula": "upper(w)"}]})
    assert read(tmp_path, *steps, ("select_columns", {"columns": ["word"]}))["word"].to_list()[2] == "X"
    gone = chain(("rename_columns", {"columns": renaming}), ("drop_columns", {"columns": ["word"]}))
    assert pipeline_error(tmp_path, FRAME, gone).code == "UNKNOWN_COLUMN"


@pytest.mark.parametrize(("keep", "columns"), [("first", ["key"]), ("last", ["key"]), ("none", ["day"]), ("first", None)])
def test_duplicates_are_those_of_pandas_and_the_order_stays(tmp_path: Path, keep: str, columns: list[str] | None) -> None:
    frame = pl.concat([FRAME, FRAME[:2]])
    result, report = run(tmp_path, frame, chain(("deduplicate_rows", {"columns": columns, "keep": keep})))
    which: Any = False if keep == "none" else keep
    expected = frame.to_pandas().drop_duplicates(columns, keep=which)
    assert pl.read_parquet(result["parquet"])["id"].to_list() == expected["id"].tolist()
    assert report.outputs["deduplicate_rows"]["removed_rows"] == frame.height - len(expected)


def test_dates_are_taken_into_the_parts_that_are_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"at": [datetime(2024, 12, 30, 5, 6, 7)]})
    parts = ["quarter", "week", "ordinal_day", "second"]
    written = read(tmp_path, ("decompose_dates", {"parts": parts}), frame=frame)
    assert written.row(0, named=True) == {"at_quarter": 4, "at_week": 1, "at_ordinal_day": 365, "at_second": 7}
    assert read(tmp_path, ("decompose_dates", {"parts": parts}), frame=frame.cast(pl.Date)).columns == [
        "at_quarter",
        "at_week",
        "at_ordinal_day",
    ]


def wine() -> pl.DataFrame:
    data = DATASETS.load_wine()
    return pl.DataFrame(data.data, schema=[str(name) for name in data.feature_names]).with_columns(target=pl.Series(data.target))


@pytest.mark.parametrize("strategy", ["uniform", exhaustive("quantile")])
def test_bins_are_those_of_pandas_on_the_training_rows(tmp_path: Path, strategy: str) -> None:
    split = ("split", {"strategy": "random", "test_fraction": 0.3})
    options: dict[str, Any] = {"columns": ["alcohol", "hue"], "bins": 4, "strategy": strategy}
    written = read(tmp_path, split, ("bin_numbers", options), frame=wine())
    train = (written["split"] == "train").to_numpy()
    for name in options["columns"]:
        values = wine()[name].to_numpy()
        edges = np.linspace(values[train].min(), values[train].max(), 5)
        if strategy == "quantile":
            edges = np.quantile(values[train], np.linspace(0, 1, 5), method="averaged_inverted_cdf")
        expected = PANDAS.cut(values, [-np.inf, *edges[1:-1], np.inf], right=False, labels=False)
        assert written[name].to_list() == expected.tolist()
    one_hot = read(tmp_path, ("bin_numbers", {**options, "columns": ["hue"], "encode": "one_hot"}), frame=wine())
    columns = [name for name in one_hot.columns if name.startswith("hue_")]
    assert len(columns) == 4
    assert one_hot.select(pl.sum_horizontal(columns)).to_series().to_list() == [1] * 178


def test_long_tails_are_drawn_in(tmp_path: Path) -> None:
    from sklearn.preprocessing import PowerTransformer

    frame = pl.DataFrame({"x": [0.0, 1.0, 10.0, 100.0, None], "y": [-5.0, 0.0, 5.0, 50.0, 500.0]})
    power: Any = PowerTransformer()
    values: dict[str, tuple[str, Any]] = {
        "log1p": ("x", np.log1p(frame["x"].to_numpy())),
        "asinh": ("y", np.arcsinh(frame["y"].to_numpy())),
        "yeo_johnson": ("y", power.fit_transform(frame.select("y").to_numpy())[:, 0]),
    }
    for method, (name, expected) in values.items():
        written = read(tmp_path, ("log_transform", {"columns": [name], "method": method}), frame=frame)
        np.testing.assert_allclose(written[name].to_numpy(), expected, rtol=1e-12)
    error = pipeline_error(tmp_path, frame, chain(("log_transform", {"columns": ["y"]})))
    assert (error.code, error.column) == ("NEGATIVE_VALUES", "y")


def test_words_are_weighted_as_scikit_learn_weights_them_and_the_model_takes_text(tmp_path: Path) -> None:
    texts = ["a good red wine", "bad wine", None, "blue sky, good day"] * 30
    frame = pl.DataFrame({"note": texts, "good": [int(text is not None and "good" in text) for text in texts]})
    split = ("split", {"test_fraction": 0.25, "strategy": "time", "time_column": "row"})
    options = {"columns": ["note"], "max_words": 2, "max_features": 6}
    written = read(tmp_path, split, ("tfidf_text", options), frame=frame.with_row_index("row"))
    vectorizer = TEXT.TfidfVectorizer(ngram_range=(1, 2), max_features=6).fit([text or "" for text in texts[:90]])
    names = [f"note_{term}" for term in vectorizer.get_feature_names_out()]
    assert written.columns == ["row", *names, "good", "split"]
    np.testing.assert_allclose(written.select(names).to_numpy(), vectorizer.transform([text or "" for text in texts]).toarray())

    trained = chain(("tfidf_text", options), ("train_naive_bayes", {"target": "good"}))
    result, _ = run(tmp_path, frame, trained)
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    for rows in (frame.select("note"), frame.select("note").to_pandas()):
        assert model.predict(rows).tolist() == frame["good"].to_list()
    inputs = json.loads(artifact_path(result, "SIGNATURE").read_text())["inputs"]
    assert inputs == [{"name": "note", "kind": "text", "type": "STRING", "nullable": True}]
    error = pipeline_error(tmp_path, frame, chain(("tfidf_text", {"columns": ["note"], "min_rows": 1000})))
    assert (error.code, error.column) == ("NO_TERMS", "note")
