"""What is learned from: samples, balanced classes, rows without outliers and groups, and encodings by the target that no row sees its own in."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run

DATASETS: Any = LazyModule("sklearn.datasets")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
PREPROCESSING: Any = LazyModule("sklearn.preprocessing")
SELECTION: Any = LazyModule("sklearn.model_selection")
SPLIT = ("split", {"test_fraction": 0.25, "validation_fraction": 0.1})
NEIGHBORS = ("train_k_nearest_neighbors", {"n_neighbors": 1, "target": "target"})


@cache
def cancer() -> pl.DataFrame:
    data = DATASETS.load_breast_cancer()
    names = [str(name) for name in data.feature_names[:5]]
    return pl.DataFrame(data.data[:, :5], schema=names).with_columns(
        target=pl.Series(["bad" if label == 0 else "good" for label in data.target])
    )


def learned(folder: Path, *steps: Any, frame: pl.DataFrame | None = None, **options: Any) -> tuple[Any, pl.DataFrame, Any]:
    """Return the report, the rows that were learned from as the file of a neighbours' model holds them, and the result."""
    frame = cancer() if frame is None else frame
    result, report = run(folder, frame, chain(*steps, NEIGHBORS), **options)
    model = TRUST.load_model(artifact_path(result, "MODEL"))["model"]
    names = [name for name in frame.columns if name != "target"]
    labels = model.classes_[model._y]
    return report, pl.DataFrame(model._fit_X, schema=names[: model._fit_X.shape[1]]).with_columns(target=pl.Series(labels)), result


def training_rows(folder: Path) -> pl.DataFrame:
    (folder / "parts").mkdir()
    stratified = ("split", {**SPLIT[1], "stratify_by": "target"})
    return (
        pl.read_parquet(run(folder / "parts", cancer(), chain(stratified))[0]["parquet"]).filter(pl.col("split") == "train").drop("split")
    )


def test_a_sample_keeps_the_shares_of_the_classes_and_the_other_rows_are_measured(tmp_path: Path) -> None:
    report, rows, result = learned(tmp_path, SPLIT, ("sample_rows", {"fraction": 0.3}), ("scale", {"columns": ["mean radius"]}))
    train = training_rows(tmp_path)
    assert report.outputs["sample_rows"] == {"training_rows": round(0.3 * train.height), "training_rows_before": train.height}
    assert rows.height == round(0.3 * train.height) == report.outputs["train_k_nearest_neighbors"]["training_rows"]
    for label in ("good", "bad"):
        share = train["target"].to_list().count(label) / train.height
        assert abs(rows["target"].to_list().count(label) - rows.height * share) <= 1
    # The scale is learned from the sample, and all test rows are measured.
    assert rows["mean radius"].mean() == pytest.approx(0, abs=1e-12)
    assert rows["mean radius"].std(ddof=0) == pytest.approx(1)
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    assert rows.drop("mean radius").join(train.drop("mean radius"), on=train.columns[1:5], how="anti").height == 0
    assert model.score(cancer().drop("target"), cancer()["target"].to_list()) < 1


@pytest.mark.parametrize("method", ["undersample", "oversample"])
def test_classes_are_balanced_in_training_rows_alone(tmp_path: Path, method: str) -> None:
    _, rows, result = learned(tmp_path, SPLIT, ("balance_classes", {"method": method}))
    train = training_rows(tmp_path)
    counts = dict(train["target"].value_counts().iter_rows())
    size = (max if method == "oversample" else min)(counts.values())
    assert dict(rows["target"].value_counts().iter_rows()) == {"good": size, "bad": size}
    distinct = rows.unique().join(train.unique(), on=train.columns, how="semi").height
    assert distinct == (train.unique().height if method == "oversample" else 2 * size)
    assert "balance_classes" in artifact_path(result, "MODEL_CARD").read_text()


def test_outliers_are_not_learned_from_but_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    values = np.where(rng.random(200) < 0.05, 50.0, rng.normal(size=200))
    frame = pl.DataFrame({"x": values, "y": rng.normal(size=200), "target": ["a", "b"] * 100}).with_columns(
        y=pl.when(pl.arange(0, 200) % 9 == 4).then(None).otherwise("y")
    )
    fill = ("impute", {"columns": ["y"]})
    for number, options in enumerate(
        ({"method": "iqr"}, {"method": "zscore", "columns": ["x"]}, {"method": "isolation_forest", "share": 0.25})
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        report, rows, result = learned(folder, SPLIT, ("remove_outliers", options), fill, frame=frame)
        assert (rows["x"] > 40).sum() == 0
        assert report.outputs["remove_outliers"]["training_rows"] == rows.height < report.outputs["remove_outliers"]["training_rows_before"]
        predicted = TRUST.load_model(artifact_path(result, "MODEL")).predict(frame.select("x", "y"))
        assert len(predicted) == 200
    error = pipeline_error(tmp_path, frame, chain(("remove_outliers", {"columns": ["target"]}), NEIGHBORS))
    assert (error.code, error.column) == ("TARGET_TRANSFORMED", "target")


def test_a_cross_validation_chooses_rows_in_its_folds(tmp_path: Path) -> None:
    """Were rows repeated before the folds are made, their copies would be on both sides: with random labels, a neighbour's answer would be right."""
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"x": rng.normal(size=300), "target": ["rare" if value < 0.1 else "usual" for value in rng.random(300)]})
    definition = chain(("balance_classes", {"method": "oversample"}), NEIGHBORS, ("cross_validate", {"folds": 4}))
    result, _ = run(tmp_path, frame, definition)
    assert result["metrics"]["cv_recall_macro_mean"] < 0.65


def test_rows_are_chosen_only_for_a_training(tmp_path: Path) -> None:
    error = pipeline_error(tmp_path, cancer(), chain("sample_rows"))
    assert (error.code, error.path) == ("NO_TRAINING", ["definition", "nodes", "1", "step"])
    regression = chain("balance_classes", ("train_ridge_regression", {"target": "mean area", "exclude": ["target"]}))
    assert pipeline_error(tmp_path, cancer(), regression).code == "WRONG_PROBLEM"


def test_an_encoding_by_the_target_is_cross_fitted_in_training_rows_and_whole_in_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frame = pl.DataFrame({"city": [f"c{number}" for number in rng.integers(0, 40, 400)], "target": rng.normal(10, 3, 400)})
    split = ("split", {"strategy": "random", "test_fraction": 0.25})
    result, _ = run(tmp_path, frame, chain(split, "target_encode", NEIGHBORS), problem="REGRESSION", target="target", seed=3)
    (tmp_path / "parts").mkdir()
    parts = pl.read_parquet(run(tmp_path / "parts", frame, chain(split), seed=3)[0]["parquet"])
    train, test = (parts.filter(pl.col("split") == part) for part in ("train", "test"))
    folds = SELECTION.KFold(5, shuffle=True, random_state=3)
    encoder = PREPROCESSING.TargetEncoder(target_type="continuous", cv=folds)
    expected = encoder.fit_transform(train.select("city").to_numpy(), train["target"].to_numpy())
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    np.testing.assert_allclose(model["model"]._fit_X, expected)
    np.testing.assert_allclose(model["features"].transform(test.select("city")), encoder.transform(test.select("city").to_numpy()))
    # A column that has nothing to do with the target does not explain it.
    assert result["metrics"]["r2"] < 0.1
    assert pipeline_error(tmp_path, frame, chain("target_encode")).code == "NO_TARGET"


def test_classes_are_encoded_by_their_shares(tmp_path: Path) -> None:
    labels = ["x", "y", "z"] * 60
    frame = pl.DataFrame({"kind": [f"of {label}" for label in labels], "target": labels})
    result, _ = run(tmp_path, frame, chain("target_encode", ("train_naive_bayes", {"var_smoothing": 0.1})), target="target")
    assert result["metrics"]["accuracy"] == 1
    names = TRUST.load_model(artifact_path(result, "MODEL"))["features"].get_feature_names_out().tolist()
    assert names == ["kind_x", "kind_y", "kind_z"]


def test_a_group_is_in_one_part_and_in_one_fold_and_is_not_a_feature(tmp_path: Path) -> None:
    """Each patient has a label: a neighbour knows the patient, if another row of the same is among those that are learned from."""
    rng = np.random.default_rng(4)
    patients = rng.integers(0, 40, 400)
    traits, labels = rng.normal(size=40), rng.permutation(["a", "b"] * 20)
    frame = pl.DataFrame(
        {"patient": [f"p{number}" for number in patients], "trait": traits[patients] + rng.normal(0, 1e-6, 400), "target": labels[patients]}
    )
    split = ("split", {"strategy": "group", "group_column": "patient", "test_fraction": 0.25, "validation_fraction": 0.2})
    (tmp_path / "parts").mkdir()
    rows = pl.read_parquet(run(tmp_path / "parts", frame, chain(split))[0]["parquet"])
    assert rows.group_by("patient").agg(pl.col("split").n_unique())["split"].to_list() == [1] * rows["patient"].n_unique()
    shares = dict(rows.group_by("split").len().with_columns(pl.col("len") / 400).iter_rows())
    assert shares == {
        "train": pytest.approx(0.55, abs=0.06),
        "validation": pytest.approx(0.2, abs=0.06),
        "test": pytest.approx(0.25, abs=0.06),
    }
    result, report = run(tmp_path, frame, chain(split, NEIGHBORS, ("cross_validate", {"folds": 4})))
    assert report.outputs["train_k_nearest_neighbors"]["left_out"] == ["patient"]
    assert report.outputs["cross_validate"]["strategy"] == "group"
    assert result["metrics"]["cv_accuracy_mean"] < 0.8
    leaking, _ = run(
        tmp_path, frame.drop("patient"), chain(("split", {"test_fraction": 0.25}), NEIGHBORS, ("cross_validate", {"folds": 4}))
    )
    assert leaking["metrics"]["cv_accuracy_mean"] > 0.95
    error = pipeline_error(tmp_path, frame, chain(("split", {"strategy": "group"}), NEIGHBORS))
    assert (error.code, error.path) == ("BAD_PARAMETER", ["definition", "nodes", "1", "parameters", "group_column"])
    one = chain(("split", {"strategy": "group", "group_column": "one"}), NEIGHBORS)
    assert pipeline_error(tmp_path, frame.with_columns(one=pl.lit("x")), one).code == "TOO_FEW_ROWS"
