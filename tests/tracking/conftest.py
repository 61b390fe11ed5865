"""External runs as their code makes them, through the API."""

from __future__ import annotations

from typing import Any

from tests.client import Client

CREATE = "mutation($input: CreateRunInput!) { createRun(input: $input) { __typename ... on CreateRunPayload { run { id } } ... on Problem { message } } }"
LOG = """mutation($run: ID!, $points: [MetricPointInput!]!) { logMetrics(input: {runId: $run, points: $points}) {
    __typename ... on LogMetricsPayload { added } ... on Problem { message } } }"""
PARAMETERS = """mutation($run: ID!, $parameters: JSON!) { logParameters(input: {runId: $run, parameters: $parameters}) {
    __typename ... on LogParametersPayload { run { hyperparameters } } ... on InvalidInput { issues { path message } } ... on Problem { message } } }"""
FINISH = """mutation($run: ID!, $status: RunStatus!, $at: DateTime) { finishRun(input: {runId: $run, status: $status, completedAt: $at}) {
    __typename ... on FinishRunPayload { run { status startedAt completedAt error { code } } } ... on Problem { message } } }"""
METRICS = (
    """subscription($id: ID!, $after: String) { runMetrics(id: $id, after: $after) { cursor points { key step value recordedAt } } }"""
)


async def create_run(client: Client, **fields: Any) -> str:
    created = await client.one(CREATE, input=fields)
    assert created["__typename"] == "CreateRunPayload", created
    return created["run"]["id"]


async def log(client: Client, run: str, *points: tuple[str, int, Any, str | None]) -> int:
    given = [{"key": key, "step": step, "value": value, "recordedAt": at} for key, step, value, at in points]
    logged = await client.one(LOG, run=run, points=given)
    assert logged["__typename"] == "LogMetricsPayload", logged
    return logged["added"]


async def finish(client: Client, run: str, status: str = "COMPLETED", at: str | None = None) -> dict[str, Any]:
    return await client.one(FINISH, run=run, status=status, at=at)


REQUEST_FILE = """mutation($input: RequestArtifactUploadInput!) { requestArtifactUpload(input: $input) { __typename
    ... on RequestArtifactUploadPayload { uploadId url headers { name value } } ... on InvalidInput { issues { path } } ... on Problem { message } } }"""
COMPLETE_FILE = """mutation($id: ID!) { completeArtifactUpload(input: {uploadId: $id}) { __typename
    ... on CompleteArtifactUploadPayload { artifact { id path role filename sizeBytes sha256 contentType downloadUrl } } ... on Problem { message } } }"""


async def send_file(client: Client, run: str, path: str, content: bytes, **fields: Any) -> str:
    """Request an upload and send the file; return the id of the upload."""
    requested = await client.one(REQUEST_FILE, input={"runId": run, "path": path, "sizeBytes": len(content), **fields})
    assert requested["__typename"] == "RequestArtifactUploadPayload", requested
    sent = await client.store.put(
        requested["url"], content=content, headers={entry["name"]: entry["value"] for entry in requested["headers"]}
    )
    assert sent.status_code == 200, sent.text
    return requested["uploadId"]
