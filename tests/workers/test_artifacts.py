"""Artifacts of a training: a model file with a fixed list of trusted types, importances, plots and a card."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.exhaustive import exhaustive, sampled
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, run
from workers.ml.steps import STEPS

SKOPS: Any = LazyModule("skops.io")
MODEL_FILE: Any = LazyModule("workers.ml.artifacts.model_file")
PLOTS: Any = LazyModule("workers.ml.artifacts.plots")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
SIZE = 200
RNG = np.random.default_rng(11)
FRAME = pl.DataFrame({"a": RNG.normal(size=SIZE), "b": RNG.normal(size=SIZE), "kind": RNG.choice(["x", "y", "z"], SIZE)}).with_columns(
    label=pl.when(pl.col("a") + pl.col("kind").eq("x") > 0.3).then(pl.lit("yes")).otherwise(pl.lit("no")),
    amount=3 * pl.col("a") + pl.col("kind").eq("y").cast(pl.Float64),
)
TRAINERS = [
    key
    for key, step in STEPS.items()
    if step.trainer is not None and (step.trainer.requires is None or find_spec(step.trainer.requires) is not None)
]


def train(folder: Path, step: str, **options: Any) -> dict[str, Any]:
    definition = STEPS[step]
    regression = definition.problem_types == ("REGRESSION",)
    target = None if not definition.requires_target else "amount" if regression else "label"
    unused = {"label", "amount"} - {target}
    small = {"n_estimators": 10, "hidden_layers": [5], "eps": 2.0, "dimensions": 1}
    fewer = {name: value for name, value in small.items() if name in definition.parameters.model_fields}
    parameters = {**fewer, "exclude": sorted(unused), **({"target": target} if target else {}), **options}
    result, _ = run(folder, FRAME, chain("one_hot_encode", "scale", (step, parameters)))
    return dict(result)


@pytest.mark.parametrize("step", sampled(TRAINERS, 4))
def test_every_model_file_loads_with_the_documented_types_and_no_more(tmp_path: Path, step: str) -> None:
    path = artifact_path(train(tmp_path, step), "MODEL")
    assert set(SKOPS.get_untrusted_types(file=path)) <= set(TRUST.TRUSTED_TYPES)
    assert type(TRUST.load_model(path)).__name__ == "Pipeline"
    with zipfile.ZipFile(path) as archive:
        # XGBoost's own binary JSON is the only file of another format.
        suffixes = (".npy", ".bin") if step == "train_xgboost" else (".npy",)
        assert all(name == "schema.json" or name.endswith(suffixes) for name in archive.namelist())
        assert not any(content.startswith(b"\x80\x04") for content in (archive.read(name) for name in archive.namelist()))


KINDS, AMOUNTS, LABELS = (
    {"target": target, "exclude": sorted({"kind", "amount", "label"} - {target})} for target in ("kind", "amount", "label")
)
FEW: dict[str, Any] = {"n_estimators": 5}
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    exhaustive("train_random_forest", {**FEW, **AMOUNTS, "max_features": "all"}),
    ("train_random_forest", {**FEW, **KINDS, "class_weight": "balanced", "max_features": "log2", "max_depth": 3}),
    exhaustive("train_gradient_boosting", {**FEW, **AMOUNTS, "subsample": 0.5}),
    exhaustive("train_gradient_boosting", {**FEW, **KINDS}),
    exhaustive("train_gradient_boosting", {**FEW, **LABELS, "subsample": 0.5}),
    exhaustive("train_lightgbm", {**FEW, **AMOUNTS, "subsample": 0.5}),
    ("train_lightgbm", {**FEW, **KINDS, "class_weight": "balanced"}),
    ("train_logistic_regression", {**KINDS, "class_weight": "balanced"}),
    exhaustive("train_linear_regression", {**AMOUNTS, "fit_intercept": False}),
    exhaustive("train_ridge_regression", {**AMOUNTS, "fit_intercept": False}),
    exhaustive("train_elastic_net", {**AMOUNTS, "fit_intercept": False, "l1_ratio": 1}),
    exhaustive("train_extra_trees", {**FEW, **KINDS, "class_weight": "balanced", "bootstrap": True}),
    exhaustive("train_extra_trees", {**FEW, **AMOUNTS}),
    exhaustive("train_xgboost", {**FEW, **KINDS, "subsample": 0.5}),
    exhaustive("train_xgboost", {**FEW, **AMOUNTS}),
    exhaustive("train_svm", {**KINDS, "class_weight": "balanced", "kernel": "poly"}),
    exhaustive("train_svm", {**AMOUNTS, "gamma": 0.5}),
    exhaustive("train_k_nearest_neighbors", {**KINDS, "weights": "distance", "metric": "manhattan"}),
    exhaustive("train_k_nearest_neighbors", {**AMOUNTS, "metric": "cosine"}),
    exhaustive("train_mlp", {**KINDS, "hidden_layers": [4, 3], "activation": "logistic", "max_iter": 5}),
    exhaustive("train_mlp", {**AMOUNTS, "layers": 2, "width": 4, "batch_size": 500, "activation": "tanh", "max_iter": 5}),
    ("prepare", {"scale": True, "fill": "mean"}),
    exhaustive("log_transform", {"columns": ["a"], "method": "asinh"}),
    exhaustive("log_transform", {"columns": ["a"], "method": "yeo_johnson"}),
    ("bin_numbers", {"columns": ["a", "b"], "encode": "one_hot"}),
    exhaustive("impute", {"strategy": "mean", "columns": ["a"]}),
    exhaustive("impute", {"strategy": "median", "columns": ["a"]}),
    exhaustive("impute", {"strategy": "most_frequent"}),
    ("impute", {"strategy": "constant", "fill_value": "none", "columns": ["kind"]}),
    exhaustive("scale", {"method": "minmax"}),
    ("scale", {"method": "robust"}),
    ("one_hot_encode", {"max_categories": 2}),
    exhaustive("ordinal_encode", {}),
]


@pytest.mark.parametrize(("step", "options"), OPTIONS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_model_made_with_any_option_can_be_loaded(tmp_path: Path, step: str, options: dict[str, Any]) -> None:
    """The list of types is fixed, so an option that puts another type into the model would fail each training that uses it."""
    last: Any = (step, options) if step.startswith("train_") else ("train_logistic_regression", {**LABELS, "exclude": ["amount"]})
    encoder: list[Any] = [] if "encode" in step or step == "prepare" or last[1]["target"] == "kind" else ["one_hot_encode"]
    transforms: list[Any] = [] if step.startswith("train_") else [(step, options)]
    result, _ = run(tmp_path, FRAME, chain(*transforms, *encoder, last))
    assert type(TRUST.load_model(artifact_path(dict(result), "MODEL"))).__name__ == "Pipeline"


@pytest.mark.exhaustive
def test_the_list_of_trusted_types_holds_none_that_no_model_needs(tmp_path: Path) -> None:
    found_types: set[str] = set()
    trainings: list[tuple[str, dict[str, Any]]] = [
        ("train_random_forest", {}),
        ("train_lightgbm", {}),
        ("train_lightgbm", {"target": "amount", "exclude": ["label"]}),
        ("train_xgboost", {}),
        ("train_xgboost", {"target": "amount", "exclude": ["label"]}),
        ("train_svm", {}),
    ]
    for number, (step, options) in enumerate(trainings):
        folder = tmp_path / str(number)
        folder.mkdir()
        found_types |= set(SKOPS.get_untrusted_types(file=artifact_path(train(folder, step, **options), "MODEL")))
    encoders: list[tuple[str, dict[str, Any]]] = [("tfidf_text", {"columns": ["kind"], "analyzer": "characters"}), ("target_encode", {})]
    for number, encoder in enumerate(encoders):
        folder = tmp_path / f"encoder {number}"
        folder.mkdir()
        result, _ = run(folder, FRAME, chain(encoder, ("train_naive_bayes", {"target": "label", "exclude": ["amount"]})))
        found_types |= set(SKOPS.get_untrusted_types(file=artifact_path(dict(result), "MODEL")))
    # A convolutional network is trained only where torch is installed.
    of_networks = {name for name in TRUST.TRUSTED_TYPES if name.startswith("workers.ml.convolution.")}
    assert found_types == set(TRUST.TRUSTED_TYPES) - of_networks


def _check_default_types(theirs: dict[str, list[str]]) -> None:
    """What we trust by default, skops trusts too: else users, whose skops has its own list, could not load a model with the code of its card."""
    ours = {name: value for name, value in vars(TRUST.default_types()).items() if "_NAMES" in name}
    assert ours.keys() == theirs.keys()
    assert {name: set(value) - set(theirs[name]) for name, value in ours.items()} == {name: set() for name in ours}


def test_a_file_with_any_other_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(MODEL_FILE.canonical_archive(SKOPS.dumps({"model": pickle.Unpickler})))
    with pytest.raises(SKOPS.exceptions.UntrustedTypesFoundException):
        TRUST.load_model(path)


@pytest.mark.exhaustive
def test_the_card_tells_how_to_predict_and_its_code_runs(tmp_path: Path) -> None:
    result = train(tmp_path, "train_lightgbm")
    card = artifact_path(result, "MODEL_CARD").read_text()
    for name, value in result["metrics"].items():
        assert f"| `{name}` | {value:.6g} |" in card
    for package, version in result["versions"].items():
        assert f"| {package} | {version} |" in card
    for section in ("Data", "Metrics", "Hyperparameters", "Steps", "Features", "Use", "Limits", "Versions and seed"):
        assert f"\n## {section}\n" in card
    assert "| dataset | a dataset |" in card
    assert "Seed 7" in card
    assert "No split step: 20% of the rows are held out" in card
    assert (
        re.search(r"^ ", re.sub(r"```.*?```", "", card, flags=re.DOTALL), re.MULTILINE) is None
    )  # what is indented would be shown as code
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    folder = artifact_path(result, "MODEL").parent
    FRAME.write_parquet(folder / "data.parquet")
    types = "import json, skops.io._trusted_types as types; print(json.dumps({name: value for name, value in vars(types).items() if '_NAMES' in name}))"
    command = [sys.executable, "-c", f"{code[1]}\n{types}"]
    completed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    _check_default_types(json.loads(completed.stdout.splitlines()[-1]))
    assert (
        re.findall(r"'(yes|no)'", completed.stdout)[:3]
        == TRUST.load_model(artifact_path(result, "MODEL")).predict(FRAME.select("a", "b", "kind")).tolist()[:3]
    )


def run_card(card: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the code of the card here, and return its variables: one test runs it in a process of its own."""
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(folder)
    variables: dict[str, Any] = {}
    exec(code[1], variables)
    return variables


@pytest.mark.exhaustive
def test_the_code_of_the_card_takes_dates_apart_as_the_training_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model tells rows apart by their dates alone; `when_year` is a column of the dataset as well, so that the part has another name."""
    start = datetime(2024, 1, 1, 6, 30)
    frame = pl.DataFrame({"when": [start + timedelta(days=row, hours=row % 12) for row in range(120)]}).with_columns(
        pl.col("when").dt.date().alias("day"), pl.lit("never").alias("when_year"), pl.col("when").dt.hour().alias("label") < 12
    )
    steps = [("decompose_dates", {}), ("drop_columns", {"columns": ["when_year"]}), "train_random_forest"]
    result, _ = run(tmp_path, frame, chain(*steps), target="label", problem="CLASSIFICATION")
    inputs = json.loads(artifact_path(result, "SIGNATURE").read_text())["inputs"]
    assert inputs[0] == {
        "name": "when_year_2",
        "kind": "number",
        "type": "INTEGER",
        "nullable": True,
        "from": {"column": "when", "part": "year"},
    }
    parts = {name: ["year", "month", "day", "weekday", *more] for name, more in (("when", ["hour", "minute"]), ("day", []))}
    assert [column["from"] for column in inputs] == [{"column": name, "part": part} for name in parts for part in parts[name]]
    card = artifact_path(result, "MODEL_CARD").read_text()
    assert "| `when_hour` | INTEGER, the hour of `when` |" in card
    folder = artifact_path(result, "MODEL").parent
    frame.write_parquet(folder / "data.parquet")
    variables = run_card(card, folder, monkeypatch)
    assert (variables["model"].predict(variables["rows"]) == frame["label"].to_numpy()).mean() > 0.95


@pytest.mark.exhaustive
def test_the_code_of_the_card_passes_durations_and_times_of_day_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"row": range(120)}).select(
        pl.duration(milliseconds=1_500 * pl.col("row")).alias("took"),
        pl.time(pl.col("row") % 24, 30).alias("at"),
        label=pl.col("row") % 24 < 12,
    )
    result, _ = run(tmp_path, frame, chain("train_random_forest"), target="label", problem="CLASSIFICATION")
    folder = artifact_path(result, "MODEL").parent
    frame.write_parquet(folder / "data.parquet")
    variables = run_card(artifact_path(result, "MODEL_CARD").read_text(), folder, monkeypatch)
    assert variables["rows"].head(2).rows() == [(0.0, 1800.0), (1.5, 5400.0)]
    assert (variables["model"].predict(variables["rows"]) == frame["label"].to_numpy()).mean() > 0.95


def test_names_cannot_act_as_markup_in_the_card(tmp_path: Path) -> None:
    frame = FRAME.rename({"a": "a|b`<script>"}).select("a|b`<script>", "b", "label")
    result, _ = run(tmp_path, frame, chain("train_logistic_regression"), target="label")
    lines = artifact_path(result, "MODEL_CARD").read_text().splitlines()
    assert r"| `a\|b'<script>` | FLOAT |" in lines


def test_the_importance_finds_the_columns_that_matter_and_adds_up(tmp_path: Path) -> None:
    for step in ("train_random_forest", "train_logistic_regression", "train_lightgbm"):
        folder = tmp_path / step
        folder.mkdir()
        importance = json.loads(artifact_path(train(folder, step), "FEATURE_IMPORTANCE").read_text())
        assert importance["columns"][0]["name"] == "a"
        assert sum(row["importance"] for row in importance["columns"]) == pytest.approx(1)
        assert sum(row["importance"] for row in importance["features"]) == pytest.approx(1)
        assert {row["name"] for row in importance["features"]} == {"a", "b", "kind_x", "kind_y", "kind_z"}


def test_the_signature_names_inputs_and_classes(tmp_path: Path) -> None:
    signature = json.loads(artifact_path(train(tmp_path, "train_logistic_regression"), "SIGNATURE").read_text())
    assert signature["inputs"] == [
        {"name": "a", "kind": "number", "type": "FLOAT", "nullable": False},
        {"name": "b", "kind": "number", "type": "FLOAT", "nullable": False},
        {"name": "kind", "kind": "text", "type": "STRING", "nullable": True},
    ]
    assert signature["output"] == {"problem_type": "CLASSIFICATION", "target": "label", "classes": ["no", "yes"]}


@pytest.mark.parametrize(
    ("step", "roles"),
    [
        exhaustive("train_logistic_regression", {"FEATURE_IMPORTANCE", "FEATURE_IMPORTANCE_PLOT", "CONFUSION_MATRIX"}),
        ("train_ridge_regression", {"FEATURE_IMPORTANCE", "FEATURE_IMPORTANCE_PLOT", "RESIDUAL_PLOT"}),
        ("train_k_means", {"CLUSTER_PLOT"}),
    ],
)
def test_each_kind_of_problem_has_its_artifacts(tmp_path: Path, step: str, roles: set[str]) -> None:
    result = train(tmp_path, step)
    assert {entry["role"] for entry in result["artifacts"]} == roles | {"MODEL", "SIGNATURE", "MODEL_CARD", "RESULTS"}
    for entry in result["artifacts"]:
        content = Path(entry["path"]).read_bytes()
        assert content
        assert (entry["content_type"] == "image/png") == content.startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("step", ["train_logistic_regression", exhaustive("train_ridge_regression"), exhaustive("train_k_means")])
def test_the_results_are_the_rows_that_were_measured(tmp_path: Path, step: str) -> None:
    result = train(tmp_path, step)
    table = pq.read_table(artifact_path(result, "RESULTS"))
    summary = json.loads(table.schema.metadata[b"trellis"])
    supervised = step != "train_k_means"
    assert summary == {"part": "test" if supervised else "train", "rows": table.num_rows, "metrics": result["metrics"]}
    target = result["config"]["target"]
    if step == "train_logistic_regression":
        assert table.column_names == ["a", "b", "kind", "label", "prediction", "probability_no", "probability_yes"]
        right = np.array(table["label"].to_pylist()) == np.array(table["prediction"].to_pylist())
        assert right.mean() == pytest.approx(result["metrics"]["accuracy"])
    elif supervised:
        differences = np.array(table[target]) - np.array(table["prediction"])
        assert np.sqrt((differences**2).mean()) == pytest.approx(result["metrics"]["rmse"])
    else:
        assert target is None
        assert table.column_names[-2:] == ["prediction", "distance"]
    assert (result["config"]["step"], result["architecture"], result["network"]) == (step, None, None)


def test_plots_bear_awkward_data(tmp_path: Path) -> None:
    long = [{"name": f"{'$price_' * 20}{number}", "importance": 0.0} for number in range(50)]
    PLOTS.plot_importance({"columns": long, "method": "split gain"}, tmp_path / "a.png")
    labels = np.array([f"class number {number}" for number in range(60)])
    PLOTS.plot_confusion(labels, labels[::-1], tmp_path / "b.png", "test rows")
    PLOTS.plot_residuals(np.zeros(3), np.zeros(3), tmp_path / "c.png", "test rows", "$y")
    PLOTS.plot_clusters(np.ones((20, 1)), np.arange(20), tmp_path / "d.png", "all rows")
    PLOTS.plot_clusters(np.ones((20, 3)), np.zeros(20, dtype=int), tmp_path / "e.png", "all rows")
    PLOTS.plot_residuals(np.array([1e300, -1e300]), np.array([0.0, 1e-300]), tmp_path / "f.png", "test rows", "y" * 300)
    for name in "abcdef":
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("L"))
        assert 300 < min(pixels.shape) <= max(pixels.shape) < 3_000
        assert 0.003 < (pixels < 250).mean() < 0.7, "neither empty nor full"
        assert pixels[:3].min() == pixels[-3:].min() == 255, "nothing is cut off above or below"


def test_the_same_values_make_the_same_plot(tmp_path: Path) -> None:
    """Each value has its place: the matrix is dark on its diagonal alone, and a longer bar is the one of the larger share."""
    labels = np.array(["a", "b", "c"] * 20)
    for name in ("one", "two"):
        PLOTS.plot_confusion(labels, labels, tmp_path / f"{name}.png", "test rows")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        pixels = np.asarray(image.convert("L"))
    dark_rows, dark_columns = np.nonzero(pixels < 60)
    assert np.corrcoef(dark_rows, dark_columns)[0, 1] > 0.6
    columns = [{"name": "large", "importance": 0.75}, {"name": "small", "importance": 0.25}]
    PLOTS.plot_importance({"columns": columns, "method": "split gain"}, tmp_path / "bars.png")
    with Image.open(tmp_path / "bars.png") as image:
        blue = (np.asarray(image.convert("RGB"), dtype=int) == (42, 111, 151)).all(axis=2).sum(axis=1)
    lengths = sorted(set(blue[blue > 0].tolist()))
    assert lengths[-1] / lengths[0] == pytest.approx(3, rel=0.02)


def test_a_loss_is_the_one_of_sklearn() -> None:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import log_loss, mean_squared_error

    from workers.ml.scoring import loss

    rng = np.random.default_rng(7)
    matrix = np.vstack([rng.normal(size=(300, 4)), rng.normal(size=(30, 4)) * 1e4])
    for truth in (rng.choice(["x", "y", "z"], 330), rng.integers(0, 2, 330).astype(bool), matrix[:, 0] > 0):
        model = LogisticRegression(max_iter=2_000).fit(matrix, truth)
        assert loss(model, matrix, truth) == pytest.approx(log_loss(truth, model.predict_proba(matrix), labels=model.classes_), rel=1e-12)
    ridge = Ridge().fit(matrix, matrix[:, 1] + 1)
    assert loss(ridge, matrix, matrix[:, 1]) == pytest.approx(mean_squared_error(matrix[:, 1], ridge.predict(matrix)), rel=1e-12)
