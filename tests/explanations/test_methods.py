"""Each method tells what its definition says, compared with an independent computation on the same model and rows."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import image_of, zip_of
from tests.client import Client
from tests.explanations.explaining import EXPLANATION, create, explain, sizes
from tests.exports.test_exporting_steps import branches
from tests.lazy_module import LazyModule
from tests.predictions.predicting import load_model, train

INSPECTION: Any = LazyModule("sklearn.inspection")
ENCODE = ("encode", "one_hot_encode", {})
PNG = b"\x89PNG\r\n"


def table(rows: int = 120) -> pl.DataFrame:
    """`size` and `colour` decide `price`; `noise` does not."""
    random = np.random.default_rng(5)
    size, noise = random.normal(size=rows).round(3), random.normal(size=rows).round(3)
    colour = np.array(["red", "green", "blue"])[random.integers(0, 3, rows)]
    day = [f"2024-{number % 12 + 1:02}-{number % 28 + 1:02}" for number in range(rows)]
    price = (4 * size + np.where(colour == "red", 3.0, 0.0) + 0.01 * noise).round(4)
    return pl.DataFrame(
        {"size": size, "noise": noise, "colour": colour, "day": day, "price": price, "dear": np.where(price > 1, "yes", "no")}
    )


def matrix_of(explanation: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """Contributions rows × features, and the only output."""
    (output,) = explanation["data"]["outputs"]
    return np.array(output["contributions"]), output


@pytest.mark.exhaustive
async def test_linear_permutation_and_partial_dependence_agree_with_their_definitions(ada: Client, worker: object) -> None:
    version = await ada.ingest("prices", table().write_csv())
    drop = ("drop", "drop_columns", {"columns": ["day", "dear"]})
    model = await train(ada, version, drop, ("scale", "scale", {}), ENCODE, ("train", "train_ridge_regression", {"target": "price"}))
    pipeline = await load_model(ada, model)

    linear = await explain(ada, model, "LINEAR")
    contributions, output = matrix_of(linear)
    data = linear["data"]
    assert (data["features"], data["scale"], data["rows"], linear["datasetVersion"]) == (["size", "noise", "colour"], "value", 24, None)
    frame = pl.DataFrame({name: data["values"][name] for name in data["features"]})
    transformed = pipeline["features"].transform(frame)
    expected = pipeline["model"].coef_ * (transformed - transformed.mean(axis=0))
    by_column = np.column_stack([expected[:, 0], expected[:, 1], expected[:, 2:].sum(axis=1)])
    assert contributions == pytest.approx(by_column, abs=1e-9)
    assert output["baseValue"] + contributions.sum(axis=1) == pytest.approx(pipeline.predict(frame), abs=1e-9)
    assert data["predicted"] == pytest.approx(pipeline.predict(frame).tolist())
    assert linear["additivityError"] < 1e-9
    (first, second, third) = linear["attributions"]
    assert [each["feature"] for each in (first, second, third)] == ["size", "colour", "noise"]
    assert first == {
        "feature": "size",
        "meanAbsolute": pytest.approx(float(np.abs(by_column[:, 0]).mean())),
        "mean": pytest.approx(0, abs=1e-9),
        "standardDeviation": pytest.approx(float(by_column[:, 0].std())),
        "classLabel": None,
    }
    assert [plot["role"] for plot in linear["plots"]] == ["BAR_PLOT", "BEESWARM_PLOT", "DEPENDENCE_PLOT", "DEPENDENCE_PLOT"]
    assert (await ada.download(linear["plots"][1])).startswith(PNG)

    permuted = await explain(ada, model, "PERMUTATION", datasetVersionId=version, seed=3)
    document = permuted["data"]
    assert (document["metric"], document["rows"], permuted["datasetVersion"]) == ("rmse", 120, {"id": version})
    whole = table()
    truth = whole["price"].to_numpy()
    error = float(np.sqrt(np.square(pipeline.predict(whole) - truth).mean()))
    assert document["score"] == pytest.approx(error)
    assert list(sizes(permuted)) == ["size", "colour", "noise"]
    assert sizes(permuted)["size"] > 3 > sizes(permuted)["colour"] > 0.5 > 0.05 > sizes(permuted)["noise"]
    order = np.random.default_rng([3, 2]).permutation(120)
    permuted_colour = pipeline.predict(whole.with_columns(pl.Series("colour", whole["colour"].to_numpy()[order])))
    assert document["losses"][2][0] == pytest.approx(float(np.sqrt(np.square(permuted_colour - truth).mean())) - error)

    curves = await explain(ada, model, "PARTIAL_DEPENDENCE", datasetVersionId=version, features=["size", "colour"])
    assert [curve["feature"] for curve in curves["data"]["curves"]] == ["size", "colour"]
    for curve in curves["data"]["curves"]:
        found = INSPECTION.partial_dependence(
            pipeline,
            whole.select("size", "noise", "colour").to_pandas(),
            [curve["feature"]],
            kind="both",
            custom_values={curve["feature"]: np.array(curve["values"])},
            categorical_features=["colour"],
        )
        (shown,) = curve["outputs"]
        assert shown["mean"] == pytest.approx(found["average"][0].tolist())
        assert len(shown["individual"]) == 50
        assert {round(line[0], 6) for line in shown["individual"]} <= {round(value, 6) for value in found["individual"][0][:, 0].tolist()}
    assert sizes(curves).keys() == {"size", "colour"}
    assert [plot["role"] for plot in curves["plots"]] == ["PARTIAL_DEPENDENCE_PLOT"]


async def test_tree_shap_sums_up_to_the_log_odds_and_puts_the_parts_of_a_column_together(ada: Client, worker: object) -> None:
    version = await ada.ingest("prices", table(200).write_csv())
    steps = (
        ("dates", "decompose_dates", {"columns": ["day"], "parts": ["month", "day"]}),
        ("drop", "drop_columns", {"columns": ["price"]}),
        ENCODE,
    )
    model = await train(ada, version, *steps, ("train", "train_lightgbm", {"target": "dear", "n_estimators": 20, "min_child_samples": 5}))
    shap = await explain(ada, model, "TREE_SHAP", datasetVersionId=version, maxRows=50)
    contributions, output = matrix_of(shap)
    data = shap["data"]
    assert (data["features"], data["scale"], output["classLabel"]) == (["size", "noise", "colour", "day"], "log-odds", "yes")
    assert (data["rows"], data["rowsInAll"], sorted(data["values"])) == (50, 200, ["colour", "noise", "size"])
    pipeline = await load_model(ada, model)
    chosen = np.sort(np.random.default_rng(0).choice(200, 50, replace=False))
    rows = table(200)[chosen].with_columns(pl.col("day").str.to_date())
    frame = rows.with_columns(day_month=pl.col("day").dt.month(), day_day=pl.col("day").dt.day())
    names = [each for _, _, members in pipeline["features"].transformers_ for each in members]
    transformed = pipeline["features"].transform(frame.select(list(dict.fromkeys(names))))
    booster = pipeline["model"].booster_
    assert output["baseValue"] + contributions.sum(axis=1) == pytest.approx(booster.predict(transformed, raw_score=True), abs=1e-9)
    raw = booster.predict(transformed, pred_contrib=True)
    outputs = [str(name).split("__")[-1] for name in pipeline["features"].get_feature_names_out()]
    assert contributions[:, 3] == pytest.approx(
        raw[:, [index for index, name in enumerate(outputs) if name.startswith("day_")]].sum(axis=1)
    )
    assert contributions[:, 2] == pytest.approx(
        raw[:, [index for index, name in enumerate(outputs) if name.startswith("colour")]].sum(axis=1)
    )
    assert shap["additivityError"] < 1e-9

    other = await explain(
        ada, model, "TREE_SHAP", rows=[{"size": 3, "noise": 0, "colour": "red", "day": "2024-05-01"}], classLabel="no", features=["size"]
    )
    opposite, output = matrix_of(other)
    assert (other["data"]["features"], output["classLabel"], other["data"]["predicted"]) == (["size"], "no", ["yes"])
    assert opposite[0, 0] < 0
    assert [(each["classLabel"], each["standardDeviation"]) for each in other["attributions"]] == [("no", None)]
    assert [plot["role"] for plot in other["plots"]] == ["BAR_PLOT"]


NETWORK = """query($id: ID!) { job(id: $id) { nodes { key output } run {
  architecture { definition hash parameterCount flops sizeBytes } modelVersion { id architecture explanations { edges { node { id method } } } } } } }"""


@pytest.mark.exhaustive
async def test_a_neural_network_tells_its_architecture_and_integrated_gradients_sum_up_to_its_log_odds(ada: Client, worker: object) -> None:
    version = await ada.ingest("prices", table().write_csv())
    network = {"target": "dear", "layers": 2, "width": 8, "activation": "tanh", "learning_rate_init": 0.02, "max_iter": 40}
    chain = [("data", "dataset", {}), ("drop", "drop_columns", {"columns": ["day", "price"]}), ENCODE, ("train", "train_mlp", network)]
    pipeline = (await branches(ada, "p", chain, ("why", "explain", {})))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version, seed=1)
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    job = await ada.one(NETWORK, id=started["job"]["id"])
    assert {node["key"]: node["output"] for node in job["nodes"]}["why"] == {"method": "INTEGRATED_GRADIENTS", "rows": 24}
    inputs = 5  # two numbers and three colours
    parameters = (inputs + 1) * 8 + 9 * 8 + 9
    assert job["run"]["architecture"] == {
        "definition": {"type": "perceptron", "hidden": [8, 8], "activation": "tanh"},
        "hash": hashlib.sha256(b'{"activation":"tanh","hidden":[8,8],"type":"perceptron"}').hexdigest(),
        "parameterCount": parameters,
        "flops": 2 * (inputs * 8 + 8 * 8 + 8),
        "sizeBytes": 8 * parameters,
    }
    model = job["run"]["modelVersion"]
    assert model["architecture"] == "5-8-8-1 tanh"
    (made,) = (edge["node"] for edge in model["explanations"]["edges"])
    told = await ada.one(EXPLANATION, id=made["id"])
    contributions, output = matrix_of(told)
    data = told["data"]
    assert (told["method"], data["scale"], data["features"], output["classLabel"]) == (
        "INTEGRATED_GRADIENTS",
        "log-odds",
        ["size", "noise", "colour"],
        "yes",
    )
    probabilities = (await load_model(ada, model["id"])).predict_proba(pl.DataFrame(data["values"]))[:, 1]
    assert output["baseValue"] + contributions.sum(axis=1) == pytest.approx(np.log(probabilities / (1 - probabilities)), abs=1e-6)
    assert told["additivityError"] < 1e-9
    assert next(iter(sizes(told))) == "size"
    assert [plot["role"] for plot in told["plots"]] == ["BAR_PLOT", "BEESWARM_PLOT", "DEPENDENCE_PLOT", "DEPENDENCE_PLOT"]

    one = await explain(ada, model["id"], "INTEGRATED_GRADIENTS", rows=[{"size": 3, "noise": 0, "colour": "red"}], classLabel="no")
    opposite, output = matrix_of(one)
    assert (output["classLabel"], one["data"]["predicted"], one["additivityError"] < 1e-9) == ("no", ["yes"], True)
    assert opposite[0, 0] < 0
    refused = await create(ada, model["id"], "LINEAR")
    assert refused["message"] == "LINEAR explains linear models, and p v1 is of MLPClassifier. Use INTEGRATED_GRADIENTS."


def bright(corner: int, seed: int) -> bytes:
    """A dark image of 24×24 pixels with noise, bright in one corner, from 0 at the upper left to 3."""
    pixels = np.random.default_rng(seed).integers(0, 60, (24, 24)).astype(np.uint8)
    top, left = corner // 2 * 16, corner % 2 * 16
    pixels[top : top + 8, left : left + 8] = 220
    return image_of(pixels)


@pytest.mark.exhaustive  # tests/workers/test_explaining.py has one of a signal
async def test_occlusion_finds_the_part_of_an_image_that_decides(ada: Client, worker: object) -> None:
    files = {f"{'ab'[number % 2]}/{number:02}.png": bright(3 * (number % 2), number) for number in range(24)}
    version = await ada.ingest("corners", zip_of(files), "corners.zip", modality="IMAGE")
    drop = ("drop", "drop_columns", {"columns": ["key", "width", "height", "brightness", "contrast", "sharpness"]})
    reading = (("resize", "resize_image", {"width": 6, "height": 6}), ("read", "image_pixels", {}))
    model = await train(ada, version, drop, *reading, ("train", "train_logistic_regression", {"target": "label"}), modality="IMAGE")
    query = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { items(last: 2) { edges { node { id key } } } } } }"
    item = (await ada.one(query, id=version))["items"]["edges"][0]["node"]
    found = await explain(ada, model, "OCCLUSION", itemId=item["id"])
    data = found["data"]
    assert (item["key"], data["classLabel"], found["item"], found["datasetVersion"]) == (
        "b/21.png",
        "b",
        {"id": item["id"]},
        {"id": version},
    )
    effects = np.array(data["effects"])
    row, column = np.unravel_index(effects.argmax(), effects.shape)
    top, left = data["y"][row], data["x"][column]
    assert (effects.shape, top >= 16, left >= 16) == ((12, 12), True, True)
    assert found["attributions"][0]["feature"] == f"x {left}–{left + 1}, y {top}–{top + 1}"
    assert [plot["role"] for plot in found["plots"]] == ["OCCLUSION_PLOT"]
    assert (await ada.download(found["plots"][0])).startswith(PNG)
    listed = await ada.one(
        "query($id: ID!) { node(id: $id) { ... on DatasetItem { explanations { edges { node { id } } } } } }", id=item["id"]
    )
    assert [edge["node"]["id"] for edge in listed["explanations"]["edges"]] == [found["id"]]
