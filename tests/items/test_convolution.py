"""A convolutional network is trained on images, searched for, explained and exported by the public API."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.archives import tar_of
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.explanations.explaining import explain
from tests.items.test_item_steps import FEATURES, METRICS, digits
from tests.predictions.predicting import predict_dataset, read_version, result
from tests.studies.searching import created, ended
from workers.ml.architectures import digest

FRONT = """query($id: ID!) { study(id: $id) { status trialsCompleted paretoFront { value architecture { parameterCount } }
  trials { edges { node { parameters architecture { hash definition } } } } } }"""
SPACE = [
    {"node": "train", "name": "depth", "type": "INT", "low": 1, "high": 3},
    {"node": "train", "name": "width", "type": "INT", "low": 4, "high": 16, "step": 4},
    {"node": "train", "name": "growth", "type": "CATEGORICAL", "choices": [1, 2]},
    {"node": "train", "name": "kernel", "type": "INT", "low": 2, "high": 4},
    {"node": "train", "name": "head", "type": "CATEGORICAL", "choices": ["flatten", "average"]},
]


@pytest.mark.skipif(find_spec("torch") is None, reason="the extra `deep` is not installed")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [300, exhaustive(1_500)])
async def test_a_convolutional_network_reads_digits(ada: Client, worker: object, count: int) -> None:
    version = await ada.ingest("digits", tar_of(digits(0, count)[0]), "digits.tar", modality="IMAGE")
    steps = (
        ("data", "dataset", {}),
        ("drop", "drop_columns", {"columns": FEATURES}),
        ("read", "image_pixels", {}),
        ("split", "split", {"test_fraction": 0.2, "validation_fraction": 0.2}),
        ("train", "train_cnn", {"target": "label", "max_epochs": 15, "learning_rate": 3e-3}),
    )
    pipeline = (await ada.create_pipeline("digits", *steps, modality="IMAGE"))["pipeline"]
    assert pipeline["status"] == "VALIDATED"
    trained = await ada.wait((await ada.run_pipeline(pipeline["id"], version, seed=7, modelName="digits"))["job"]["id"], timeout=300)
    assert trained["status"] == "COMPLETED", trained
    model = trained["outputs"][0]["id"]
    metrics = {metric["key"]: metric["last"] for metric in (await ada.one(METRICS, id=model))["metrics"]}
    assert metrics["accuracy"] >= (0.95 if count > 300 else 0.85)

    files, _, labels = digits(1_697, 1_797)
    other = await ada.ingest("others", tar_of(files), "others.tar", modality="IMAGE")
    submitted = await predict_dataset(ada, model, other)
    assert (await result(ada, submitted["job"]["id"]))["predicted"] == 100
    job = await ada.one("query($id: ID!) { job(id: $id) { outputs { ... on DatasetVersion { id } } } }", id=submitted["job"]["id"])
    written = await read_version(ada, job["outputs"][0]["id"])
    truth = dict(zip(files, labels, strict=True))
    assert sum(str(found) == truth[key] for found, key in zip(written["prediction"], written["key"], strict=True)) >= 80

    exported = await ada.export(None, "ONNX", modelVersionId=model)
    assert [file["filename"] for file in exported["files"]] == ["digits-v1.onnx", "signature.json"]
    query = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { items(last: 1) { edges { node { id } } } } } }"
    item = (await ada.one(query, id=version))["items"]["edges"][0]["node"]["id"]
    assert (await explain(ada, model, "OCCLUSION", itemId=item))["status"] == "COMPLETED"
    found = await explain(ada, model, "INTEGRATED_GRADIENTS", itemId=item)
    assert (found["status"], found["data"]["rows"]) == ("COMPLETED", 1)
    assert found["additivityError"] < 0.05
    assert {plot["role"] for plot in found["plots"]} == {"BAR_PLOT", "CONTRIBUTION_MAP"}

    study = await created(
        ada,
        {"name": "s", "kind": "NAS", "method": "RANDOM", "pipelineId": pipeline["id"], "datasetVersionId": version},
        objective={"metric": "validation_loss"},
        space=SPACE,
        seed=3,
        budget={"maxTrials": 4, "maxParallel": 1},
        reproducible=True,
    )
    await ended(ada, study)
    told = await ada.one(FRONT, id=study)
    assert (told["status"], told["trialsCompleted"]) == ("COMPLETED", 4)
    networks = [edge["node"] for edge in told["trials"]["edges"]]
    assert len({network["architecture"]["hash"] for network in networks}) == 4
    for network in networks:
        drawn, definition = network["parameters"], network["architecture"]["definition"]
        channels = [drawn["train.width"] * drawn["train.growth"] ** block for block in range(drawn["train.depth"])]
        assert (definition["channels"], definition["kernel"], definition["head"]) == (channels, drawn["train.kernel"], drawn["train.head"])
        assert network["architecture"]["hash"] == digest(definition)
    values = [trial["value"] for trial in told["paretoFront"]]
    assert values == sorted(values, reverse=True)
