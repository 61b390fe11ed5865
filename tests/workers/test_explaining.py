"""Explanations as their bodies make them: Shapley values as their definition has them, parts that decide, files of large data."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import csv_of, zip_of
from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.item_files import ingested
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, run

BODY: Any = LazyModule("workers.ml.explaining.body")


def explain(folder: Path, result: Any, method: str, rows: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Explain the model of a training's result; `rows` as in the spec of the body."""
    output = folder / "explained"
    output.mkdir(exist_ok=True)
    paths = {role.lower(): str(artifact_path(result, role)) for role in ("MODEL", "SIGNATURE", "RESULTS")}
    chosen = {"method": method, "maxRows": 1_000, "features": None, "classLabel": None, "seed": 0, **options}
    return json.loads(json.dumps(BODY.explain({**paths, **(rows or {}), "options": chosen, "folder": str(output)}, PipelineRecorder())))


def shapley(expected: Any, columns: int) -> np.ndarray:
    """Shapley values by their definition: `expected` gives the prediction of a set of columns."""
    values = np.zeros(columns)
    for column in range(columns):
        others = [other for other in range(columns) if other != column]
        for size in range(columns):
            weight = math.factorial(size) * math.factorial(columns - size - 1) / math.factorial(columns)
            for known in itertools.combinations(others, size):
                values[column] += weight * (expected({*known, column}) - expected(set(known)))
    return values


def tree_expectation(tree: Any, values: np.ndarray, row: np.ndarray, known: set[int], node: int = 0) -> float:
    """What a tree of scikit-learn predicts of the known columns of a row: where it asks for another, the mean of both ways by their rows."""
    left, right = tree.children_left[node], tree.children_right[node]
    if left < 0:
        return float(values[node])
    column = int(tree.feature[node])
    if column in known:
        goes_left = np.float32(row[column]) <= tree.threshold[node]
        return tree_expectation(tree, values, row, known, left if goes_left else right)
    weights = tree.weighted_n_node_samples
    both = [tree_expectation(tree, values, row, known, child) * weights[child] for child in (left, right)]
    return sum(both) / (weights[left] + weights[right])


def of_forest(pipeline: Any, row: np.ndarray, known: set[int]) -> float:
    trees = [each.tree_ for each in pipeline["model"].estimators_]
    return sum(tree_expectation(tree, tree.value[:, 0, -1], row, known) for tree in trees) / len(trees)


def of_boosting(pipeline: Any, row: np.ndarray, known: set[int]) -> float:
    model = pipeline["model"]
    trees = [each.tree_ for each in model.estimators_[:, 0]]
    return model.init_.constant_[0, 0] + sum(
        model.learning_rate * tree_expectation(tree, tree.value[:, 0, 0], row, known) for tree in trees
    )


TRUST: Any = LazyModule("workers.ml.artifacts.trust")
FORESTS = [
    (("train_random_forest", {"target": "y", "n_estimators": 4, "max_depth": 4}), "value", of_forest),
    exhaustive(("train_gradient_boosting", {"target": "y", "n_estimators": 4, "max_depth": 3}), "value", of_boosting),
    exhaustive(("train_random_forest", {"target": "k", "n_estimators": 3, "class_weight": "balanced"}), "raw score", of_forest),
    exhaustive(("train_extra_trees", {"target": "k", "n_estimators": 3}), "raw score", of_forest),
]


def numbers(rows: int = 60) -> pl.DataFrame:
    random = np.random.default_rng(2)
    a, b, c = (random.normal(size=rows).round(2) for _ in range(3))
    return pl.DataFrame({"a": a, "b": b, "c": c, "y": a * b + c, "k": np.where(a + b > 0, "yes", "no")})


@pytest.mark.parametrize(("trainer", "scale", "expected"), FORESTS)
def test_tree_shap_of_a_forest_is_what_the_definition_of_shapley_values_says(
    tmp_path: Path, trainer: tuple[str, dict[str, Any]], scale: str, expected: Any
) -> None:
    frame = numbers()
    other = "k" if trainer[1]["target"] == "y" else "y"
    result, _ = run(tmp_path, frame, chain(("drop_columns", {"columns": [other]}), trainer))
    told = explain(tmp_path, result, "TREE_SHAP")
    data = told["data"]
    (output,) = data["outputs"]
    pipeline = TRUST.load_model(artifact_path(result, "MODEL"))
    rows = np.column_stack([data["values"][name] for name in data["features"]])
    assert (data["scale"], data["features"], len(rows)) == (scale, ["a", "b", "c"], 12)
    tolerance = 1e-6
    assert output["baseValue"] == pytest.approx(expected(pipeline, rows[0], set()), abs=tolerance)
    for row, contributions in list(zip(rows, output["contributions"], strict=True))[:3]:
        assert contributions == pytest.approx(shapley(lambda known, row=row: expected(pipeline, row, known), 3), abs=tolerance)
    assert told["additivity_error"] < 1e-9


KINDS = [
    (("train_lightgbm", {"target": "k", "n_estimators": 5, "min_child_samples": 5}), "raw score", 3),
    exhaustive(("train_xgboost", {"target": "k", "n_estimators": 5}), "raw score", 3),
    exhaustive(("train_gradient_boosting", {"target": "k", "n_estimators": 5}), "raw score", 3),
    exhaustive(("train_xgboost", {"target": "y", "n_estimators": 5}), "value", 1),
    exhaustive(("train_logistic_regression", {"target": "k"}), "raw score", 3),
]


@pytest.mark.parametrize(("trainer", "scale", "outputs"), KINDS)
def test_contributions_to_each_of_several_classes_sum_up_to_what_the_model_computes(
    tmp_path: Path, trainer: tuple[str, dict[str, Any]], scale: str, outputs: int
) -> None:
    frame = numbers(120).with_columns(
        k=pl.when(pl.col("y") > 0.7).then(pl.lit("high")).when(pl.col("y") > -0.7).then(pl.lit("middle")).otherwise(pl.lit("low"))
    )
    other = "k" if trainer[1]["target"] == "y" else "y"
    result, _ = run(tmp_path, frame, chain(("drop_columns", {"columns": [other]}), trainer))
    told = explain(tmp_path, result, "LINEAR" if "logistic" in trainer[0] else "TREE_SHAP")
    assert (told["data"]["scale"], len(told["data"]["outputs"])) == (scale, outputs)
    pipeline = TRUST.load_model(artifact_path(result, "MODEL"))
    rows = pl.DataFrame(told["data"]["values"])
    sums = np.array([output["baseValue"] + np.array(output["contributions"]).sum(axis=1) for output in told["data"]["outputs"]])
    if outputs == 1:
        assert sums[0] == pytest.approx(pipeline.predict(rows), rel=1e-4)
    else:
        exponentials = np.exp(sums - sums.max(axis=0))
        assert pytest.approx(pipeline.predict_proba(rows), abs=1e-5) == (exponentials / exponentials.sum(axis=0)).T
        assert [output["classLabel"] for output in told["data"]["outputs"]] == ["high", "low", "middle"]
    assert told["additivity_error"] < 1e-4


def test_equal_seeds_give_equal_explanations_and_large_data_lie_in_a_file(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    wide = pl.DataFrame({f"c{number}": random.normal(size=1_200) for number in range(40)}).with_columns(target=pl.col("c0") * 2)
    wide.write_parquet(tmp_path / "wide.parquet")
    rows = {"parquet": str(tmp_path / "wide.parquet")}
    result, _ = run(tmp_path, wide, chain(("train_linear_regression", {"target": "target"})))
    told = explain(tmp_path, result, "LINEAR", rows, maxRows=1_100)
    assert (told["data"], told["rows"], told["files"][-1]["role"]) == (None, 1_100, "EXPLANATION_DATA")
    written = pl.read_parquet(told["files"][-1]["path"])
    assert written["contribution of c0"].abs().mean() == pytest.approx(told["attributions"][0]["meanAbsolute"])
    assert (written["prediction"] - written["value of c0"] * 2).abs().max() == pytest.approx(0, abs=1e-9)

    few: dict[str, Any] = {"maxRows": 40, "features": ["c0", "c7"]}
    first, images = explain(tmp_path, result, "PERMUTATION", rows, **few), []
    for seed in (0, 1):
        again = explain(tmp_path, result, "PERMUTATION", rows, **few, seed=seed)
        images.append(Path(again["files"][0]["path"]).read_bytes())
        assert (again["data"] == first["data"]) is (seed == 0)
    assert images[0] != images[1]
    # A column has the same numbers whichever others are explained.
    assert explain(tmp_path, result, "PERMUTATION", rows, **{**few, "features": ["c7"]})["data"]["losses"] == [first["data"]["losses"][1]]


@pytest.mark.exhaustive
def test_columns_of_many_categories_and_several_classes_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, categories = 2_000, 300
    frame = pl.DataFrame(
        {
            "few": [f"f{number % 3}" for number in range(rows)],
            "many": [f"m{number % categories:03}" for number in range(rows)],
            "k": [("low", "middle", "high")[number % categories % 3] for number in range(rows)],
        }
    )
    frame.write_parquet(tmp_path / "rows.parquet")
    steps = chain(("one_hot_encode", {"max_categories": categories}), ("train_logistic_regression", {"target": "k", "max_iter": 20}))
    result, _ = run(tmp_path, frame, steps)
    version = {"parquet": str(tmp_path / "rows.parquet")}
    explain(tmp_path, result, "LINEAR", version, maxRows=10)  # which imports what it needs
    tracemalloc.start()
    told = explain(tmp_path, result, "LINEAR", version, maxRows=1_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 1_000 * categories * 8, "contributions to each class of each category are summed by column, a few rows at a time"
    pipeline = TRUST.load_model(artifact_path(result, "MODEL"))
    values = pl.DataFrame(told["data"]["values"])
    expected = pipeline.decision_function(values)
    for number, output in enumerate(told["data"]["outputs"]):
        assert output["baseValue"] + np.array(output["contributions"]).sum(axis=1) == pytest.approx(expected[:, number])
        # Of rows that are alike but for one column, that one's contributions alone differ.
        alike = values.with_row_index().filter(pl.col("many") == "m001", pl.col("few") == "f1")["index"].to_list()
        assert len({tuple(output["contributions"][row]) for row in alike}) == 1
    monkeypatch.setattr("workers.ml.explaining.rows.MAX_CELLS", 600)
    told = explain(tmp_path, result, "LINEAR", version)
    assert (told["data"]["rows"], told["data"]["rowsInAll"]) == (100, rows), "2 columns contribute to each of 3 classes"


def test_occlusion_finds_the_part_of_a_signal_that_decides(tmp_path: Path) -> None:
    def signal(number: int) -> bytes:
        samples = np.random.default_rng(number).normal(size=800) * 0.1
        if number % 2:
            samples[300:340] += 5 * np.sin(np.arange(40))
        return csv_of(samples)

    frame, items = ingested(
        tmp_path / "items", zip_of({f"{'ab'[number % 2]}/{number:02}.csv": signal(number) for number in range(20)}), "s.zip", "SIGNAL"
    )
    frame.write_parquet(tmp_path / "signals.parquet")
    steps = (
        ("select_columns", {"columns": ["label"]}),
        ("signal_features", {"bands": 0}),
        ("train_logistic_regression", {"target": "label"}),
    )
    result, _ = run(tmp_path, frame, chain(*steps), items=items)
    row = frame["key"].to_list().index("b/01.csv")
    told = explain(tmp_path, result, "OCCLUSION", {"parquet": str(tmp_path / "signals.parquet"), "items": items, "row": row})
    assert (told["data"]["classLabel"], told["data"]["sampleRate"]) == ("b", 1_000)
    assert {each["feature"] for each in told["attributions"][:2]} == {"samples 300–319", "samples 320–339"}
