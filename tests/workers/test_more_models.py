"""Models beyond the first ones: each equals its library's own fit of the training rows, and what it cannot learn from is refused."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, pipeline_error, run
from workers.ml.steps import STEPS

DATASETS: Any = LazyModule("sklearn.datasets")
PREPROCESSING: Any = LazyModule("sklearn.preprocessing")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
SPLIT = ("split", {"test_fraction": 0.3, "strategy": "random"})


@cache
def table(name: str) -> pl.DataFrame:
    data = getattr(DATASETS, f"load_{name}")()
    target = data.target if name == "diabetes" else [str(data.target_names[label]) for label in data.target]
    return pl.DataFrame(data.data, schema=[str(column) for column in data.feature_names]).with_columns(target=pl.Series(target))


def parts(folder: Path, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the training and the test rows of `SPLIT`."""
    (folder / "parts").mkdir()
    rows = pl.read_parquet(run(folder / "parts", frame, chain(SPLIT))[0]["parquet"])
    train, test = (rows.filter(pl.col("split") == part).drop("split") for part in ("train", "test"))
    return train, test


def independent(step: str) -> Any:
    """The same estimator, fitted by one call of its library."""
    import xgboost
    from sklearn import calibration, ensemble, linear_model, naive_bayes, neighbors, neural_network, svm

    options: dict[str, Any] = {"n_estimators": 20, "random_state": 7, "n_jobs": 1}
    calibrated: dict[str, Any] = {"cv": 5, "ensemble": False}
    makers = {
        "train_svm": lambda: calibration.CalibratedClassifierCV(svm.SVC(), **calibrated),
        "train_k_nearest_neighbors": neighbors.KNeighborsClassifier,
        "train_naive_bayes": naive_bayes.GaussianNB,
        "train_mlp": lambda: neural_network.MLPClassifier((8,), max_iter=60, learning_rate_init=0.05, random_state=7),
        "train_extra_trees": lambda: ensemble.ExtraTreesClassifier(**options),
        "train_xgboost": lambda: ensemble.VotingClassifier(
            [("x", xgboost.XGBClassifier(**options, learning_rate=0.3, max_depth=6, reg_lambda=1, tree_method="hist"))], voting="soft"
        ),
        "train_elastic_net": lambda: linear_model.ElasticNet(alpha=0.1),
    }
    return makers[step]()


MODELS: list[Any] = [
    ("train_svm", "wine", {}),
    exhaustive("train_k_nearest_neighbors", "iris", {}),
    exhaustive("train_naive_bayes", "wine", {}),
    ("train_mlp", "wine", {"hidden_layers": [8], "max_iter": 60, "learning_rate_init": 0.05}),
    exhaustive("train_extra_trees", "iris", {"n_estimators": 20}),
    ("train_xgboost", "iris", {"n_estimators": 20}),
    ("train_elastic_net", "diabetes", {"alpha": 0.1}),
]


@pytest.mark.parametrize(("step", "data", "parameters"), MODELS)
def test_a_model_is_the_one_that_its_library_fits_to_the_scaled_training_rows(
    tmp_path: Path, step: str, data: str, parameters: dict[str, Any]
) -> None:
    frame = table(data)
    result, report = run(tmp_path, frame, chain(SPLIT, "scale", (step, parameters)), target="target")
    train, test = parts(tmp_path, frame)
    scaler = PREPROCESSING.StandardScaler().fit(train.drop("target").to_numpy())
    model = independent(step).fit(scaler.transform(train.drop("target").to_numpy()), train["target"].to_numpy())
    expected = model.predict(scaler.transform(test.drop("target").to_numpy()))
    predicted = TRUST.load_model(artifact_path(result, "MODEL")).predict(test.drop("target"))
    if data == "diabetes":
        np.testing.assert_allclose(predicted, expected, rtol=1e-9)
        assert result["metrics"]["r2"] > 0.3
        return
    assert predicted.tolist() == expected.tolist()
    assert result["metrics"]["accuracy"] == (expected == test["target"].to_numpy()).mean() > 0.9
    assert report.metric_points["train_loss"][-1][1] > 0 if step != "train_extra_trees" else "train_loss" not in report.metric_points


@pytest.mark.parametrize("step", ["train_xgboost", exhaustive("train_mlp"), exhaustive("train_svm"), exhaustive("train_isolation_forest")])
def test_the_same_seed_makes_the_same_files(tmp_path: Path, step: str) -> None:
    options: dict[str, Any] = {"train_mlp": {"max_iter": 5}, "train_xgboost": {"n_estimators": 5, "subsample": 0.5}}.get(step, {})
    options = options if STEPS[step].requires_target else {**options, "exclude": ["target"]}
    files: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result, _ = run(tmp_path / name, table("iris"), chain("scale", (step, options)), target="target")
        files.append({entry["role"]: Path(entry["path"]).read_bytes() for entry in result["artifacts"]})
    assert files[0] == files[1]


def test_xgboost_stops_early_and_its_folds_train_as_long(tmp_path: Path) -> None:
    split = ("split", {"test_fraction": 0.2, "validation_fraction": 0.2})
    definition = chain(split, ("train_xgboost", {"n_estimators": 300, "early_stopping_rounds": 5}), ("cross_validate", {"folds": 3}))
    result, report = run(tmp_path, table("wine"), definition, target="target")
    losses = [value for _, value in report.metric_points["validation_loss"]]
    assert len(losses) < 300
    assert report.outputs["train_xgboost"]["best_round"] == int(np.argmin(losses)) + 1
    assert (result["framework"], result["algorithm"], report.errors) == ("xgboost", "XGBClassifier", {})
    assert result["metrics"]["cv_accuracy_mean"] > 0.85


def test_a_worker_without_xgboost_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    error = pipeline_error(tmp_path, table("iris"), chain("train_xgboost"), target="target")
    assert (error.code, error.path) == ("NOT_INSTALLED", ["definition", "nodes", "1", "step"])
    assert "install the extra 'trellis[xgboost]'" in error.message


def test_dbscan_finds_two_moons_and_places_other_rows(tmp_path: Path) -> None:
    points, moons = DATASETS.make_moons(300, noise=0.05, random_state=3)
    frame = pl.DataFrame({"x": points[:, 0], "y": points[:, 1]})
    result, _ = run(tmp_path, frame, chain(("train_dbscan", {"eps": 0.2})))
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    labels = model.predict(frame)
    assert sorted(set(labels.tolist())) == [0, 1]
    assert (labels == moons).all() or (labels == 1 - moons).all()
    with pytest.warns(UserWarning, match="Outlier label -1"):
        assert model.predict(pl.DataFrame({"x": [9.0], "y": [9.0]})).tolist() == [-1]
    assert result["algorithm"] == "DBSCAN"
    error = pipeline_error(tmp_path, frame, chain(("train_dbscan", {"eps": 0.0001})))
    assert (error.code, "Raise eps" in error.message) == ("NO_CLUSTERS", True)


def test_a_mixture_and_an_isolation_forest_tell_what_they_measure(tmp_path: Path) -> None:
    from sklearn.mixture import GaussianMixture

    frame = table("iris")
    result, _ = run(tmp_path, frame, chain(("train_gaussian_mixture", {"exclude": ["target"]})), target="target", seed=5)
    points = frame.drop("target").to_numpy()
    labels = GaussianMixture(3, n_init=3, max_iter=200, random_state=5).fit(points).predict(points)
    assert TRUST.load_model(artifact_path(result, "MODEL")).predict(frame.drop("target")).tolist() == labels.tolist()
    assert set(result["metrics"]) == {"log_likelihood", "silhouette"}
    odd = pl.concat([frame.drop("target"), pl.DataFrame([[30.0] * 4] * 3, schema=frame.columns[:4], orient="row")])
    result, _ = run(tmp_path, odd, chain(("train_isolation_forest", {"contamination": 0.02})))
    predicted = TRUST.load_model(artifact_path(result, "MODEL")).predict(odd)
    assert predicted[-3:].tolist() == [-1, -1, -1]
    assert result["metrics"] == {"outlier_share": (predicted == -1).mean()}
    assert result["problem_type"] == "OTHER"


def test_what_a_model_cannot_learn_from_is_refused_with_the_way_out(tmp_path: Path) -> None:
    rare = pl.DataFrame({"x": np.arange(40.0), "y": ["a", "b"] * 19 + ["a", "rare"]})
    split = ("split", {"strategy": "time", "time_column": "x", "test_fraction": 0.2})
    error = pipeline_error(tmp_path, rare[::-1].with_columns(x=pl.arange(0, 40).cast(pl.Float64)), chain(split, "train_svm"), target="y")
    assert (error.code, error.column) == ("RARE_CLASS", "y")
    many = pl.DataFrame({"x": np.arange(30_000.0), "y": ["a", "b"] * 15_000})
    error = pipeline_error(tmp_path, many, chain("train_svm"), target="y")
    assert (error.code, "at most 20,000" in error.message) == ("TOO_LARGE", True)
    error = pipeline_error(tmp_path, rare, chain(("train_k_nearest_neighbors", {"n_neighbors": 500})), target="y")
    assert (error.code, "set n_neighbors to at most 31" in error.message.lower()) == ("TOO_FEW_ROWS", True)
