"""The step registry, valid definitions, and pipelines that end in a dataset."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from jsonschema import Draft202012Validator, ValidationError

from tests.workers.pipeline_runner import chain, pipeline_error, run
from workers.ml.errors import BadInput
from workers.ml.plan import make_plan
from workers.ml.steps import DEFINITIONS, STEPS

FRAME = pl.DataFrame(
    {
        "id": range(8),
        "age": [20, 30, None, 50, 60, 70, 80, 90],
        "height": [1.5, float("nan"), 1.7, 1.8, None, 1.9, 1.6, 1.75],
        "color": ["red", "green", "red", None, "blue", "red", "green", "red"],
        "active": [True, False, True, None, True, False, True, False],
        "day": [date(2024, 1, number) for number in range(1, 9)],
        "at": [datetime(2024, 1, number, 12, tzinfo=UTC) for number in range(1, 9)],
    }
)


def run_and_read(folder: Path, *steps: Any, frame: pl.DataFrame = FRAME, **options: Any) -> pl.DataFrame:
    result, _ = run(folder, frame, chain(*steps), **options)
    return pl.read_parquet(result["parquet"])


def test_every_step_describes_its_parameters_in_a_valid_schema() -> None:
    assert [definition["key"] for definition in DEFINITIONS] == list(STEPS)
    for definition in DEFINITIONS:
        schema = definition["parameter_schema"]
        Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["additionalProperties"] is False
        assert definition["title"] == schema["title"]
        assert definition["description"].endswith(".")
        for name, member in schema["properties"].items():
            assert member["title"], f"{definition['key']}.{name} has no title"
            assert member["description"], f"{definition['key']}.{name} says nothing"


def test_the_schema_and_the_body_agree_on_parameters() -> None:
    for definition in DEFINITIONS:
        schema = definition["parameter_schema"]
        validator: Any = Draft202012Validator(schema)
        model = STEPS[definition["key"]].parameters
        if not schema.get("required"):
            validator.validate({})
            validator.validate(model().model_dump(mode="json"))
        with pytest.raises(ValidationError):
            validator.validate({"no_such_parameter": 1})


def test_the_registry_loads_without_what_does_the_work() -> None:
    code = "import sys, workers.ml.steps; print([name for name in ('numpy', 'polars', 'sklearn', 'lightgbm', 'matplotlib') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


NODES: dict[str, dict[str, Any]] = {
    "data": {"key": "data", "step": "dataset", "parameters": {}},
    "scale": {"key": "scale", "step": "scale", "parameters": {}},
    "impute": {"key": "impute", "step": "impute", "parameters": {}},
    "split": {"key": "split", "step": "split", "parameters": {}},
    "train": {"key": "train", "step": "train_random_forest", "parameters": {}},
    "other": {"key": "other", "step": "train_lightgbm", "parameters": {}},
    "more": {"key": "more", "step": "dataset", "parameters": {}},
    "evaluate": {"key": "evaluate", "step": "evaluate", "parameters": {}},
}


@pytest.mark.parametrize(
    ("links", "alone", "words", "path"),
    [
        ("scale>train", "", "no dataset node", ["nodes"]),
        ("data>train more>train", "", "more than one dataset node: 'data', 'more'", ["nodes", "2"]),
        ("data>train data>other", "", "more than one training node", ["nodes", "2"]),
        ("data>scale scale>impute impute>scale impute>train", "", "a cycle through 'scale', 'impute', 'train'", ["links"]),
        ("data>train", "scale", "'scale' is not reachable", ["nodes", "2"]),
        ("data>scale data>impute scale>train impute>train", "", "'scale' and 'impute' are parallel", ["nodes", "2"]),
        ("data>train train>scale", "", "after the training node 'train'", ["nodes", "2"]),
        ("data>scale scale>evaluate", "", "no training node leads to it", ["nodes", "2"]),
        ("data>scale scale>data", "", "a cycle", ["links"]),
        ("", "data", "no step besides the dataset", ["nodes"]),
        ("data>nowhere", "", "'nowhere', which does not exist", ["links", "0", "target"]),
    ],
)
def test_an_unsound_definition_is_refused_with_its_place(links: str, alone: str, words: str, path: list[str]) -> None:
    pairs = [pair.split(">") for pair in links.split()]
    keys = dict.fromkeys([key for pair in pairs for key in pair if key in NODES] + [key for key in [alone] if key])
    definition = {"nodes": [NODES[key] for key in keys], "links": [{"source": source, "target": target} for source, target in pairs]}
    with pytest.raises(BadInput) as caught:
        make_plan(definition)
    assert words in caught.value.message
    assert (caught.value.code, caught.value.path) == ("UNSOUND_PIPELINE", ["definition", *path])


WRONG: list[tuple[tuple[str, dict[str, Any]], str, list[str], str]] = [
    (("scael", {}), "UNKNOWN_STEP", ["step"], "Did you mean 'scale'?"),
    (("scale", {"method": "log"}), "BAD_PARAMETER", ["parameters", "method"], "'standard', 'minmax' or 'robust'"),
    (("train_ridge_regression", {"alpha": -1}), "BAD_PARAMETER", ["parameters", "alpha"], "greater than or equal to 0"),
    (("train_ridge_regression", {"alpha": float("nan")}), "BAD_PARAMETER", ["parameters", "alpha"], "finite"),
    (("scale", {"methode": "robust"}), "BAD_PARAMETER", ["parameters", "methode"], "not permitted"),
    (("filter_rows", {"conditions": [{"column": "a"}]}), "BAD_PARAMETER", ["parameters", "conditions", "0", "operator"], "required"),
]


@pytest.mark.parametrize(("step", "code", "path", "words"), WRONG)
def test_a_wrong_step_or_parameter_is_refused_with_its_place(step: tuple[str, Any], code: str, path: list[str], words: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_plan(chain(step))
    assert (caught.value.code, caught.value.path) == (code, ["definition", "nodes", "1", *path])
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ([("age", "greater_than", 60)], [5, 6, 7]),
        ([("age", "between", [30, 60])], [1, 3, 4]),
        ([("age", "not_equals", 20)], [1, 3, 4, 5, 6, 7]),
        ([("age", "less_than", 10**30)], [0, 1, 3, 4, 5, 6, 7]),
        ([("height", "is_missing", None)], [1, 4]),
        ([("height", "is_not_missing", None), ("height", "greater_or_equal", 1.75)], [3, 5, 7]),
        ([("color", "in", ["green", "blue"])], [1, 4, 6]),
        ([("color", "not_in", ["green", "blue"])], [0, 2, 5, 7]),
        ([("color", "contains", "e"), ("color", "starts_with", "g"), ("color", "ends_with", "n")], [1, 6]),
        ([("color", "contains", ".")], []),
        ([("active", "equals", True)], [0, 2, 4, 6]),
        ([("day", "less_or_equal", "2024-01-03")], [0, 1, 2]),
        ([("at", "greater_than", "2024-01-07T13:00:00+01:00")], [7]),
        ([("at", "less_than", "2024-01-02")], [0]),
    ],
)
def test_conditions_choose_rows(tmp_path: Path, conditions: list[tuple[str, str, Any]], kept: list[int]) -> None:
    step = (
        "filter_rows",
        {"conditions": [{"column": column, "operator": operator, "value": value} for column, operator, value in conditions]},
    )
    if not kept:
        assert pipeline_error(tmp_path, FRAME, chain(step)).code == "NO_ROWS"
        return
    assert run_and_read(tmp_path, step)["id"].to_list() == kept
    opposite = ("filter_rows", {**step[1], "action": "remove"})
    assert run_and_read(tmp_path, opposite)["id"].to_list() == [number for number in range(8) if number not in kept]


def test_any_condition_may_match(tmp_path: Path) -> None:
    conditions = [{"column": "age", "operator": "equals", "value": 20}, {"column": "color", "operator": "equals", "value": "blue"}]
    assert run_and_read(tmp_path, ("filter_rows", {"conditions": conditions, "match": "any"}))["id"].to_list() == [0, 4]


@pytest.mark.parametrize(
    ("condition", "code", "member"),
    [
        ({"column": "Age", "operator": "equals", "value": 1}, "UNKNOWN_COLUMN", "column"),
        ({"column": "age", "operator": "equals", "value": "old"}, "BAD_PARAMETER", "value"),
        ({"column": "age", "operator": "equals", "value": True}, "BAD_PARAMETER", "value"),
        ({"column": "age", "operator": "in", "value": 3}, "BAD_PARAMETER", "value"),
        ({"column": "age", "operator": "equals"}, "BAD_PARAMETER", "value"),
        ({"column": "age", "operator": "between", "value": [1]}, "BAD_PARAMETER", "value"),
        ({"column": "color", "operator": "less_than", "value": "m"}, "WRONG_COLUMN_TYPE", "operator"),
        ({"column": "age", "operator": "contains", "value": "1"}, "WRONG_COLUMN_TYPE", "operator"),
        ({"column": "day", "operator": "equals", "value": "yesterday"}, "BAD_PARAMETER", "value"),
    ],
)
def test_a_condition_that_does_not_suit_its_column_is_refused(tmp_path: Path, condition: dict[str, Any], code: str, member: str) -> None:
    error = pipeline_error(tmp_path, FRAME, chain(("filter_rows", {"conditions": [condition]})))
    assert (error.code, error.column) == (code, condition["column"])
    assert error.path == ["definition", "nodes", "1", "parameters", "conditions", "0", member]


def test_columns_are_selected_and_dropped_in_the_datasets_order(tmp_path: Path) -> None:
    assert run_and_read(tmp_path, ("select_columns", {"columns": ["color", "id"]})).columns == ["id", "color"]
    assert run_and_read(tmp_path, ("drop_columns", {"columns": ["id", "at", "day"]})).columns == ["age", "height", "color", "active"]
    error = pipeline_error(tmp_path, FRAME, chain(("drop_columns", {"columns": FRAME.columns})))
    assert error.code == "NO_COLUMNS"
    error = pipeline_error(tmp_path, FRAME, chain(("drop_columns", {"columns": ["age"]}), ("impute", {"columns": ["age"]})))
    assert "the earlier step 'drop_columns' dropped" in error.message


def test_a_column_may_be_used_before_it_is_dropped(tmp_path: Path) -> None:
    condition = {"column": "age", "operator": "greater_than", "value": 60}
    steps = [
        ("filter_rows", {"conditions": [condition]}),
        ("impute", {"columns": ["age", "height"]}),
        ("drop_columns", {"columns": ["age"]}),
    ]
    assert run_and_read(tmp_path, *steps)["height"].to_list() == [1.9, 1.6, 1.75]


@pytest.mark.parametrize(("strategy", "age"), [("mean", 400 / 7), ("median", 60), ("most_frequent", 20)])
def test_missing_values_are_filled(tmp_path: Path, strategy: str, age: float) -> None:
    frame = run_and_read(tmp_path, ("impute", {"strategy": strategy, "columns": ["age", "height"]}))
    assert frame["age"][2] == pytest.approx(age)
    assert frame["age"].dtype == (pl.Float64 if strategy == "mean" else pl.Int64)
    assert frame["height"].null_count() == 0
    assert frame["color"].null_count() == 1
    present = FRAME["height"].fill_nan(None)
    expected = {"mean": present.mean(), "median": present.median(), "most_frequent": present.min()}[strategy]
    assert frame["height"][1] == pytest.approx(expected)


def test_text_is_filled_with_a_constant_or_the_most_frequent(tmp_path: Path) -> None:
    assert run_and_read(tmp_path, ("impute", {"strategy": "constant", "fill_value": "none"}))["color"][3] == "none"
    assert run_and_read(tmp_path, ("impute", {"strategy": "most_frequent"}))["color"][3] == "red"
    assert run_and_read(tmp_path, ("impute", {"strategy": "constant", "fill_value": 0}))["age"].to_list() == [20, 30, 0, 50, 60, 70, 80, 90]
    assert pipeline_error(tmp_path, FRAME, chain(("impute", {"strategy": "mean", "columns": ["color"]}))).code == "WRONG_COLUMN_TYPE"
    assert pipeline_error(tmp_path, FRAME, chain(("impute", {"strategy": "constant"}))).path == [
        "definition",
        "nodes",
        "1",
        "parameters",
        "fill_value",
    ]


@pytest.mark.parametrize("method", ["standard", "minmax", "robust"])
def test_numbers_are_scaled_and_gaps_stay(tmp_path: Path, method: str) -> None:
    scaled = run_and_read(tmp_path, ("scale", {"method": method, "columns": ["age"]}))["age"]
    ages = FRAME["age"].drop_nulls().to_numpy().astype(float)
    center, spread = {
        "standard": (ages.mean(), ages.std()),
        "minmax": (ages.min(), ages.max() - ages.min()),
        "robust": (np.median(ages), np.subtract(*np.percentile(ages, [75, 25]))),
    }[method]
    assert scaled[2] is None
    np.testing.assert_allclose(scaled.drop_nulls().to_numpy(), (ages - center) / spread)


def test_categories_become_columns_in_place(tmp_path: Path) -> None:
    frame = run_and_read(tmp_path, "one_hot_encode")
    assert frame.columns == ["id", "age", "height", "color_(missing)", "color_blue", "color_green", "color_red", "active", "day", "at"]
    assert frame["color_red"].to_list() == [1, 0, 1, 0, 0, 1, 0, 1]
    assert frame["color_(missing)"].to_list() == [0, 0, 0, 1, 0, 0, 0, 0]
    limited = run_and_read(tmp_path, ("one_hot_encode", {"max_categories": 2}))
    assert [name for name in limited.columns if name.startswith("color")] == ["color_red", "color_infrequent_sklearn"]


def test_categories_become_numbers_in_sorted_order(tmp_path: Path) -> None:
    assert run_and_read(tmp_path, "ordinal_encode")["color"].to_list() == [3, 2, 3, 0, 1, 3, 2, 3]
    error = pipeline_error(tmp_path, FRAME, chain(("ordinal_encode", {"columns": ["day"]})))
    assert (error.code, error.path) == ("WRONG_COLUMN_TYPE", ["definition", "nodes", "1", "parameters", "columns", "0"])


def test_transforms_apply_in_the_order_of_the_links(tmp_path: Path) -> None:
    frame = run_and_read(
        tmp_path, ("impute", {"columns": ["age"], "strategy": "median"}), ("scale", {"columns": ["age"], "method": "minmax"})
    )
    assert frame["age"][2] == pytest.approx((60 - 20) / 70)
    encoded = run_and_read(tmp_path, "one_hot_encode", ("scale", {"columns": ["color"], "method": "minmax"}))
    assert encoded["color_red"].to_list() == [1, 0, 1, 0, 0, 1, 0, 1]


def test_a_filter_behind_a_transform_of_its_column_is_refused(tmp_path: Path) -> None:
    condition = {"column": "age", "operator": "greater_than", "value": 1}
    error = pipeline_error(tmp_path, FRAME, chain("scale", ("filter_rows", {"conditions": [condition]})))
    assert (error.code, error.path) == ("FILTER_AFTER_TRANSFORM", ["definition", "nodes", "2", "parameters", "conditions"])


def test_a_split_without_training_writes_the_part_of_each_row_and_fits_on_the_training_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": np.arange(100.0) ** 2, "y": ["a", "b"] * 50})
    split = ("split", {"test_fraction": 0.2, "validation_fraction": 0.1, "stratify_by": "y"})
    rows = run_and_read(tmp_path, "scale", split, frame=frame)
    assert rows.columns == ["x", "y", "split"]
    counts = rows.group_by("split", "y").len().sort("split", "y").rows()
    assert counts == [
        ("test", "a", 10),
        ("test", "b", 10),
        ("train", "a", 35),
        ("train", "b", 35),
        ("validation", "a", 5),
        ("validation", "b", 5),
    ]
    train = rows.filter(pl.col("split") == "train")["x"].to_numpy()
    assert (train.mean(), train.std()) == (pytest.approx(0), pytest.approx(1))
    assert abs(rows["x"].to_numpy().mean()) > 1e-6
    rows = run_and_read(tmp_path, split, frame=frame.with_columns(split=pl.lit("x")))
    assert rows.columns == ["x", "y", "split", "split_2"]
    assert rows["split_2"].value_counts(sort=True)["count"].to_list() == [70, 20, 10]


def test_the_result_describes_the_dataset_that_was_written(tmp_path: Path) -> None:
    result, report = run(tmp_path, FRAME, chain(("impute", {"columns": ["age"]}), "one_hot_encode"))
    assert (result["kind"], result["row_count"], result["column_count"]) == ("dataset", 8, 10)
    assert result["columns"][:4] == [
        {"name": "id", "type": "INTEGER", "nullable": False},
        {"name": "age", "type": "FLOAT", "nullable": False},
        {"name": "height", "type": "FLOAT", "nullable": True},
        {"name": "color_(missing)", "type": "INTEGER", "nullable": False},
    ]
    assert result["columns"][8] == {"name": "day", "type": "DATE", "nullable": False}
    assert result["preview"][1]["day"] == "2024-01-02"
    assert result["preview"][1]["height"] is None
    assert len(result["preview"]) == 8
    assert result["profile"]["row_count"] == 8
    assert report.outputs["impute"]["filled"] == {"age": pytest.approx(400 / 7)}
    assert report.outputs["one_hot_encode"]["categories"] == {"color": 4}


def test_the_target_is_left_as_it_is_unless_it_is_named(tmp_path: Path) -> None:
    assert run_and_read(tmp_path, "scale", target="age")["age"].to_list() == FRAME["age"].to_list()
    assert run_and_read(tmp_path, ("scale", {"columns": ["age"], "method": "minmax"}), target="age")["age"][0] == 0


def test_a_dataset_is_filtered_without_being_held_in_memory(tmp_path: Path) -> None:
    condition = {"column": "x", "operator": "less_than", "value": 10}
    frame = pl.DataFrame({"x": np.arange(2_000)})
    assert run_and_read(tmp_path, ("filter_rows", {"conditions": [condition]}), frame=frame, max_cells=100).height == 10
    assert pipeline_error(tmp_path, frame, chain("scale"), max_cells=100).code == "TOO_LARGE"


def test_dates_are_decomposed_and_a_taken_name_is_kept(tmp_path: Path) -> None:
    frame = (
        FRAME.select("day", "at", pl.lit("x").alias("day_year"))
        .head(2)
        .vstack(
            pl.DataFrame(
                {"day": [None], "at": [None], "day_year": ["y"]}, schema_overrides={"day": pl.Date, "at": pl.Datetime(time_zone="UTC")}
            )
        )
    )
    table = run_and_read(tmp_path, ("decompose_dates", {}), frame=frame)
    assert table.rows(named=True) == [
        {
            "day_year": name, "day_year_2": year, "day_month": month, "day_day": day, "day_weekday": weekday,
            "at_year": year, "at_month": month, "at_day": day, "at_weekday": weekday, "at_hour": hour, "at_minute": minute,
        }
        for name, year, month, day, weekday, hour, minute in (("x", 2024, 1, 1, 1, 12, 0), ("x", 2024, 1, 2, 2, 12, 0), ("y", *[None] * 6))
    ]  # fmt: skip
