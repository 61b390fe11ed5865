"""Formulas: what they compute, against numpy, and how errors name their position."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from db.core.formulas import FUNCTIONS, FormulaError, kind_of, parse
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run

RNG = np.random.default_rng(3)
A, B = RNG.normal(size=60).round(3), RNG.integers(-3, 4, 60)
FRAME = pl.DataFrame(
    {
        "a": A,
        "b": B,
        "t": [("red", "Blue sky", None)[row % 3] for row in range(60)],
        "on": [row % 4 == 0 for row in range(60)],
        "day": pl.date_range(pl.date(2024, 1, 30), pl.date(2024, 3, 29), eager=True),
        "my column": [float(row) for row in range(60)],
    }
)
with np.errstate(all="ignore"):
    COMPUTED: dict[str, Any] = {
        "a + 2 * b": A + 2 * B,
        "(a + 2) * b - -1": (A + 2) * B + 1,
        "a / b": A / B,
        "b % 3": B % 3,
        "-b ** 2": -(B.astype(float) ** 2),
        "2 ** 3 ** 2 + a * 0": np.full(60, 512.0),
        "sqrt(a)": np.sqrt(A),
        "log(abs(a)) + log1p(abs(b)) + exp(a)": np.log(np.abs(A)) + np.log1p(np.abs(B)) + np.exp(A),
        "round(a, 1) + floor(a) + ceil(a) + sign(b)": A.round(1) + np.floor(A) + np.ceil(A) + np.sign(B),
        "min(a, b, 0) + max(a, b)": np.minimum(np.minimum(A, B), 0) + np.maximum(A, B),
        "sin(a) + cos(a) + tan(a) + log10(abs(a))": np.sin(A) + np.cos(A) + np.tan(A) + np.log10(np.abs(A)),
        "1 if a > 0 and not on else 2 if b == 0 or on else 3": [
            1 if a > 0 and row % 4 else 2 if b == 0 or row % 4 == 0 else 3 for row, (a, b) in enumerate(zip(A, B, strict=True))
        ],
        "`my column` + on": [row + (row % 4 == 0) for row in range(60)],
        "length(t)": [3, 8, np.nan] * 20,
        "coalesce(length(t), -1)": [3, 8, -1] * 20,
        "year(day) * 10000 + month(day) * 100 + day(day) + weekday(day) * 0": [int(each.strftime("%Y%m%d")) for each in FRAME["day"]],
        "days_between(date('2024-01-30'), day)": list(range(60)),
    }
TEXTS = {
    "upper(t)": ["RED", "BLUE SKY", None] * 20,
    "replace(lower(t), 'e', 'ee')": ["reed", "bluee sky", None] * 20,
    "concat(t, '-', 'it''s')": ["red-it's", "Blue sky-it's", None] * 20,
    "contains(t, 'sky')": [False, True, None] * 20,
    "starts_with(t, 'r') or ends_with(t, 'y') or is_missing(t)": [True] * 60,
    "trim(' x ') if t == 'red' else null": ["x", None, None] * 20,
}


def test_formulas_compute_what_numpy_does_and_what_is_not_finite_is_missing(tmp_path: Path) -> None:
    formulas = [*COMPUTED, *TEXTS]
    columns = [{"name": f"f{number}", "formula": formula} for number, formula in enumerate(formulas)]
    result, _ = run(tmp_path, FRAME, chain(("derive_columns", {"columns": columns})))
    written = pl.read_parquet(result["parquet"])
    assert written.columns == [*FRAME.columns, *(column["name"] for column in columns)]
    for number, (formula, expected) in enumerate(COMPUTED.items()):
        values = np.asarray(expected, dtype=float)
        computed = written[f"f{number}"]
        assert computed.is_null().to_list() == (~np.isfinite(values)).tolist(), formula
        np.testing.assert_allclose(computed.drop_nulls().to_numpy(), values[np.isfinite(values)], rtol=1e-12, err_msg=formula)
    for number, (formula, expected) in enumerate(TEXTS.items(), len(COMPUTED)):
        assert written[f"f{number}"].to_list() == expected, formula
    types = {column["name"]: column["type"] for column in result["columns"]}
    assert [types[name] for name in ("f0", f"f{len(COMPUTED)}", f"f{len(COMPUTED) + 3}")] == ["FLOAT", "STRING", "BOOLEAN"]


ERRORS = [
    ("a +", 4, "ends where a value is expected"),
    ("a = b", 3, "Compare by '=='"),
    ("(a", 3, "')' is expected for the bracket at character 1"),
    ("a b", 3, "'b' does not belong here"),
    ("foo(a)", 1, "no function 'foo'. Did you mean 'floor'?"),
    ("sqrt(a, b)", 1, "takes 1 arguments, not 2"),
    ("contains(t, t)", 13, "must be a literal"),
    ("replace(t, null, 'x')", 12, "must be a literal, and not null"),
    ("starts_with(t, null)", 16, "must be a literal, and not null"),
    ("round(a, null)", 10, "must be a literal, and not null"),
    ("a < b < 3", 7, "Comparisons cannot be chained"),
    ("a + t", 5, "takes a number, and this is a text"),
    ("nope * 2", 1, "There is no column 'nope'"),
    ("a[0]", 2, "'[' is not part of a formula"),
    ("'abc", 1, "ends with the quote"),
    ("t > 'a'", 3, "orders numbers and times"),
    ("1 if a else 2", 6, "The condition of an 'if' takes a boolean"),
    ("1 if on else 'x'", 14, "values of one kind"),
    ("day > '2024-01-01'", 7, "values of one kind, and this is a text, not a time"),
    ("date('soon')", 6, "such as '2024-05-01'"),
    ("(" * 60 + "a", 21, "nested more than 40"),
    ("a" + "+a" * 400, 300, "more than 300 parts"),
    ("a" * 3000, 2001, "at most 2,000 characters"),
]
KINDS: Any = {"a": "number", "b": "number", "t": "text", "on": "boolean", "day": "time"}


@pytest.mark.parametrize(("formula", "position", "words"), ERRORS)
def test_an_error_names_its_position(formula: str, position: int, words: str) -> None:
    with pytest.raises(FormulaError) as caught:
        kind_of(parse(formula), KINDS)
    assert str(caught.value).startswith(f"At character {position}: ")
    assert words in str(caught.value)


def test_a_column_that_is_not_there_is_compared_with_a_bounded_number_of_short_names() -> None:
    """To compare one long name with thousands of others would take half a minute, in which the API answers nobody."""
    kinds: Any = {f"{'a' * 190}{number}": "number" for number in range(2_000)}
    with pytest.raises(FormulaError, match=r"^At character 1: There is no column 'a{100}'. Write a text in quotes.$"):
        kind_of(parse("a" * 190 + "b"), kinds)
    many: Any = {f"column_{number}": "number" for number in range(2_000)}
    with pytest.raises(FormulaError, match="Did you mean 'column_1234'"):
        kind_of(parse("colum_1234"), many)


def test_a_formula_cannot_reach_python() -> None:
    """No name of Python means anything, and no function is missing from the grammar's description."""
    for text in ("__import__('os')", "a.__class__", "lambda: 1", "open('x')", "[a for a in b]", "f'{a}'", "a; b", "exec('1')"):
        with pytest.raises(FormulaError):
            kind_of(parse(text), KINDS)
    from workers.ml.steps import STEPS

    schema = STEPS["derive_columns"].parameter_schema["$defs"]["DerivedColumn"]["properties"]["formula"]
    assert all(name in schema["description"] for name in FUNCTIONS)


def test_a_text_cannot_grow_without_bound(tmp_path: Path) -> None:
    columns = [{"name": f"t{number}", "formula": f"replace({f't{number - 1}' if number else 't'}, 'e', 'eeee')"} for number in range(40)]
    result, _ = run(tmp_path, FRAME, chain(("derive_columns", {"columns": columns}), ("select_columns", {"columns": ["t39"]})))
    assert pl.read_parquet(result["parquet"])["t39"].str.len_chars().max() == 10_000


def test_a_model_of_computed_columns_tells_how_to_compute_them_and_its_card_does(tmp_path: Path) -> None:
    frame = FRAME.with_columns(label=(pl.col("a") > 0).cast(pl.Int64))
    steps = [
        ("rename_columns", {"columns": [{"column": "a", "name": "first"}]}),
        (
            "derive_columns",
            {"columns": [{"name": "ratio", "formula": "coalesce(first / b, 0)"}, {"name": "twice", "formula": "ratio * 2"}]},
        ),
        ("cast_columns", {"columns": ["b"], "type": "text"}),
        ("select_columns", {"columns": ["first", "twice", "b"]}),
        "one_hot_encode",
    ]
    result, _ = run(tmp_path, frame, chain(*steps, ("train_random_forest", {"n_estimators": 5})), target="label", problem="CLASSIFICATION")
    signature = json.loads(artifact_path(result, "SIGNATURE").read_text())
    assert signature["derived"] == [
        {"name": "first", "from": {"column": "a"}},
        {"name": "ratio", "from": {"formula": "coalesce(first / b, 0)", "columns": ["first", "b"]}},
        {"name": "twice", "from": {"formula": "ratio * 2", "columns": ["ratio"]}},
        {"name": "b", "from": {"column": "b", "cast": "STRING"}},
    ]
    frame.write_parquet(tmp_path / "data.parquet")
    code = artifact_path(result, "MODEL_CARD").read_text().split("```python\n")[1].split("```")[0]
    for path in (artifact_path(result, "MODEL"), artifact_path(result, "SIGNATURE"), tmp_path / "data.parquet"):
        code = code.replace(f'"{path.name}"', repr(str(path)))
    names: dict[str, Any] = {}
    exec(code.replace("print(model.predict(rows))", "predicted = model.predict(rows)"), names)
    assert (names["predicted"] == frame["label"].to_numpy()).mean() > 0.9


def test_a_formula_that_does_not_suit_is_refused_at_its_place(tmp_path: Path) -> None:
    for formula, words in (("a + t", "At character 5"), ("hour(day) + 1", "what polars said")):
        definition = chain(("derive_columns", {"columns": [{"name": "x", "formula": "a"}, {"name": "y", "formula": formula}]}))
        error = pipeline_error(tmp_path, FRAME, definition)
        assert (error.code, error.column) == ("BAD_FORMULA", "y")
        assert error.path == ["definition", "nodes", "1", "parameters", "columns", "1", "formula"]
        assert words in error.message
