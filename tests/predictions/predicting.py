"""Train a model, predict with it, and read what the job answered."""

from __future__ import annotations

import io
from typing import Any

import httpx
import polars as pl

from tests.client import Client
from tests.lazy_module import LazyModule

TRUST: Any = LazyModule("workers.ml.artifacts.trust")
PROBLEMS = "... on Problem { code message } ... on InvalidInput { issues { path message } }"


async def train(ada: Client, version: str, *steps: tuple[str, str, dict[str, Any]], name: str = "model", **fields: Any) -> str:
    """Return the model version that these steps train."""
    created = await ada.create_pipeline(name, ("data", "dataset", {}), *steps, **fields)
    started = await ada.run_pipeline(created["pipeline"]["id"], version, seed=7, modelName=name)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    return ended["outputs"][0]["id"]


async def predict(client: Client, model: str, rows: list[Any], **fields: Any) -> dict[str, Any]:
    return await client.one(
        "mutation($input: PredictInput!) { predict(input: $input) { __typename ... on PredictPayload { job { id kind queue parameters result } } "
        + PROBLEMS
        + " } }",
        input={"modelVersionId": model, "rows": rows, **fields},
    )


async def predict_dataset(client: Client, model: str, version: str, **fields: Any) -> dict[str, Any]:
    return await client.one(
        "mutation($input: PredictDatasetInput!) { predictDataset(input: $input) { __typename"
        " ... on PredictDatasetPayload { job { id kind queue } targetDataset { id name description } } " + PROBLEMS + " } }",
        input={"modelVersionId": model, "datasetVersionId": version, **fields},
    )


async def result(client: Client, job: str) -> dict[str, Any]:
    """Wait until the job has completed; return what it answered."""
    ended = await client.wait(job)
    assert (ended["status"], ended["error"]) == ("COMPLETED", None), ended
    return (await client.one("query($id: ID!) { job(id: $id) { result } }", id=job))["result"]


async def answer(client: Client, model: str, rows: list[Any], **fields: Any) -> dict[str, Any]:
    submitted = await predict(client, model, rows, **fields)
    assert submitted["__typename"] == "PredictPayload", submitted
    return await result(client, submitted["job"]["id"])


async def load_model(client: Client, model: str) -> Any:
    """The model in the file of a version, loaded without the code that predicts."""
    found = await client.one("query($id: ID!) { node(id: $id) { ... on ModelVersion { artifacts { role downloadUrl } } } }", id=model)
    (url,) = (artifact["downloadUrl"] for artifact in found["artifacts"] if artifact["role"] == "MODEL")
    content = httpx.get(url, verify=False).content
    return TRUST.import_skops().loads(content, trusted=TRUST.TRUSTED_TYPES)


async def read_version(client: Client, version: str) -> pl.DataFrame:
    found = await client.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { processedFile { downloadUrl } } } }", id=version)
    return pl.read_parquet(io.BytesIO(httpx.get(found["processedFile"]["downloadUrl"], verify=False).content))


def told(answered: dict[str, Any]) -> list[tuple[str, str, int | None, int | None]]:
    return [(issue["code"], issue["column"], issue["count"], issue["firstRow"]) for issue in answered["issues"]]
