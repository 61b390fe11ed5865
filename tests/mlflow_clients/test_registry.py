"""The registry and logged models by hand: what is refused and how, and that nothing of another account is found."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.client import Client
from tests.mlflow_clients.conftest import Call, caller
from tests.mlflow_clients.test_files import Files
from tests.mlflow_clients.test_protocol import make_run, refusal
from tests.tracking.test_artifacts import STORAGE

MODEL = "loggedmodel_" + "0" * 32
BOOSTER = b"tree\nversion=v4\nnum_class=1\nobjective=regression\nfeature_names=a b\n\n"


class Registry:
    """The registry as a viewer; fields of a GET stand in the address."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, method: str, path: str, **fields: Any) -> httpx.Response:
        where: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        return await self._client.http.request(method, f"/api/2.0/mlflow/{path}", **where)

    async def version(self, name: str, run: str, path: str, **fields: Any) -> httpx.Response:
        return await self(
            "POST", "model-versions/create", name=name, source=f"mlflow-artifacts:/{run}/artifacts/{path}", run_id=run, **fields
        )


@pytest.fixture
async def registry(ada: Client, of_ada: Call) -> tuple[Registry, str]:
    """Ada's registry with the model "m" and its version 1, and the run whose file that is."""
    call, run = Registry(ada), await make_run(of_ada, run_name="source")
    await Files(ada, run).put("model/m.lgb", BOOSTER)
    assert (await call("POST", "registered-models/create", name="m", description="mine")).status_code == 200
    made = await call.version("m", run, "model", tags=[{"key": "a", "value": "b"}])
    assert made.json()["model_version"]["version"] == "1", made.text
    return call, run


async def test_a_version_has_files_of_its_own(ada: Client, registry: tuple[Registry, str]) -> None:
    call, run = registry
    assert (await Files(ada, run).delete("model")).status_code == 200
    uri = (await call("GET", "model-versions/get-download-uri", name="m", version="1")).json()["artifact_uri"]
    version = uri.removeprefix("mlflow-artifacts:/").removesuffix("/artifacts")
    files = Files(ada, version)
    assert await files.list() == [{"path": "m.lgb", "is_dir": False, "file_size": len(BOOSTER)}]
    assert (await files.get("m.lgb")).content == BOOSTER
    for refused in (await files.put("m.lgb", b"other"), await files.delete("m.lgb")):
        assert refusal(refused) == (400, "INVALID_PARAMETER_VALUE")
    assert (await files.get("m.lgb")).content == BOOSTER


async def test_a_version_is_copied_with_its_files_within_one_account(ada: Client, bob: Client, registry: tuple[Registry, str]) -> None:
    call, run = registry
    stored = await ada.one(STORAGE)
    copied = {"name": "kept", "source": "models:/m/1", "run_id": run, "description": "a copy", "tags": [{"key": "c", "value": "d"}]}
    assert (await call("POST", "registered-models/create", name="kept")).status_code == 200
    made = (await call("POST", "model-versions/create", **copied)).json()["model_version"]
    assert (made["version"], made["run_id"], made["description"], made["tags"]) == ("1", run, "a copy", copied["tags"])
    again = (await call("POST", "model-versions/create", **{**copied, "source": "models:/kept/1"})).json()["model_version"]
    assert again["version"] == "2"
    assert await ada.one(STORAGE) == stored, "the bytes are there once"
    query = """query($id: ID!) { node(id: $id) { ... on ModelVersion { format framework algorithm isTrusted problemType hyperparameters run { id }
      metrics { key last } artifacts { path role filename sha256 } } } }"""
    sources = [
        (await call("GET", "model-versions/get", name=name, version="1")).json()["model_version"]["source"] for name in ("m", "kept")
    ]
    first, second = [await ada.one(query, id=source.split("/")[1]) for source in sources]
    assert first == second
    await call("DELETE", "model-versions/delete", name="m", version="1")
    assert (await Files(ada, again["source"].split("/")[1]).get("m.lgb")).content == BOOSTER

    theirs = Registry(bob)
    assert (await theirs("POST", "registered-models/create", name="m")).status_code == 200
    missing = (404, "RESOURCE_DOES_NOT_EXIST")
    for source in ("models:/m/1", "models:/kept/1", "models:/m/9"):
        assert refusal(await theirs("POST", "model-versions/create", name="m", source=source)) == missing
    assert refusal(await call("POST", "model-versions/create", name="kept", source="models:/m/1")) == missing, "it is deleted"
    assert refusal(await call("POST", "model-versions/create", name="absent", source="models:/kept/1")) == missing


@pytest.mark.parametrize(
    "source",
    [
        "runs:/{run}/artifacts",
        "mlflow-artifacts:/{run}/artifacts/artifacts/",
        "https://x/api/2.0/mlflow-artifacts/artifacts/{run}/artifacts/artifacts",
    ],
)
async def test_a_source_names_a_folder_of_a_run_in_each_of_the_forms_that_clients_use(
    ada: Client, registry: tuple[Registry, str], source: str
) -> None:
    call, run = registry
    await Files(ada, run).put("artifacts/other.lgb", BOOSTER)
    made = (await call("POST", "model-versions/create", name="m", source=source.format(run=run))).json()["model_version"]
    assert await Files(ada, made["source"].split("/")[1]).list() == [{"path": "other.lgb", "is_dir": False, "file_size": len(BOOSTER)}]


async def test_what_the_registry_does_not_have_or_keep_is_told(registry: tuple[Registry, str]) -> None:
    call, run = registry
    version = {"name": "m", "version": "1"}
    missing = (404, "RESOURCE_DOES_NOT_EXIST")
    bad = (400, "INVALID_PARAMETER_VALUE")
    cases: list[tuple[str, str, dict[str, Any], tuple[int, str]]] = [
        ("POST", "registered-models/create", {"name": "M"}, (400, "RESOURCE_ALREADY_EXISTS")),
        ("POST", "registered-models/create", {}, bad),
        ("GET", "registered-models/get", {"name": "x"}, missing),
        ("POST", "registered-models/rename", {"name": "m", "new_name": ""}, bad),
        ("GET", "registered-models/search", {"filter": "tags.a = 'b'"}, bad),
        ("GET", "registered-models/search", {"order_by": ["size"]}, bad),
        ("GET", "registered-models/search", {"page_token": "x"}, bad),
        ("GET", "registered-models/search", {"max_results": 0}, bad),
        ("POST", "registered-models/get-latest-versions", {"name": "m", "stages": ["Production"]}, bad),
        ("POST", "registered-models/alias", {**version, "alias": "Latest"}, bad),
        ("GET", "registered-models/alias", {"name": "m", "alias": "champion"}, bad),
        ("DELETE", "registered-models/alias", {"name": "m", "alias": "champion"}, bad),
        ("GET", "model-versions/get", {"name": "m", "version": "2"}, missing),
        ("GET", "model-versions/get", {"name": "m", "version": "9" * 20}, missing),
        ("GET", "model-versions/get", {"name": "m", "version": "one"}, missing),
        ("POST", "model-versions/transition-stage", {**version, "stage": "Production"}, bad),
        ("POST", "model-versions/set-tag", {**version, "key": "", "value": "x"}, bad),
        ("GET", "model-versions/search", {"filter": "name LIKE 'm%'"}, bad),
        ("GET", "model-versions/search", {"filter": "size = '1'"}, bad),
        ("GET", "model-versions/search", {"page_token": "x"}, missing),
        ("POST", "model-versions/create", {"name": "x", "source": f"runs:/{run}/model"}, missing),
        ("POST", "model-versions/create", {"name": "m", "source": "/etc/passwd"}, bad),
        ("POST", "model-versions/create", {"name": "m", "source": "s3://bucket/model"}, bad),
        ("POST", "model-versions/create", {"name": "m", "source": f"runs:/{run}/absent"}, bad),
        ("POST", "model-versions/create", {"name": "m", "source": f"runs:/{run}/../model"}, bad),
        ("POST", "model-versions/create", {"name": "m", "source": f"models:/{MODEL}"}, missing),
        ("DELETE", "registered-models/unknown", {"name": "m"}, (404, "ENDPOINT_NOT_FOUND")),
    ]
    for method, path, fields, expected in cases:
        assert refusal(await call(method, path, **fields)) == expected, (method, path, fields)
    model = (await call("GET", "registered-models/get", name="m")).json()["registered_model"]
    assert (model["description"], model["aliases"], [each["version"] for each in model["latest_versions"]]) == ("mine", [], ["1"])


async def test_a_stranger_finds_no_model_and_no_version(bob: Client, registry: tuple[Registry, str]) -> None:
    call, run = registry
    await call("POST", "registered-models/alias", name="m", version="1", alias="champion")
    before = (await call("GET", "registered-models/get", name="m")).json()
    theirs = Registry(bob)
    version = {"name": "m", "version": "1"}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "registered-models/get", {"name": "m"}),
        ("PATCH", "registered-models/update", {"name": "m", "description": "theirs"}),
        ("POST", "registered-models/rename", {"name": "m", "new_name": "theirs"}),
        ("POST", "registered-models/set-tag", {"name": "m", "key": "a", "value": "b"}),
        ("DELETE", "registered-models/delete-tag", {"name": "m", "key": "a"}),
        ("POST", "registered-models/get-latest-versions", {"name": "m"}),
        ("POST", "registered-models/alias", {**version, "alias": "mine"}),
        ("GET", "registered-models/alias", {"name": "m", "alias": "champion"}),
        ("DELETE", "registered-models/alias", {"name": "m", "alias": "champion"}),
        ("GET", "model-versions/get", version),
        ("GET", "model-versions/get-download-uri", version),
        ("PATCH", "model-versions/update", {**version, "description": "theirs"}),
        ("POST", "model-versions/set-tag", {**version, "key": "a", "value": "c"}),
        ("DELETE", "model-versions/delete-tag", {**version, "key": "a"}),
    ]
    for method, path, fields in calls:
        assert refusal(await theirs(method, path, **fields)) == (404, "RESOURCE_DOES_NOT_EXIST"), path
    assert (await theirs("POST", "registered-models/create", name="m")).status_code == 200, "their name is free"
    assert refusal(await theirs.version("m", run, "model")) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert [each["name"] for each in (await theirs("GET", "registered-models/search")).json()["registered_models"]] == ["m"]
    assert (await theirs("GET", "model-versions/search")).json() == {"model_versions": []}
    assert (await call("GET", "registered-models/get", name="m")).json() == before


async def test_models_and_versions_are_listed_by_pages(registry: tuple[Registry, str]) -> None:
    call, run = registry
    for name in ("c", "b", "a"):
        await call("POST", "registered-models/create", name=name)
    for _ in range(3):
        await call.version("m", run, "model")

    async def pages(path: str, part: str, **fields: Any) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            answer = (await call("GET", path, max_results=2, **fields, **({"page_token": token} if token else {}))).json()
            found += [f"{each['name']} {each.get('version', '')}".strip() for each in answer[part]]
            token = answer.get("next_page_token", "")
            if not token:
                return found

    assert await pages("registered-models/search", "registered_models") == ["a", "b", "c", "m"]
    assert await pages("registered-models/search", "registered_models", order_by="name DESC") == ["m", "c", "b", "a"]
    assert await pages("registered-models/search", "registered_models", filter="tags.`mlflow.prompt.is_prompt` = 'true'") == []
    assert await pages("model-versions/search", "model_versions", filter="name = 'm'") == ["m 4", "m 3", "m 2", "m 1"]
    assert await pages("model-versions/search", "model_versions", filter="name = 'absent'") == []
    assert await pages("model-versions/search", "model_versions", filter="tags.a = 'b'") == ["m 1"]


async def test_a_logged_model_is_an_output_of_its_run_and_its_files_are_the_runs(ada: Client, bob: Client, of_ada: Call) -> None:
    run, call = await make_run(of_ada), Registry(ada)
    made = (
        await call("POST", "logged-models", experiment_id="0", source_run_id=run, name="net", params=[{"key": "a", "value": "1"}])
    ).json()["model"]
    model = made["info"]["model_id"]
    assert (made["info"]["status"], made["info"]["source_run_id"], made["data"]["params"]) == (
        "LOGGED_MODEL_PENDING",
        run,
        [{"key": "a", "value": "1"}],
    )
    assert made["info"]["artifact_uri"] == f"mlflow-artifacts:/{run}/artifacts/models/{model}"
    await Files(ada, run).put(f"models/{model}/m.lgb", BOOSTER)
    assert (await call("POST", f"logged-models/{model}/params", params=[{"key": "b", "value": "2"}])).json() == {}
    assert (
        await call("PATCH", f"logged-models/{model}/tags", tags=[{"key": "t", "value": "x"}, {"key": "u/v", "value": "y"}])
    ).status_code == 200
    assert (await call("DELETE", f"logged-models/{model}/tags/u/v")).json() == {}
    assert (await call("POST", "runs/outputs", run_id=run, models=[{"model_id": model, "step": 3}])).json() == {}
    assert (await call("PATCH", f"logged-models/{model}", status="LOGGED_MODEL_READY")).status_code == 200
    told = (await call("GET", f"logged-models/{model}")).json()["model"]
    assert (told["info"]["status"], told["info"]["tags"]) == ("LOGGED_MODEL_READY", [{"key": "t", "value": "x"}])
    assert {each["key"]: each["value"] for each in told["data"]["params"]} == {"a": "1", "b": "2"}
    assert (await of_ada("runs/get", run_id=run)).json()["run"]["outputs"] == {"model_outputs": [{"model_id": model, "step": 3}]}

    async def found(by: Registry = call, **fields: Any) -> list[str]:
        answer = await by("POST", "logged-models/search", **{"experiment_ids": ["0"], **fields})
        return [each["info"]["name"] for each in answer.json()["models"]]

    alone = (await call("POST", "logged-models", experiment_id="0", name="alone")).json()["model"]["info"]
    await call("PATCH", f"logged-models/{alone['model_id']}", status="LOGGED_MODEL_READY")
    assert (await of_ada("runs/get", run_id=alone["source_run_id"])).json()["run"]["info"]["status"] == "FINISHED"
    assert await found() == ["alone", "net"]
    assert await found(filter="name = 'net' AND tags.t = 'x' AND params.a = '1'") == ["net"]
    assert await found(filter=f"source_run_id = '{run}' AND status = 'READY'") == ["net"]
    assert await found(max_results=1) == ["alone"]
    for fields in ({"filter": "metrics.a > 1"}, {"filter": "size = 'x'"}, {"order_by": [{"field_name": "metrics.a"}]}, {"page_token": "x"}):
        answer = await call("POST", "logged-models/search", experiment_ids=["0"], **fields)
        assert answer.status_code in {400, 404}, fields

    theirs = Registry(bob)
    assert await found(theirs) == []
    for method, path, fields in (
        ("GET", f"logged-models/{model}", {}),
        ("PATCH", f"logged-models/{model}", {"status": "LOGGED_MODEL_READY"}),
        ("DELETE", f"logged-models/{model}", {}),
        ("POST", f"logged-models/{model}/params", {"params": []}),
        ("PATCH", f"logged-models/{model}/tags", {"tags": []}),
        ("POST", "logged-models", {"experiment_id": "0", "source_run_id": run, "name": "x"}),
        ("POST", "runs/outputs", {"run_id": run, "models": []}),
        ("GET", f"logged-models/{MODEL}", {}),
    ):
        assert refusal(await theirs(method, path, **fields)) == (404, "RESOURCE_DOES_NOT_EXIST"), path
    assert (await call("POST", "registered-models/create", name="nets")).status_code == 200
    version = (await call("POST", "model-versions/create", name="nets", source=f"models:/{model}", model_id=model)).json()["model_version"]
    assert version["run_id"] == run
    assert (await call("DELETE", f"logged-models/{model}")).json() == {}
    assert refusal(await call("GET", f"logged-models/{model}")) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert await Files(ada, run).list() == []
    assert await Files(ada, version["source"].split("/")[1]).list() == [{"path": "m.lgb", "is_dir": False, "file_size": len(BOOSTER)}]


async def test_the_data_that_a_run_reads_are_its_inputs(ada: Client, of_ada: Call, worker: object) -> None:
    run = await make_run(of_ada)
    version = await ada.ingest("table", "a,b\n1,2\n3,4\n")
    datasets = [
        {
            "tags": [{"key": "mlflow.data.context", "value": "training"}],
            "dataset": {"name": "table", "digest": "abc", "source_type": "local", "source": version},
        },
        {"dataset": {"name": "web", "digest": "d", "source_type": "http", "source": '{"url": "https://example.org/a.csv"}'}},
        {"dataset": {"name": "made", "digest": "e", "source_type": "code", "source": '{"tags": {"mlflow.user": "ada"}}', "schema": "{}"}},
    ]
    for _ in range(2):
        assert (await of_ada("runs/log-inputs", run_id=run, datasets=datasets)).json() == {}
    read = (await of_ada("runs/get", run_id=run)).json()["run"]["inputs"]["dataset_inputs"]
    assert sorted((each["dataset"]["name"], each["dataset"]["digest"], len(each["tags"])) for each in read) == [
        ("made", "e", 0),
        ("table", "abc", 1),
        ("web", "d", 0),
    ]
    seen = await ada.one(
        "query($id: ID!) { run(id: $id) { inputs { source context datasetVersion { id } } datasetVersion { id } } }", id=run
    )
    assert seen["datasetVersion"] == {"id": version}
    assert {each["source"] for each in seen["inputs"]} == {version, "https://example.org/a.csv", "made"}
    assert refusal(await of_ada("runs/log-inputs", run_id=run, models=[{"model_id": MODEL}])) == (400, "INVALID_PARAMETER_VALUE")
    assert refusal(await caller(ada)("runs/log-inputs", run_id=run, datasets=[{"dataset": {"name": 1}}])) == (
        400,
        "INVALID_PARAMETER_VALUE",
    )
