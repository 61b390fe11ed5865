"""Files of external runs are registered as versions of models: kept as they are, and used only in formats that cannot run code."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.client import Client
from tests.exhaustive import exhaustive
from tests.explanations.explaining import explain
from tests.lazy_module import LazyModule
from tests.predictions.predicting import answer, predict
from tests.tracking.conftest import COMPLETE_FILE, create_run, log, send_file

SKOPS: Any = LazyModule("skops.io")
FORESTS: Any = LazyModule("sklearn.ensemble")
LINEAR: Any = LazyModule("sklearn.linear_model")
LIGHTGBM: Any = LazyModule("lightgbm")
SKL2ONNX: Any = LazyModule("skl2onnx")

REGISTER = """mutation($input: RegisterModelVersionInput!) { registerModelVersion(input: $input) { __typename
    ... on RegisterModelVersionPayload { modelVersion { id number label description annotations format algorithm framework problemType isTrusted
      hyperparameters metrics { key last } run { id } model { name problemType } artifacts { path role filename downloadUrl } } }
    ... on InvalidInput { issues { path message } } ... on Problem { message } } }"""
ROWS = np.random.default_rng(3).normal(size=(80, 2)).astype(np.float32).astype(np.float64)
LABELS = np.where(ROWS.sum(axis=1) > 0, "large", "small")
NAMES = ("width", "height")
INPUTS = [{"name": name} for name in NAMES]


async def put(client: Client, run: str, **files: bytes) -> None:
    """Send files; `_` in a name stands for a slash, and the last one for a dot."""
    for name, content in files.items():
        path = ".".join(name.replace("_", "/").rsplit("/", 1))
        assert (await client.one(COMPLETE_FILE, id=await send_file(client, run, path, content)))[
            "__typename"
        ] == "CompleteArtifactUploadPayload"


async def register(client: Client, run: str, path: str, **fields: Any) -> dict[str, Any]:
    return await client.one(
        REGISTER, input={"runId": run, "artifactPath": path, **({} if "modelId" in fields else {"modelName": "m"}), **fields}
    )


async def registered(client: Client, run: str, path: str, **fields: Any) -> dict[str, Any]:
    answered = await register(client, run, path, **fields)
    assert answered["__typename"] == "RegisterModelVersionPayload", answered
    return answered["modelVersion"]


async def test_a_file_of_any_format_is_kept_described_and_never_loaded(ada: Client, bob: Client) -> None:
    run = await create_run(ada, hyperparameters={"alpha": 1})
    await log(ada, run, ("loss", 0, 0.5, None))
    content = pickle.dumps({"a": 1})
    await put(ada, run, model_m_pkl=content, model_notes_txt=b"notes", other_txt=b"x")
    version = await registered(
        ada, run, "model", label="first", description="of mine", annotations={"stage": "draft"}, framework="torch", algorithm="Net"
    )
    files = version.pop("artifacts")
    model_id, version_id = version["model"], version.pop("id")
    assert model_id == {"name": "m", "problemType": None}
    assert version == {
        "number": 1,
        "label": "first",
        "description": "of mine",
        "annotations": {"stage": "draft"},
        "format": "OPAQUE",
        "algorithm": "Net",
        "framework": "torch",
        "problemType": None,
        "isTrusted": False,
        "hyperparameters": {"alpha": 1},
        "metrics": [{"key": "loss", "last": 0.5}],
        "run": {"id": run},
        "model": {"name": "m", "problemType": None},
    }
    assert sorted((file["path"], file["role"]) for file in files) == [("m.pkl", "MODEL"), ("notes.txt", "ARTIFACT")]
    kept = next(file["downloadUrl"] for file in files if file["role"] == "MODEL")
    assert (await ada.store.get(kept)).content == content
    refused = await predict(ada, version_id, [{"a": 1}])
    assert "its file is kept and never loaded" in refused["issues"][0]["message"]
    assert (await bob.one("query($id: ID!) { node(id: $id) { id } }", id=version_id)) is None

    second = await registered(ada, run, "model/m.pkl", hyperparameters={"beta": 2})
    assert (second["number"], second["algorithm"], second["framework"], second["hyperparameters"]) == (2, "unknown", "unknown", {"beta": 2})
    assert [(file["path"], file["role"]) for file in second["artifacts"]] == [("m.pkl", "MODEL")]


async def test_what_cannot_be_registered_is_refused_and_nothing_is_left(ada: Client, bob: Client) -> None:
    run = await create_run(ada)
    await put(ada, run, model_m_pkl=b"\x80\x04.", model_m_skops=b"PK no zip")
    cases: list[tuple[str, dict[str, Any], list[str]]] = [
        ("absent", {}, ["artifactPath"]),
        ("../model", {}, ["artifactPath"]),
        ("model/m.pkl", {"format": "SKOPS"}, ["format"]),
        ("model/m.pkl", {"format": "ONNX"}, ["format"]),
        ("model/m.pkl", {"modelName": None}, ["modelName"]),
        ("model/m.pkl", {"modelName": " "}, ["modelName"]),
        ("model/m.pkl", {"inputs": [{"name": "a"}, {"name": "a"}]}, ["inputs"]),
        ("model/m.pkl", {"classes": [{"a": 1}]}, ["classes", "0"]),
        ("model/m.pkl", {"hyperparameters": [1]}, ["hyperparameters"]),
        ("model/m.pkl", {"label": "x" * 201}, ["label"]),
        ("model/m.pkl", {"annotations": {"a": 1}}, ["annotations", "a"]),
    ]
    for path, fields, place in cases:
        refused = await register(ada, run, path, **fields)
        assert (refused["__typename"], [issue["path"] for issue in refused["issues"]]) == ("InvalidInput", [place]), (path, fields, refused)
    assert (await register(bob, run, "model/m.pkl"))["__typename"] == "NotFound"
    of_bob = await create_run(bob)
    await put(bob, of_bob, a_pkl=b"a")
    theirs = await bob.one(
        "query($id: ID!) { node(id: $id) { ... on ModelVersion { model { id } } } }", id=(await registered(bob, of_bob, "a.pkl"))["id"]
    )
    assert (await register(ada, run, "model/m.pkl", modelId=theirs["model"]["id"]))["__typename"] == "NotFound"
    assert (await ada.one("{ models { totalCount } }"))["totalCount"] == 0


def skops_forest() -> tuple[str, bytes, Any, dict[str, Any]]:
    model = FORESTS.RandomForestClassifier(n_estimators=4, random_state=0).fit(ROWS, LABELS)
    return "m.skops", SKOPS.dumps(model), model, {"inputs": INPUTS}


def booster() -> tuple[str, bytes, Any, dict[str, Any]]:
    model = LIGHTGBM.LGBMClassifier(n_estimators=4, verbose=-1).fit(ROWS, LABELS)
    return "m.txt", model.booster_.model_to_string().encode(), model, {"inputs": INPUTS, "classes": ["large", "small"]}


def onnx_graph() -> tuple[str, bytes, Any, dict[str, Any]]:
    model = LINEAR.LogisticRegression().fit(ROWS, LABELS)
    graph = SKL2ONNX.to_onnx(model, ROWS[:1].astype(np.float32), options={"zipmap": False}).SerializeToString()
    return "m.onnx", graph, model, {"inputs": INPUTS, "classes": ["large", "small"], "problemType": "CLASSIFICATION"}


@pytest.mark.parametrize("made", [skops_forest, exhaustive(booster), exhaustive(onnx_graph)])
async def test_a_format_that_cannot_run_code_predicts_and_is_explained(ada: Client, worker: object, made: Any) -> None:
    filename, content, model, fields = made()
    run = await create_run(ada)
    assert (await ada.one(COMPLETE_FILE, id=await send_file(ada, run, filename, content)))["__typename"] == "CompleteArtifactUploadPayload"
    version = await registered(ada, run, filename, target="size", **fields)
    assert (version["problemType"], version["isTrusted"]) == ("CLASSIFICATION", False)
    rows = [dict(zip(NAMES, row, strict=True)) for row in ROWS[:5].tolist()]
    answered = await answer(ada, version["id"], rows)
    assert [each["prediction"] for each in answered["predictions"]] == model.predict(ROWS[:5]).tolist()
    assert np.array([each["probabilities"] for each in answered["predictions"]]) == pytest.approx(model.predict_proba(ROWS[:5]), abs=1e-6)
    data = await ada.ingest(
        "sizes", "width,height,size\n" + "".join(f"{a},{b},{label}\n" for (a, b), label in zip(ROWS, LABELS, strict=True))
    )
    explained = await explain(ada, version["id"], "PERMUTATION", datasetVersionId=data)
    assert {each["feature"] for each in explained["attributions"]} == {*NAMES}


async def test_a_hostile_model_file_is_data_to_us(ada: Client, worker: object) -> None:
    """A file of skops names a type that is not on our list: nothing of it is built."""
    run = await create_run(ada)
    schema = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "__id__": 1,
        "content": {"module_path": "os", "function": "system"},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    await put(ada, run, m_skops=buffer.getvalue())
    version = await registered(ada, run, "m.skops", inputs=INPUTS, problemType="REGRESSION")
    assert (version["format"], version["algorithm"]) == ("SKOPS", "system")
    submitted = await predict(ada, version["id"], [{"width": 1, "height": 2}])
    ended = await ada.wait(submitted["job"]["id"])
    assert (ended["status"], ended["error"]["code"]) == ("FAILED", "BAD_MODEL")


def mlmodel(inputs: Sequence[dict[str, Any]], flavor: str = "sklearn: {pickled_model: model.skops, sklearn_version: 1.9.1}") -> bytes:
    return f"flavors:\n  {flavor}\nsignature:\n  inputs: '{json.dumps(inputs)}'\n  outputs: '[{{\"type\": \"double\"}}]'\n".encode()


@pytest.mark.exhaustive
async def test_what_a_model_takes_is_read_from_the_file_beside_it(ada: Client) -> None:
    run = await create_run(ada)
    line = SKOPS.dumps(LINEAR.LinearRegression().fit(ROWS, ROWS[:, 0]))
    matrix = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
    for folder, inputs in {"named": [{"type": "double", "name": name} for name in NAMES], "matrix": matrix}.items():
        await put(ada, run, **{f"{folder}_model_skops": line})
        for path, content in {"MLmodel": mlmodel(inputs), "requirements.txt": b"x" * 100_000}.items():
            await ada.one(COMPLETE_FILE, id=await send_file(ada, run, f"{folder}/{path}", content))
    for folder in ("named", "matrix"):
        version = await registered(ada, run, folder)
        assert (version["format"], version["algorithm"], version["framework"], version["problemType"]) == (
            "SKOPS",
            "LinearRegression",
            "scikit-learn 1.9.1",
            "REGRESSION",
        )
        roles = {file["path"] or file["filename"]: file["role"] for file in version["artifacts"]}
        assert roles == {"model.skops": "MODEL", "MLmodel": "ARTIFACT", "requirements.txt": "ARTIFACT", "signature.json": "SIGNATURE"}
        (signature,) = (file["downloadUrl"] for file in version["artifacts"] if file["role"] == "SIGNATURE")
        names = [each["name"] for each in (await ada.store.get(signature)).json()["inputs"]]
        assert names == (list(NAMES) if folder == "named" else ["x0", "x1"])
    for document in (b"\x00", b"- a", b"a: &a [*a]", b"flavors: 1\nsignature: [1]", b"[" * 100_000, b"flavors: {x: {data: ../../etc}}"):
        await ada.one(COMPLETE_FILE, id=await send_file(ada, run, "named/MLmodel", document))
        assert (await registered(ada, run, "named"))["format"] == "SKOPS"
