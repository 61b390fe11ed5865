"""Running pipelines: training ones create a run and a model version, others a dataset version."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import platform
from importlib.metadata import version as version_of
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from sqlalchemy import select

from db.core.work import Database
from db.queries.artifacts import PROCESSED
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import Artifact, StoredObject
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule

DATASETS: Any = LazyModule("sklearn.datasets")
SKOPS: Any = LazyModule("skops.io")
TRUST: Any = LazyModule("workers.ml.artifacts.trust")
RUN = """query($id: ID!) { run(id: $id) { number status seed hyperparameters config startedAt completedAt duration owner { username } experiment { name }
  metrics { key last lastStep min max count } metricHistory { key totalPoints points { step value } }
  job { id kind status progress attempt nodes { key step status progress output } outputs { __typename } config { role filename sha256 downloadUrl } }
  modelVersion { number algorithm architecture config framework seed packages problemType hyperparameters isProduction model { name latestVersion { number } }
    metrics { key last } snapshot { sha256 definition { nodes { key parameters } } } datasetVersion { number }
    artifacts { role filename contentType sizeBytes sha256 downloadUrl } } } }"""


def breast_cancer() -> pl.DataFrame:
    bunch = DATASETS.load_breast_cancer()
    table = pl.DataFrame(bunch.data, schema=[str(name) for name in bunch.feature_names])
    return table.with_columns(target=pl.Series(np.where(bunch.target == 1, "benign", "malignant")))


def load(content: bytes) -> Any:
    """The model in a file."""
    return SKOPS.loads(content, trusted=list(TRUST.TRUSTED_TYPES))


def steps(estimator: str, **parameters: Any) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("data", "dataset", {}),
        ("split", "split", {"strategy": "stratified", "test_fraction": 0.3}),
        ("scale", "scale", {}),
        ("train", f"train_{estimator}", {"target": "target", **parameters}),
        ("evaluate", "evaluate", {}),
    ]


@pytest.mark.parametrize("estimator", ["lightgbm", *map(exhaustive, ("logistic_regression", "random_forest", "gradient_boosting"))])
async def test_a_classifier_learns_breast_cancer_and_its_model_predicts_what_the_run_reported(
    ada: Client, worker: object, estimator: str
) -> None:
    table = breast_cancer()
    version = await ada.ingest("breast cancer", table.write_csv())
    pipeline = (await ada.create_pipeline(estimator, *steps(estimator)))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version, seed=7)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    run = await ada.one(RUN, id=started["run"]["id"])
    metrics = {metric["key"]: metric["last"] for metric in run["metrics"]}
    assert metrics["accuracy"] >= 0.93
    artifacts = {artifact["role"]: artifact for artifact in run["modelVersion"]["artifacts"]}
    content = httpx.get(artifacts["MODEL"]["downloadUrl"], verify=False).content
    assert (len(content), hashlib.sha256(content).hexdigest()) == (artifacts["MODEL"]["sizeBytes"], artifacts["MODEL"]["sha256"])
    # The run's split is drawn again from what the split node says of it; the accuracy over all rows is computed by hand.
    predicted = np.asarray(load(content).predict(table.drop("target").to_pandas()))
    assert set(predicted) <= {"benign", "malignant"}
    accuracy = float((predicted == table["target"].to_numpy()).mean())
    assert accuracy >= 0.93
    held_out = round(metrics["accuracy"] * 171)
    assert abs(metrics["accuracy"] * 171 - held_out) < 1e-6, "the accuracy is one of 171 held-out rows"
    assert accuracy * 569 <= held_out + 398 + 1e-6, "no more rows are right than the run's test and all of its training rows"


@pytest.mark.exhaustive
@pytest.mark.parametrize("estimator", ["random_forest", "logistic_regression", "gradient_boosting", "lightgbm"])
async def test_the_downloaded_model_scores_on_the_held_out_rows_exactly_what_the_run_reported(
    ada: Client, worker: object, estimator: str
) -> None:
    table = breast_cancer().sample(fraction=1, shuffle=True, seed=5).with_row_index("order")
    version = await ada.ingest("ordered", table.write_csv())
    held_out = table.tail(171)  # by time, the newest 30 % are the test
    chain = (
        ("data", "dataset", {}),
        ("split", "split", {"strategy": "time", "time_column": "order", "test_fraction": 0.3}),
        ("scale", "scale", {}),
        ("train", f"train_{estimator}", {"target": "target", "exclude": ["order"]}),
    )
    started = await ada.run_pipeline((await ada.create_pipeline(estimator, *chain))["pipeline"]["id"], version, seed=7)
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    run = await ada.one(RUN, id=started["run"]["id"])
    reported = next(metric["last"] for metric in run["metrics"] if metric["key"] == "accuracy")
    url = next(artifact["downloadUrl"] for artifact in run["modelVersion"]["artifacts"] if artifact["role"] == "MODEL")
    predicted = np.asarray(load(httpx.get(url, verify=False).content).predict(held_out.drop("target").to_pandas()))
    assert float((predicted == held_out["target"].to_numpy()).mean()) == reported


async def test_a_run_tells_its_whole_story(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", breast_cancer().write_csv())
    experiment = (
        await ada.one('mutation { createExperiment(input: {name: "E"}) { ... on CreateExperimentPayload { experiment { id } } } }')
    )["experiment"]["id"]
    pipeline = (await ada.create_pipeline("p", *steps("lightgbm")))["pipeline"]["id"]
    started = await ada.run_pipeline(
        pipeline, version, seed=3, experimentId=experiment, modelName="tumours", parameters={"train": {"n_estimators": 30}}
    )
    assert started["job"]["kind"] == "TRAIN"
    await ada.wait(started["job"]["id"])
    run = await ada.one(RUN, id=started["run"]["id"])
    assert (run["number"], run["status"], run["seed"], run["experiment"]["name"], run["owner"]["username"]) == (
        1,
        "COMPLETED",
        3,
        "E",
        "ada",
    )
    assert run["hyperparameters"]["n_estimators"] == 30
    assert [node["key"] for node in run["job"]["nodes"]] == ["data", "split", "scale", "train", "evaluate"]
    assert {node["status"] for node in run["job"]["nodes"]} == {"COMPLETED"}
    assert run["job"]["outputs"] == [{"__typename": "ModelVersion"}]
    history = {series["key"]: series for series in run["metricHistory"]}
    assert history["train_loss"]["totalPoints"] == 30
    assert [point["step"] for point in history["train_loss"]["points"]] == list(range(30))
    model_version = run["modelVersion"]
    assert (model_version["number"], model_version["model"]["name"], model_version["framework"], model_version["problemType"]) == (
        1,
        "tumours",
        f"lightgbm {version_of('lightgbm')}",
        "CLASSIFICATION",
    )
    packages = {name: version_of(name) for name in ("scikit-learn", "lightgbm", "numpy", "polars", "skops")}
    assert (model_version["seed"], model_version["packages"]) == (3, {**packages, "python": platform.python_version()})
    assert {node["key"]: node["parameters"] for node in model_version["snapshot"]["definition"]["nodes"]}["train"]["n_estimators"] == 30
    config = model_version["config"]
    assert (config["step"], config["parameters"]["n_estimators"], config["columns"]) == ("train_lightgbm", 30, 30)
    assert config["parameters"]["exclude"] == []
    assert (config["target"], config["split"]["strategy"], model_version["architecture"]) == ("target", "stratified", None)
    roles = {artifact["role"] for artifact in model_version["artifacts"]}
    assert {"MODEL", "MODEL_CARD", "RESULTS", "FEATURE_IMPORTANCE", "CONFUSION_MATRIX"} <= roles
    card = httpx.get(
        next(artifact for artifact in model_version["artifacts"] if artifact["role"] == "MODEL_CARD")["downloadUrl"], verify=False
    ).text
    assert "LGBMClassifier" in card
    assert "Seed 3" in card
    file = run["job"]["config"]
    content = httpx.get(file["downloadUrl"], verify=False).content
    assert (file["role"], file["filename"], file["sha256"]) == ("CONFIG", "config.json", hashlib.sha256(content).hexdigest())
    ran = json.loads(content)
    processed = await ada.one(
        "query($id: ID!) { node(id: $id) { ... on DatasetVersion { processedFile { sha256 sizeBytes } } } }", id=version
    )
    assert (ran["job"], ran["kind"], ran["attempt"], ran["seed"]) == (run["job"]["id"], "TRAIN", 1, 3)
    assert (ran["pipeline"], ran["parameters"]) == ({"id": pipeline, "name": "p", "version": 1}, {"train": {"n_estimators": 30}})
    assert ran["snapshot"]["sha256"] == model_version["snapshot"]["sha256"]
    assert {node["key"]: node["parameters"] for node in ran["snapshot"]["definition"]["nodes"]}["train"]["n_estimators"] == 30
    assert ran["inputs"] == [{"datasetVersion": version, "dataset": "d", "number": 1, **processed["processedFile"]}]
    assert packages.items() <= ran["packages"].items()


@pytest.mark.exhaustive
async def test_the_same_seed_and_inputs_give_the_same_metrics(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", breast_cancer().write_csv())
    pipeline = (await ada.create_pipeline("p", *steps("random_forest", n_estimators=20)))["pipeline"]["id"]
    results = []
    for _ in range(2):
        started = await ada.run_pipeline(pipeline, version, seed=11)
        await ada.wait(started["job"]["id"])
        run = await ada.one(RUN, id=started["run"]["id"])
        measured = [[each for each in run[name] if each["key"] != "step_seconds"] for name in ("metrics", "metricHistory")]
        results.append(json.dumps([*measured, run["modelVersion"]["snapshot"]["sha256"]]))
    assert results[0] == results[1]


async def test_a_pipeline_that_does_not_train_writes_a_dataset_version(ada: Client, worker: object) -> None:
    version = await ada.ingest("numbers", "x,y\n1,a\n2,b\n3,c\n")
    pipeline = (
        await ada.create_pipeline(
            "big ones",
            ("data", "dataset", {}),
            ("keep", "filter_rows", {"conditions": [{"column": "x", "operator": "greater_than", "value": 1}]}),
            ("drop", "drop_columns", {"columns": ["y"]}),
        )
    )["pipeline"]["id"]
    names: list[str] = []
    started: dict[str, Any] = {}
    for _ in range(2):
        started = await ada.run_pipeline(pipeline, version)
        assert (started["job"]["kind"], started["run"]) == ("PROCESS", None)
        names.append(started["targetDataset"]["name"])
        assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    assert names == ["numbers – big ones", "numbers – big ones (2)"]
    query = """query($id: ID!) { dataset(id: $id) { source currentVersion { number source status rowCount preview producedBy { id }
        columns { name type } profile { rowCount } processedFile { downloadUrl } } } }"""
    dataset = await ada.one(query, id=started["targetDataset"]["id"])
    assert dataset["source"] == "DERIVED"
    current = dataset["currentVersion"]
    assert (current["source"], current["status"], current["rowCount"], current["preview"]) == ("DERIVED", "READY", 2, [{"x": 2}, {"x": 3}])
    assert current["producedBy"] == {"id": started["job"]["id"]}
    parquet = httpx.get(current["processedFile"]["downloadUrl"], verify=False).content
    assert pl.read_parquet(io.BytesIO(parquet)).to_dicts() == [{"x": 2}, {"x": 3}]
    again = await ada.run_pipeline(pipeline, version, outputDatasetId=started["targetDataset"]["id"])
    await ada.wait(again["job"]["id"])
    parameters = (await ada.one("query($id: ID!) { job(id: $id) { parameters } }", id=again["job"]["id"]))["parameters"]
    assert parameters["outputDatasetId"] == started["targetDataset"]["id"]
    assert (await ada.one(query, id=started["targetDataset"]["id"]))["currentVersion"]["number"] == 2


@pytest.mark.exhaustive
async def test_great_numbers_in_data_and_parameters_harm_nothing(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", "x,y\n" + "".join(f"{i}e300,{i % 2}\n" for i in range(1, 41)))
    query = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { preview(first: 1) profile { columns { max quantiles } } } } }"
    node = await ada.one(query, id=version)
    assert (node["preview"], node["profile"]["columns"][0]["max"]) == ([{"x": 1e300, "y": 1}], 4e301)
    steps = (("data", "dataset", {}), ("impute", "impute", {"columns": ["x"], "strategy": "constant", "fill_value": 1e25}))
    created = await ada.create_pipeline("p", *steps)
    started = await ada.run_pipeline(created["pipeline"]["id"], version)
    assert (await ada.wait(started["job"]["id"]))["status"] == "COMPLETED"
    query = "query($id: ID!) { pipeline(id: $id) { definition { nodes { parameters } } } }"
    nodes = (await ada.one(query, id=created["pipeline"]["id"]))["definition"]["nodes"]
    assert nodes[1]["parameters"]["fill_value"] == 1e25


@pytest.mark.exhaustive
async def test_two_datasets_can_be_made_of_each_other_at_once(ada: Client, worker: object) -> None:
    versions = [await ada.ingest(name, "x,y\n1,2\n3,4\n") for name in ("a", "b")]
    owner = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }"
    datasets = [(await ada.one(owner, id=version))["dataset"]["id"] for version in versions]
    pipelines = [
        (await ada.create_pipeline(name, ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"] for name in ("p", "q")
    ]
    runs = (ada.run_pipeline(pipelines[one], versions[one], outputDatasetId=datasets[1 - one]) for one in (0, 1) * 2)
    answers = await asyncio.gather(*runs)
    assert {answer["__typename"] for answer in answers} == {"RunPipelinePayload"}
    for answer in answers:
        assert (await ada.wait(answer["job"]["id"]))["status"] == "COMPLETED"


async def test_what_cannot_run_is_refused_before_anything_is_made(ada: Client, bob: Client, worker: object) -> None:
    version = await ada.ingest("d", "x,y\n1,2\n3,4\n")
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    unfinished = (await ada.request_upload((await ada.create_dataset("u")), "u.csv", b"x"))["upload"]["version"]["id"]
    paths = {}
    for name, fields in {
        "unknown node": {"parameters": {"nope": {"a": 1}}},
        "bad parameter": {"parameters": {"scale": {"method": "loud"}}},
        "unknown column": {"parameters": {"scale": {"columns": ["x", "z"]}}},
        "model of a pipeline that does not train": {"modelName": "m"},
        "priority": {"priority": 11},
        "no time at all": {"timeoutSeconds": 0},
    }.items():
        refused = await ada.run_pipeline(pipeline, version, **fields)
        assert refused["__typename"] == "InvalidInput", (name, refused)
        paths[name] = refused["issues"][0]["path"]
    assert paths == {
        "unknown node": ["parameters", "nope"],
        "bad parameter": ["parameters", "scale", "method"],
        "unknown column": ["parameters", "scale", "columns", "1"],
        "model of a pipeline that does not train": ["modelName"],
        "priority": ["priority"],
        "no time at all": ["timeoutSeconds"],
    }
    assert (await ada.run_pipeline(pipeline, unfinished))["state"] == "UPLOADING"
    assert (await bob.run_pipeline(pipeline, version))["__typename"] == "NotFound"
    mine = (await bob.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    assert (await bob.run_pipeline(mine, version))["__typename"] == "NotFound"
    counts = await ada.execute("{ jobs(filter: {kind: [PROCESS, TRAIN]}) { totalCount } datasets { totalCount } models { totalCount } }")
    assert counts == {"jobs": {"totalCount": 0}, "datasets": {"totalCount": 2}, "models": {"totalCount": 0}}


async def test_every_fault_of_the_parameters_is_told_at_its_place_in_the_input(ada: Client, worker: object) -> None:
    """A column that the stored definition names is not in the version; a parameter of the input is required by another one of it."""
    version = await ada.ingest("d", "x,y\n1,2\n3,4\n")
    steps = (
        ("data", "dataset", {}),
        ("drop", "drop_columns", {"columns": ["z"]}),
        ("split", "split", {}),
        ("train", "train_ridge_regression", {"target": "y"}),
    )
    pipeline = (await ada.create_pipeline("p", *steps))["pipeline"]["id"]
    faulty = {"nope": {"a": 1}, "train": {"alpha": -1, "Alpha": 2}, "split": {"strategy": "time", "test_fraction": 2}, "drop": []}
    refused = await ada.run_pipeline(pipeline, version, parameters=faulty)
    assert [(issue["path"], issue["message"]) for issue in refused["issues"]] == [
        (["parameters", "nope"], "The pipeline has no node 'nope'. Its nodes: data, drop, split, train."),
        (["parameters", "drop"], "A JSON object is expected here: {parameter: value}."),
        (["parameters", "split", "time_column"], "The strategy 'time' needs this parameter: the column that the rows are ordered by."),
        (["parameters", "split", "test_fraction"], "2 is too large; it must be less than 0.95."),
        (
            ["parameters", "train", "Alpha"],
            "The step 'train_ridge_regression' has no such parameter. It takes: alpha, exclude, fit_intercept, target.",
        ),
        (["parameters", "train", "alpha"], "-1 is too small; it must be at least 0."),
        (
            ["definition", "nodes", "1", "parameters", "columns", "0"],
            "Node 'drop' of the pipeline: The dataset version has no column 'z'.",
        ),
    ]
    assert await ada.one("{ jobs(filter: {kind: [TRAIN]}) { totalCount } }") == {"totalCount": 0}


async def test_a_job_that_cannot_be_done_fails_with_the_place_and_leaves_no_model(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", "x,y\n" + "1,a\n" * 50)
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_logistic_regression", {"target": "y"})))[
        "pipeline"
    ]["id"]
    started = await ada.run_pipeline(pipeline, version)
    ended = await ada.wait(started["job"]["id"])
    assert (ended["status"], ended["error"]["retryable"], ended["tries"]) == ("FAILED", False, 1)
    assert "y" in ended["error"]["message"]
    assert await ada.one("query($id: ID!) { run(id: $id) { status modelVersion { id } } }", id=started["run"]["id"]) == {
        "status": "FAILED",
        "modelVersion": None,
    }
    assert await ada.one("{ models { totalCount } }") == {"totalCount": 0}


@pytest.mark.exhaustive
async def test_a_job_that_runs_longer_than_it_may_is_stopped_and_its_retry_may_run_as_long(ada: Client, worker: object) -> None:
    version = await ada.ingest("breast cancer", breast_cancer().write_csv())
    pipeline = (await ada.create_pipeline("p", *steps("random_forest", n_estimators=5_000)))["pipeline"]["id"]
    ended = await ada.wait((await ada.run_pipeline(pipeline, version, timeoutSeconds=1.5))["job"]["id"])
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "TIMEOUT")
    again = await ada.one(
        "mutation($id: ID!) { retryJob(input: {id: $id}) { ... on RetryJobPayload { job { id timeoutSeconds } } } }", id=ended["id"]
    )
    assert again["job"]["timeoutSeconds"] == 1.5
    assert (await ada.wait(again["job"]["id"]))["status"] == "FAILED"
    assert await ada.one("{ models { totalCount } }") == {"totalCount": 0}


@pytest.mark.exhaustive
async def test_a_file_that_was_damaged_in_the_store_is_not_learnt_from(
    ada: Client, worker: object, database: Database, settings: StateSettings
) -> None:
    version = await ada.ingest("numbers", "x,y\n1,a\n2,b\n3,c\n")
    drop = ("drop", "drop_columns", {"columns": ["y"]})
    pipeline = (await ada.create_pipeline("fewer columns", ("data", "dataset", {}), drop))["pipeline"]["id"]
    statement = select(StoredObject.object_key, StoredObject.size_bytes, StoredObject.sha256).join(
        Artifact, Artifact.object_id == StoredObject.id
    )
    (row,) = await database.rows(statement.where(Artifact.role == PROCESSED))
    async with ObjectStore.open(settings) as objects:
        content = await objects.read(row.object_key, row.size_bytes)
        corrupted = content[:-1] + b"?"
        await objects.write(row.object_key, corrupted, "application/vnd.apache.parquet")
    started = await ada.run_pipeline(pipeline, version)
    ended = await ada.wait(started["job"]["id"])
    job = await ada.one("query($id: ID!) { job(id: $id) { attempt error { code message retryable } } }", id=started["job"]["id"])
    message = (
        f"The file of version 1 of the dataset 'numbers' is damaged in the store: it has {row.size_bytes:,} bytes with the SHA-256 "
        f"{hashlib.sha256(corrupted).hexdigest()}, and {row.size_bytes:,} with {row.sha256} were stored. Upload the data again as a new version, "
        "and start the job on that."
    )
    assert (ended["status"], job["attempt"]) == ("FAILED", 1)
    assert job["error"] == {"code": "OBJECT_DAMAGED", "message": message, "retryable": False}
