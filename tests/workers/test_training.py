"""Training pipelines: what they learn, from which rows, and what they report."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import PipelineRecorder, artifact_path, chain, pipeline_error, run

DATASETS: Any = LazyModule("sklearn.datasets")
LINEAR: Any = LazyModule("sklearn.linear_model")
FORESTS: Any = LazyModule("sklearn.ensemble")
SCALERS: Any = LazyModule("sklearn.preprocessing")
PANDAS: Any = LazyModule("pandas")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
CLASSIFIERS = ["train_logistic_regression", "train_random_forest", "train_gradient_boosting", "train_lightgbm"]
REGRESSORS = ["train_linear_regression", "train_ridge_regression", "train_random_forest", "train_gradient_boosting", "train_lightgbm"]
FEW_CLASSIFIERS = [step if step in ("train_logistic_regression", "train_lightgbm") else exhaustive(step) for step in CLASSIFIERS]
CURVES = {"train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "step_seconds"}
THIRD = {"strategy": "stratified", "test_fraction": 0.3}


def table(load: Any, *, names: bool = False) -> pl.DataFrame:
    data = load()
    target = [str(data.target_names[label]) for label in data.target] if names else data.target
    return pl.DataFrame(data.data, schema=[str(name) for name in data.feature_names]).with_columns(target=pl.Series(target))


@cache
def cancer() -> pl.DataFrame:
    return table(DATASETS.load_breast_cancer, names=True)


@cache
def diabetes() -> pl.DataFrame:
    return table(DATASETS.load_diabetes)


def features() -> list[str]:
    return [name for name in cancer().columns if name != "target"]


def split_parts(folder: Path, frame: pl.DataFrame, definition: dict[str, Any], **options: Any) -> pl.DataFrame:
    """Return the rows with their part, from a processing run of the same split, which writes the part as a column."""
    folder = folder / "parts"
    folder.mkdir()
    result, _ = run(folder, frame, definition, **options)
    return pl.read_parquet(result["parquet"])


@pytest.mark.parametrize("step", FEW_CLASSIFIERS)
def test_a_classifier_reaches_93_percent_on_breast_cancer_and_its_file_predicts_what_was_reported(tmp_path: Path, step: str) -> None:
    result, report = run(tmp_path, cancer(), chain(("split", THIRD), "scale", step, "evaluate"), target="target", problem="CLASSIFICATION")
    assert result["metrics"]["accuracy"] >= 0.93

    parts = split_parts(tmp_path, cancer(), chain(("split", {**THIRD, "stratify_by": "target"})))
    test_rows = parts.filter(pl.col("split") == "test")
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    predicted = model.predict(test_rows.select(features()))
    actual = test_rows["target"].to_numpy()
    assert test_rows.height == 171
    assert (predicted == actual).mean() == result["metrics"]["accuracy"]
    probabilities = model.predict_proba(test_rows.select(features()))
    true_class_probabilities = probabilities[np.arange(len(actual)), [["benign", "malignant"].index(label) for label in actual]]
    assert -np.log(true_class_probabilities).mean() == pytest.approx(result["metrics"]["log_loss"], rel=1e-9)
    assert report.metric_points["accuracy"] == [(0, result["metrics"]["accuracy"])]
    assert report.outputs["evaluate"]["metrics"]["accuracy"] == result["metrics"]["accuracy"]


@pytest.mark.parametrize("step", [*(exhaustive(step) for step in CLASSIFIERS[:-1]), "train_lightgbm", exhaustive("train_k_means")])
def test_the_same_seed_gives_the_same_metrics_points_and_files(tmp_path: Path, step: str) -> None:
    fewer = {"n_estimators": 20} if step in CLASSIFIERS[1:] else {}
    definition = chain(("split", {"test_fraction": 0.3, "validation_fraction": 0.1}), "scale", (step, fewer))
    results: list[tuple[Any, Any, dict[str, bytes]]] = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        result, report = run(tmp_path / name, cancer(), definition, target="target")
        report.metric_points.pop("step_seconds", None)
        results.append(
            (result["metrics"], report.metric_points, {entry["role"]: Path(entry["path"]).read_bytes() for entry in result["artifacts"]})
        )
    assert results[0] == results[1]


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63), exhaustive(2**32), exhaustive(2**31)])
@pytest.mark.parametrize("step", [exhaustive("train_logistic_regression"), exhaustive("train_lightgbm"), "train_k_means"])
def test_every_seed_of_64_bits_can_be_used(tmp_path: Path, step: str, seed: int) -> None:
    definition = chain("split", "scale", (step, {"n_estimators": 5} if step == "train_lightgbm" else {}))
    result, _ = run(tmp_path, cancer(), definition, target="target", seed=seed)
    assert result["kind"] == "model"
    assert f"Seed {seed}," in artifact_path(result, "MODEL_CARD").read_text()


def test_another_seed_divides_the_rows_otherwise(tmp_path: Path) -> None:
    metrics = [
        run(tmp_path, cancer(), chain("scale", "train_logistic_regression"), target="target", seed=seed)[0]["metrics"]["log_loss"]
        for seed in (1, 2)
    ]
    assert metrics[0] != metrics[1]


@pytest.mark.parametrize("order", [exhaustive("split first"), "split last"])
def test_transforms_learn_from_the_training_rows_alone_wherever_the_split_stands(tmp_path: Path, order: str) -> None:
    split = ("split", {"test_fraction": 0.3, "validation_fraction": 0.1, "stratify_by": "target"})
    steps = [split, "scale"] if order == "split first" else ["scale", split]
    result, _ = run(tmp_path, cancer(), chain(*steps, "train_logistic_regression"), target="target")
    parts = split_parts(tmp_path, cancer(), chain(split))
    train = parts.filter(pl.col("split") == "train").select(features()).to_numpy()
    scaler = TRUST.load_model(artifact_path(result, "MODEL"))["features"].named_transformers_["columns_0"][-1]
    assert train.shape == (341, 30)
    np.testing.assert_allclose(scaler.mean_, train.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, train.std(axis=0), rtol=1e-12)
    assert not np.allclose(scaler.mean_, cancer().select(features()).to_numpy().mean(axis=0))


def test_logistic_regression_ends_where_a_single_fit_ends(tmp_path: Path) -> None:
    result, report = run(tmp_path, cancer(), chain(("split", THIRD), "scale", "train_logistic_regression"), target="target")
    train = split_parts(tmp_path, cancer(), chain(("split", {**THIRD, "stratify_by": "target"}))).filter(pl.col("split") == "train")
    matrix = SCALERS.StandardScaler().fit_transform(train.select(features()).to_numpy())
    single = LINEAR.LogisticRegression(tol=1e-8, max_iter=5000).fit(matrix, train["target"].to_numpy())
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    np.testing.assert_allclose(model.predict_proba(train.select(features())), single.predict_proba(matrix), atol=1e-4)
    losses = [value for _, value in report.metric_points["train_loss"]]
    assert len(losses) >= 4
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("step", [exhaustive(step) if step in CLASSIFIERS[1:3] else step for step in REGRESSORS])
def test_a_regressors_metrics_are_those_of_its_predictions(tmp_path: Path, step: str) -> None:
    split = ("split", {"strategy": "random", "test_fraction": 0.3})
    result, _ = run(tmp_path, diabetes(), chain(split, "scale", step), target="target", problem="REGRESSION")
    parts = split_parts(tmp_path, diabetes(), chain(split))
    train, test_rows = (parts.filter(pl.col("split") == part).drop("split") for part in ("train", "test"))
    actual = test_rows["target"].to_numpy()
    predicted = TRUST.load_model(artifact_path(result, "MODEL")).predict(test_rows.drop("target"))
    errors = actual - predicted
    assert result["metrics"]["rmse"] == pytest.approx(math.sqrt((errors**2).mean()))
    assert result["metrics"]["mae"] == pytest.approx(np.abs(errors).mean())
    assert result["metrics"]["r2"] == pytest.approx(1 - (errors**2).sum() / ((actual - actual.mean()) ** 2).sum())
    assert result["metrics"]["r2"] > 0.25
    independent = {"train_linear_regression": LINEAR.LinearRegression(), "train_ridge_regression": LINEAR.Ridge()}.get(step)
    if independent is not None:
        scaler = SCALERS.StandardScaler().fit(train.drop("target").to_numpy())
        independent.fit(scaler.transform(train.drop("target").to_numpy()), train["target"].to_numpy())
        np.testing.assert_allclose(predicted, independent.predict(scaler.transform(test_rows.drop("target").to_numpy())), rtol=1e-9)


@pytest.mark.parametrize(
    ("step", "keys", "least"),
    [
        ("train_logistic_regression", CURVES, 4),
        exhaustive("train_random_forest", {"validation_loss", "validation_accuracy", "step_seconds"}, 20),
        exhaustive("train_gradient_boosting", CURVES | {"learning_rate"}, 100),
        ("train_lightgbm", CURVES | {"learning_rate"}, 100),
    ],
)
def test_a_training_reports_points_while_it_works(tmp_path: Path, step: str, keys: set[str], least: int) -> None:
    split = ("split", {"test_fraction": 0.3, "validation_fraction": 0.1})
    result, report = run(tmp_path, cancer(), chain(split, "scale", step), target="target")
    for key in keys:
        steps = [at for at, _ in report.metric_points[key]]
        assert len(steps) >= least
        assert steps == sorted(set(steps))
    assert set(report.metric_points) == keys | set(result["metrics"])
    assert report.percents[-1] == 99
    assert all(seconds > 0 for _, seconds in report.metric_points["step_seconds"])


@pytest.mark.parametrize("step", ["train_lightgbm", *map(exhaustive, ("train_gradient_boosting", "train_xgboost", "train_mlp"))])
@pytest.mark.parametrize(("problem", "measure"), [("CLASSIFICATION", "accuracy"), ("REGRESSION", "r2")])
def test_a_step_has_the_accuracy_or_r2_of_the_model_so_far(tmp_path: Path, step: str, problem: str, measure: str) -> None:
    rounds = "max_iter" if step == "train_mlp" else "n_estimators"
    parameters: dict[str, Any] = {
        rounds: 3,
        **({"class_weight": "balanced"} if (step, problem) == ("train_lightgbm", "CLASSIFICATION") else {}),
    }
    split = ("split", {"test_fraction": 0.3, "validation_fraction": 0.2})
    frame = cancer() if problem == "CLASSIFICATION" else diabetes()
    definition = chain(split, "scale", (step, parameters), ("evaluate", {"part": "validation"}), ("evaluate", {"part": "train"}))
    result, report = run(tmp_path, frame, definition, target="target", problem=problem)
    for part in ("train", "validation"):
        points = report.metric_points[f"{part}_{measure}"]
        assert [at for at, _ in points] == [0, 1, 2, 3]  # the last is the measure of the finished model
        assert points[2][1] == pytest.approx(points[3][1], rel=1e-6)
        assert result["metrics"][f"{part}_{measure}"] == points[3][1]
    assert len(report.metric_points["step_seconds"]) == 3
    assert {rate for _, rate in report.metric_points["learning_rate"]} == {result["hyperparameters"].get("learning_rate", 0.001)}


def test_the_durations_of_many_steps_are_averaged(tmp_path: Path) -> None:
    result, report = run(tmp_path, diabetes(), chain(("train_lightgbm", {"n_estimators": 450, "num_leaves": 2})), target="target")
    assert [at for at, _ in report.metric_points["step_seconds"]] == list(range(2, 450, 3))
    assert len(report.metric_points["train_r2"]) == 450
    assert result["kind"] == "model"


@pytest.mark.parametrize("step", FEW_CLASSIFIERS)
def test_the_last_losses_are_those_of_the_finished_model(tmp_path: Path, step: str) -> None:
    split = {"test_fraction": 0.3, "validation_fraction": 0.1}
    result, report = run(tmp_path, cancer(), chain(("split", split), step, ("evaluate", {"part": "validation"})), target="target")
    assert report.metric_points["validation_loss"][-1][1] == pytest.approx(result["metrics"]["validation_log_loss"], rel=1e-6)


def test_a_forest_grown_in_chunks_is_the_forest_of_a_single_fit(tmp_path: Path) -> None:
    result, report = run(
        tmp_path, cancer(), chain(("split", THIRD), ("train_random_forest", {"n_estimators": 30})), target="target", seed=3
    )
    parts = split_parts(tmp_path, cancer(), chain(("split", {**THIRD, "stratify_by": "target"})), seed=3)
    train, test_rows = (parts.filter(pl.col("split") == part) for part in ("train", "test"))
    single = FORESTS.RandomForestClassifier(n_estimators=30, random_state=3).fit(
        train.select(features()).to_numpy(), train["target"].to_numpy()
    )
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    assert (model.predict_proba(test_rows.select(features())) == single.predict_proba(test_rows.select(features()).to_numpy())).all()
    assert report.metric_points["oob_accuracy"][-1][0] == 29


def test_the_classes_of_a_balanced_forest_may_look_like_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=80)
    metrics: list[Any] = []
    for names in (("a", "b"), ("7", "07")):
        folder = tmp_path / names[0]
        folder.mkdir()
        frame = pl.DataFrame({"x": values, "label": [names[int(value > 0.8)] for value in values]})
        step = ("train_random_forest", {"n_estimators": 10, "class_weight": "balanced"})
        metrics.append(run(folder, frame, chain(step), target="label")[0]["metrics"])
    assert metrics[0]["f1_macro"] == metrics[1]["f1_macro"]


def test_early_stopping_ends_where_the_validation_loss_is_least(tmp_path: Path) -> None:
    split = ("split", {"test_fraction": 0.3, "validation_fraction": 0.15})
    definition = chain(split, ("train_lightgbm", {"n_estimators": 400, "early_stopping_rounds": 15}), "cross_validate")
    result, report = run(tmp_path, cancer(), definition, target="target")
    losses = [value for _, value in report.metric_points["validation_loss"]]
    assert len(losses) < 400
    assert report.outputs["train_lightgbm"]["best_round"] == int(np.argmin(losses)) + 1
    assert result["hyperparameters"]["early_stopping_rounds"] == 15


def test_cross_validation_reports_each_fold_and_leaves_the_test_rows_alone(tmp_path: Path) -> None:
    definition = chain(("split", THIRD), "scale", "train_logistic_regression", ("cross_validate", {"folds": 4}), "evaluate")
    result, report = run(tmp_path, cancer(), definition, target="target")
    folds = [value for _, value in report.metric_points["cv_accuracy"]]
    assert [at for at, _ in report.metric_points["cv_accuracy"]] == [0, 1, 2, 3]
    assert result["metrics"]["cv_accuracy_mean"] == pytest.approx(np.mean(folds))
    assert result["metrics"]["cv_accuracy_std"] == pytest.approx(np.std(folds))
    assert report.outputs["cross_validate"]["rows"] == 398


def test_k_means_puts_three_wines_into_three_clusters(tmp_path: Path) -> None:
    wine = table(DATASETS.load_wine, names=True)
    result, report = run(tmp_path, wine, chain("scale", ("train_k_means", {"n_clusters": 3})), target="target")
    assert report.outputs["train_k_means"]["left_out"] == ["target"]
    points = wine.drop("target")
    labels = TRUST.load_model(artifact_path(result, "MODEL")).predict(points)
    scaled = (points.to_numpy() - points.to_numpy().mean(axis=0)) / points.to_numpy().std(axis=0)
    inertia = sum(((scaled[labels == label] - scaled[labels == label].mean(axis=0)) ** 2).sum() for label in range(3))
    assert result["metrics"]["inertia"] == pytest.approx(inertia, rel=1e-6)
    agreement = sum(
        max((wine["target"].to_numpy()[labels == label] == name).sum() for name in wine["target"].unique()) for label in range(3)
    )
    assert agreement / wine.height > 0.9
    values = [value for _, value in report.metric_points["inertia"]]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(inertia, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([3.0] * 120, "1 of 50 clusters, the others are empty: its training rows have 1 distinct combination of values"),
        ([float(row % 60) for row in range(120)], None),
    ],
)
def test_k_means_tells_of_clusters_that_are_empty(tmp_path: Path, values: list[float], found: str | None) -> None:
    result, report = run(tmp_path, pl.DataFrame({"x": values}), chain(("train_k_means", {"n_clusters": 50})))
    note = found and f"Step 'train_k_means' found {found}. Set n_clusters lower, or give it more columns."
    assert report.outputs["train_k_means"].get("note") == note
    assert report.log_lines == ([note] if note else [])
    card = artifact_path(result, "MODEL_CARD").read_text()
    assert ("clusters, the others are empty" in card) is (note is not None)


def test_without_a_split_a_fifth_is_held_out_and_the_node_says_so(tmp_path: Path) -> None:
    _, report = run(tmp_path, cancer(), chain("scale", "train_logistic_regression"), target="target")
    split = report.outputs["train_logistic_regression"]["split"]
    assert (split["strategy"], split["train_rows"], split["test_rows"]) == ("stratified", 455, 114)
    assert "No split step" in split["note"]


def test_nodes_run_in_order_and_each_ends_completed(tmp_path: Path) -> None:
    definition = chain("scale", ("split", {"test_fraction": 0.3}), "train_ridge_regression")
    _, report = run(tmp_path, diabetes(), definition, target="target")
    ended = [key for key, status in report.nodes if status == "completed"]
    assert ended == ["dataset", "split", "scale", "train_ridge_regression"]
    assert [key for key, status in report.nodes if status == "running"] == ended


def test_what_a_training_does_is_named_in_one_style_until_it_is_done(tmp_path: Path) -> None:
    _, report = run(tmp_path, diabetes(), chain("split", "train_random_forest"), target="target")
    shares = [f"Train random forest: {trees} of 100" for trees in range(5, 101, 5)]
    expected = ["Read", "Dataset", "Split", "Train random forest", *shares, "Train random forest"]
    steps = [step for step, before in zip(report.steps, [None, *report.steps], strict=False) if step != before]
    assert steps == [*expected, "Evaluate", "Write the model", "Draw plots", "Write the model"]


@pytest.mark.parametrize(
    "step", [exhaustive("train_random_forest"), exhaustive("train_gradient_boosting"), exhaustive("train_lightgbm"), "train_k_means"]
)
def test_the_node_of_a_training_shows_its_own_share(tmp_path: Path, step: str) -> None:
    parameters = {} if step == "train_k_means" else {"n_estimators": 40}
    _, report = run(tmp_path, cancer(), chain("split", "scale", (step, parameters)), target="target")
    started, *shares, completed = report.node_percents[step]
    assert (started, shares[-1], completed) == (0, 99, 100)
    expected = {"train_random_forest": [*range(5, 100, 5), 99], "train_k_means": [33, 66, 99]}
    assert shares == expected.get(step, [*(int(2.5 * done) for done in range(1, 40)), 99])


def mixed() -> pl.DataFrame:
    rng = np.random.default_rng(5)
    size = 400
    color = rng.choice(["red", "green", "blue"], size)
    age = rng.normal(40, 10, size)
    wage = rng.normal(size=size)
    label = np.where((color == "red") ^ (age > 42), "yes", "no")
    return pl.DataFrame({"color": color, "age": age, "wage": wage, "active": rng.random(size) > 0.5, "label": label}).with_columns(
        pl.when(pl.int_range(size) % 9 == 0).then(None).otherwise(pl.col("color")).alias("color"),
        pl.when(pl.int_range(size) % 7 == 0).then(None).otherwise(pl.col("age")).alias("age"),
        pl.when(pl.int_range(size) % 11 == 0).then(None).otherwise(pl.col("active")).alias("active"),
    )


@pytest.mark.parametrize("encode", ["one_hot_encode", exhaustive("ordinal_encode")])
def test_one_pipeline_takes_raw_columns_with_text_booleans_and_gaps(tmp_path: Path, encode: str) -> None:
    frame = mixed()
    steps = [("impute", {"strategy": "median"}), encode, "scale", ("split", THIRD), "train_gradient_boosting"]
    result, _ = run(tmp_path, frame, chain(*steps), target="label")
    assert result["metrics"]["accuracy"] > 0.85
    model = TRUST.load_model(artifact_path(result, "MODEL"))
    expected = model.predict(frame.drop("label").with_columns(pl.col("active").cast(pl.Float64)))
    raw = PANDAS.DataFrame({name: frame[name].to_list() for name in ("wage", "active", "age", "color")})
    raw["active"] = raw["active"].astype("float64")
    assert (model.predict(raw) == expected).all()
    unseen = frame.drop("label").with_columns(color=pl.lit("violet"), active=pl.lit(None, dtype=pl.Float64))
    assert set(model.predict(unseen)) <= {"yes", "no"}


@pytest.mark.exhaustive
def test_missing_numbers_need_no_filling_for_estimators_that_take_them(tmp_path: Path) -> None:
    for step in ("train_random_forest", "train_lightgbm"):
        result, _ = run(tmp_path, mixed(), chain("one_hot_encode", ("split", THIRD), step), target="label")
        assert result["metrics"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("step", "labels"),
    [
        ("train_logistic_regression", [True, False]),
        *(exhaustive(step, [True, False]) for step in CLASSIFIERS[1:3]),
        exhaustive("train_lightgbm", [True, False]),
        ("train_lightgbm", [7, 3]),
        exhaustive("train_logistic_regression", [1.0, 3.0]),
    ],
)
def test_predictions_are_the_labels_of_the_dataset(tmp_path: Path, step: str, labels: list[Any]) -> None:
    frame = pl.DataFrame({"x": list(range(60)), "y": [labels[0]] * 30 + [labels[1]] * 30})
    result, _ = run(tmp_path, frame, chain((step, {"target": "y"})), problem="CLASSIFICATION", target="y")
    predicted = TRUST.load_model(artifact_path(result, "MODEL")).predict(frame.select("x"))
    assert predicted.tolist() == frame["y"].to_list()
    assert predicted.dtype == frame["y"].to_numpy().dtype


def test_rows_without_a_target_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = cancer().with_columns(target=pl.when(pl.int_range(pl.len()) < 69).then(None).otherwise(pl.col("target")))
    _, report = run(tmp_path, frame, chain("scale", "train_logistic_regression"), target="target")
    assert report.outputs["train_logistic_regression"]["rows"] == 500
    assert report.outputs["train_logistic_regression"]["rows_without_target"] == 69
    assert report.log_lines == ["69 of 569 rows have no value for the target 'target' and are ignored."]


def test_auto_tells_classes_from_quantities(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": np.arange(90.0), "grade": np.arange(90) % 3, "price": np.arange(90.0) * 1.5, "count": np.arange(90)})
    problem_types = {
        name: run(tmp_path, frame, chain(("train_random_forest", {"target": name, "n_estimators": 5})))[0]["problem_type"]
        for name in ("grade", "price", "count")
    }
    assert problem_types == {"grade": "CLASSIFICATION", "price": "REGRESSION", "count": "REGRESSION"}


def test_a_link_that_shortens_the_way_changes_nothing(tmp_path: Path) -> None:
    definition = chain("scale", ("split", THIRD), "train_logistic_regression", "evaluate")
    before, _ = run(tmp_path, cancer(), definition, target="target")
    definition["links"] += [{"source": "split", "target": "evaluate"}, {"source": "dataset", "target": "split"}]
    after, _ = run(tmp_path, cancer(), definition, target="target")
    assert after["metrics"] == before["metrics"]


def dated(rows: int = 100) -> pl.DataFrame:
    return pl.DataFrame({"day": pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 12, 31), eager=True)[:rows], "x": np.arange(rows) % 17}).with_columns(
        y=pl.col("x") * 2.0 + 1
    ).sample(fraction=1.0, shuffle=True, seed=1)  # fmt: skip


def test_a_split_by_time_tests_on_the_newest_rows(tmp_path: Path) -> None:
    split = ("split", {"strategy": "time", "time_column": "day", "test_fraction": 0.25, "validation_fraction": 0.15})
    result, report = run(tmp_path, dated(), chain(split, "train_linear_regression", "cross_validate"), target="y")
    assert report.outputs["split"] == {"columns": 3, "strategy": "time", "train_rows": 60, "validation_rows": 15, "test_rows": 25}
    assert report.outputs["train_linear_regression"]["left_out"] == ["day"]
    assert report.outputs["cross_validate"]["strategy"] == "time"
    assert result["metrics"]["r2"] == pytest.approx(1.0)
    parts = split_parts(tmp_path, dated(), chain(split))
    newest = parts.group_by("split").agg(pl.col("day").min().alias("first"), pl.col("day").max().alias("last")).sort("first")
    assert newest["split"].to_list() == ["train", "validation", "test"]
    assert all(earlier < later for earlier, later in zip(newest["last"].to_list(), newest["first"].to_list()[1:], strict=False))


SMALL = pl.DataFrame({"x": np.arange(40.0), "z": np.arange(40.0) ** 2, "y": ["a", "b"] * 20, "n": [1.5] * 40})
TRAIN = "train_logistic_regression"


REFUSED: list[tuple[pl.DataFrame, list[Any], str | None, str, list[str], str]] = [
        (SMALL, [TRAIN], None, "NO_TARGET", ["2", "parameters", "target"], "Set one of them"),
        (SMALL, [(TRAIN, {"target": "Y"})], None, "UNKNOWN_COLUMN", ["2", "parameters", "target"], "the dataset does not have"),
        (SMALL.with_columns(x=None), [("impute", {}), TRAIN], "y", "WRONG_COLUMN_TYPE", ["3", "parameters"], "'x'"),
        (SMALL.with_columns(x=pl.lit(None, dtype=pl.Float64)), ["impute", TRAIN], "y", "ALL_MISSING", ["2", "parameters", "columns"], "fill it with a constant"),
        (SMALL.with_columns(x=pl.when(pl.col("x") > 3).then("x")), [TRAIN], "y", "MISSING_VALUES", ["2", "parameters"], "'x' has 4 missing values"),
        (SMALL.with_columns(t=pl.lit("text")), [TRAIN], "y", "NOT_ENCODED", ["2", "parameters"], "one_hot_encode"),
        (SMALL.with_columns(t=pl.date(2024, 1, 1)), [TRAIN], "y", "WRONG_COLUMN_TYPE", ["2", "parameters"], "exclude"),
        (SMALL.with_columns(x=pl.col("x").replace(5.0, math.inf)), [TRAIN], "y", "INFINITE_VALUES", ["2", "parameters"], "row 6 of the rows"),
        (SMALL.with_columns(y=pl.lit(None, dtype=pl.String)), [TRAIN], "y", "TARGET_MISSING", ["2", "parameters", "target"], "all 40 rows"),
        (SMALL.with_columns(y=pl.lit("a")), [TRAIN], "y", "ONE_CLASS", ["2", "parameters", "target"], "two classes"),
        (SMALL.with_columns(z=pl.col("z") + 0.5), [(TRAIN, {"target": "z"})], None, "CONTINUOUS_TARGET", ["2", "parameters", "target"], "regression step"),
        (SMALL, ["train_ridge_regression"], "y", "WRONG_COLUMN_TYPE", ["2", "parameters", "target"], "numeric target"),
        (SMALL[:5], [TRAIN], "y", "TOO_FEW_ROWS", ["2", "parameters"], "Add rows"),
        (SMALL, [("split", {"test_fraction": 0.93}), TRAIN], "y", "TOO_FEW_ROWS", ["2", "parameters", "test_fraction"], "40 rows split into 3"),
        (SMALL.with_columns(y=pl.col("y").replace({"b": "a"})).with_columns(y=pl.when(pl.col("x") == 0).then(pl.lit("c")).otherwise("y")),
         [("split", {"strategy": "stratified"}), TRAIN], "y", "RARE_CLASS", ["2", "parameters", "strategy"], "'c'"),
        (SMALL, [("split", {"strategy": "time"}), TRAIN], "y", "BAD_PARAMETER", ["2", "parameters", "time_column"], "time_column"),
        (SMALL, [("split", {"strategy": "time", "time_column": "y"}), (TRAIN, {})], "y", "WRONG_COLUMN_TYPE", ["2", "parameters", "time_column"], "a date"),
        (SMALL.with_columns(x=pl.when(pl.col("x") > 3).then("x")), [("split", {"strategy": "time", "time_column": "x"}), TRAIN], "y", "MISSING_VALUES",
         ["2", "parameters", "time_column"], "is_not_missing"),
        (SMALL, [("train_lightgbm", {"early_stopping_rounds": 5})], "y", "BAD_PARAMETER", ["2", "parameters", "early_stopping_rounds"], "validation_fraction"),
        (SMALL, [TRAIN, ("evaluate", {"part": "validation"})], "y", "NO_ROWS", ["3", "parameters", "part"], "validation_fraction"),
        (SMALL, [TRAIN, ("cross_validate", {"folds": 20})], "y", "TOO_FEW_ROWS", ["3", "parameters", "folds"], "at most 16"),
        (SMALL.drop("y"), ["train_k_means", "cross_validate"], None, "BAD_PARAMETER", ["3", "parameters"], "Remove the step"),
        (SMALL.drop("y"), [("train_k_means", {"n_clusters": 40})], None, "TOO_FEW_ROWS", ["2", "parameters"], "at least 41"),
        (SMALL, [("drop_columns", {"columns": ["y"]}), TRAIN], "y", "UNKNOWN_COLUMN", ["3", "parameters", "target"], "dropped"),
        (SMALL, [(TRAIN, {"exclude": ["x", "z", "n"]})], "y", "NO_COLUMNS", ["2", "parameters", "exclude"], "learn from"),
        (SMALL, [(TRAIN, {"exclude": ["y"]})], "y", "BAD_PARAMETER", ["2", "parameters", "exclude", "0"], "its target"),
        (SMALL, [("one_hot_encode", {"columns": ["y"]}), TRAIN], "y", "TARGET_TRANSFORMED", ["2", "parameters", "columns", "0"], "must not be transformed"),
    ]  # fmt: skip


@pytest.mark.parametrize(("frame", "steps", "target", "code", "path", "words"), REFUSED)
def test_data_that_do_not_suit_are_refused_with_the_place_and_the_way_out(
    tmp_path: Path, frame: pl.DataFrame, steps: list[Any], target: str | None, code: str, path: list[str], words: str
) -> None:
    definition = chain(*steps)
    node_index = str(int(path[0]) - 1)
    report = PipelineRecorder()
    error = pipeline_error(tmp_path, frame, definition, target=target, report=report)
    assert (error.code, error.path) == (code, ["definition", "nodes", node_index, *path[1:]])
    assert words in error.message
    failed = definition["nodes"][int(node_index)]["key"]
    assert report.errors[failed] == {"code": code, "message": error.message, "retryable": False}
    final_status = dict(report.nodes)
    assert final_status[failed] == "failed"
    assert set(final_status.values()) <= {"completed", "failed", "skipped"}


def test_too_many_values_are_refused_before_they_are_read(tmp_path: Path) -> None:
    error = pipeline_error(tmp_path, cancer(), chain("scale", "train_logistic_regression"), target="target", max_cells=10_000)
    assert error.code == "TOO_LARGE"
    assert "569 rows of 31 columns" in error.message
    run(
        tmp_path,
        cancer(),
        chain(("select_columns", {"columns": features()[:10]}), "scale", "train_logistic_regression"),
        target="target",
        max_cells=10_000,
    )


def test_an_encoding_that_would_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    frame = SMALL.with_columns(t=pl.int_range(40).cast(pl.String))
    error = pipeline_error(tmp_path, frame, chain("one_hot_encode", "train_logistic_regression"), target="y", max_cells=400)
    assert (error.code, error.path) == ("TOO_LARGE", ["definition", "nodes", "1", "parameters"])
