"""A frontend-like client: GraphQL over HTTP and graphql-transport-ws, uploads by presigned PUT."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import connect

from tests.http_connections import HttpConnections

PASSWORD = "correct horse battery"
LOGIN = (
    "mutation($input: LoginInput!) { login(input: $input) { __typename ... on Problem { code message } ... on InvalidInput { issues { path } }"
    " ... on TotpRequired { challenge methods } ... on LoginPayload { token session { id isCurrent } viewer { username } } } }"
)
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED"}


class GraphQLErrors(Exception):
    """The response has errors; `codes` lists their codes."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(f"{error.get('extensions', {}).get('code')}: {error['message']}" for error in errors))
        self.errors = errors

    @property
    def codes(self) -> list[str | None]:
        return [error.get("extensions", {}).get("code") for error in self.errors]


EXPORT = """query($id: ID!) { export(id: $id) { id format status sizeBytes options expiresAt version { id }
  files { id role filename contentType sizeBytes sha256 downloadUrl } } }"""


class Client:
    """A client for one viewer of the Trellis at `url`; anonymous without a token."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self.token = token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Nothing here is served over TLS, and the trusted certificates take 20 ms to load, for each client of each test.
        # Nor is there a proxy: to look for one in the environment takes longer than a request.
        self.http = httpx.AsyncClient(base_url=url, headers=headers, timeout=60, verify=False, trust_env=False)
        self._connections = HttpConnections(self.http.base_url.host, self.http.base_url.port or 80, 30)

    async def close(self) -> None:
        self._connections.close()
        await self.http.aclose()
        if "store" in self.__dict__:
            await self.store.aclose()

    @cached_property
    def store(self) -> httpx.AsyncClient:
        """For what is signed by the API, in the object store."""
        return httpx.AsyncClient(timeout=120, verify=False, trust_env=False)

    async def post(self, query: str, /, **variables: Any) -> dict[str, Any]:
        """Return the whole response, errors included."""
        if self.http.cookies:
            raise AssertionError("A client with cookies sends its requests with httpx.")
        headers = {"host": self.http.base_url.netloc.decode(), **self.http.headers, "content-type": "application/json"}
        del headers["accept-encoding"]
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        return json.loads(await self._connections.post("/graphql", sent, orjson.dumps({"query": query, "variables": variables})))

    async def execute(self, query: str, /, **variables: Any) -> dict[str, Any]:
        """Return the data; raise `GraphQLErrors` if the response has errors."""
        answer = await self.post(query, **variables)
        if answer.get("errors"):
            raise GraphQLErrors(answer["errors"])
        return answer["data"]

    async def one(self, query: str, /, **variables: Any) -> Any:
        """Return the value of the only root field."""
        (value,) = (await self.execute(query, **variables)).values()
        return value

    async def login(self, login: str, password: str = PASSWORD, **headers: str) -> dict[str, Any]:
        """Sign in; return the result, or the first error with its extensions."""
        body = {"query": LOGIN, "variables": {"input": {"login": login, "password": password}}}
        answer = (await self.http.post("/graphql", json=body, headers=headers)).json()
        return answer["errors"][0] if answer.get("errors") else answer["data"]["login"]

    # Datasets

    async def create_dataset(self, name: str, **fields: Any) -> str:
        answer = await self.one(
            "mutation($input: CreateDatasetInput!) { createDataset(input: $input) {"
            " ... on CreateDatasetPayload { dataset { id } } ... on Problem { code message } } }",
            input={"name": name, **fields},
        )
        return answer["dataset"]["id"]

    async def request_upload(self, dataset: str, filename: str, content: bytes, **fields: Any) -> dict[str, Any]:
        return await self.one(
            "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { __typename ... on RequestUploadPayload {"
            " upload { id method url headers { name value } expiresAt maxBytes version { id number status } } } ... on Problem { code message } } }",
            input={"datasetId": dataset, "filename": filename, "sizeBytes": len(content), **fields},
        )

    async def put(self, upload: dict[str, Any], content: bytes) -> httpx.Response:
        headers = {header["name"]: header["value"] for header in upload["headers"]}
        return await self.store.request(upload["method"], upload["url"], content=content, headers=headers)

    async def complete_upload(self, upload: str, **fields: Any) -> dict[str, Any]:
        return await self.one(
            "mutation($input: CompleteUploadInput!) { completeUpload(input: $input) { __typename"
            " ... on CompleteUploadPayload { version { id } job { id } } ... on Problem { code message }"
            " ... on UploadMismatch { expected actual } ... on WrongState { state } } }",
            input={"uploadId": upload, **fields},
        )

    async def upload(self, dataset: str, filename: str, content: bytes, *, hashed: bool = True) -> tuple[str, str]:
        """Upload a file and start its ingest; return (version, job)."""
        extra = {"sha256": hashlib.sha256(content).hexdigest()} if hashed else {}
        upload = (await self.request_upload(dataset, filename, content, **extra))["upload"]
        response = await self.put(upload, content)
        assert response.status_code == 200, response.text
        answer = await self.complete_upload(upload["id"])
        return answer["version"]["id"], answer["job"]["id"]

    async def ingest(self, name: str, content: bytes | str | Path, filename: str | None = None, **fields: Any) -> str:
        """Create a dataset with one READY version; return the version's id."""
        if isinstance(content, Path):
            filename, content = filename or content.name, content.read_bytes()
        if isinstance(content, str):
            content = content.encode()
        dataset = await self.create_dataset(name, **fields)
        version, job = await self.upload(dataset, filename or f"{name}.csv", content)
        ended = await self.wait(job)
        assert ended["status"] == "COMPLETED", ended
        return version

    # Pipelines

    async def create_pipeline(self, name: str, *steps: tuple[str, str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """Create a chain of (key, step, parameters), each linked to the previous one."""
        definition = {
            "nodes": [{"key": key, "step": step, "parameters": parameters} for key, step, parameters in steps],
            "links": [{"source": before[0], "target": after[0]} for before, after in itertools.pairwise(steps)],
        }
        return await self.one(
            "mutation($input: CreatePipelineInput!) { createPipeline(input: $input) { __typename"
            " ... on CreatePipelinePayload { pipeline { id status version } } ... on Problem { code message }"
            " ... on InvalidInput { issues { path message } } } }",
            input={"name": name, "definition": definition, **fields},
        )

    async def run_pipeline(self, pipeline: str, version: str, **fields: Any) -> dict[str, Any]:
        return await self.one(
            "mutation($input: RunPipelineInput!) { runPipeline(input: $input) { __typename"
            " ... on RunPipelinePayload { job { id kind status } run { id seed } targetDataset { id name } } ... on Problem { code message }"
            " ... on InvalidInput { issues { path message } } ... on WrongState { state } } }",
            input={"pipelineId": pipeline, "datasetVersionId": version, **fields},
        )

    # Exports

    async def create_export(self, version: str | None, format: str, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        return await self.one(
            "mutation($input: CreateExportInput!) { createExport(input: $input) { __typename"
            " ... on CreateExportPayload { export { id status options } job { id } } ... on Problem { code message }"
            " ... on InvalidInput { issues { path message } } ... on WrongState { state } } }",
            input={"datasetVersionId": version, "format": format, "options": options, **fields},
        )

    async def export(self, version: str | None, format: str, options: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Make an export; return it with its files."""
        created = await self.create_export(version, format, options, **fields)
        ended = await self.wait(created["job"]["id"])
        assert ended["status"] == "COMPLETED", ended
        return await self.one(EXPORT, id=created["export"]["id"])

    async def download(self, file: dict[str, Any]) -> bytes:
        """The content of an artifact, as its presigned URL has it."""
        response = await self.store.get(file["downloadUrl"])
        assert response.status_code == 200, response.text
        return response.content

    # Jobs

    async def wait(self, job: str, timeout: float = 90) -> dict[str, Any]:
        """Follow the job's events until it ends; return the job."""
        async with asyncio.timeout(timeout):
            async for _ in self.events(job):
                pass
        return await self.one(
            "query($id: ID!) { job(id: $id) { id kind status progress attempt tries error { code message retryable traceback }"
            " nodes { key step status progress output error { code message } } outputs { __typename ... on Node { id } } } }",
            id=job,
        )

    async def events(self, job: str, after: str | None = None) -> AsyncGenerator[dict[str, Any]]:
        query = "subscription($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { cursor sequence attempt type status progress step message data } }"
        async for answer in self.subscribe(query, id=job, after=after):
            yield answer["jobEvents"]

    async def subscribe(self, query: str, /, **variables: Any) -> AsyncGenerator[dict[str, Any]]:
        """Yield the data of each event until the stream completes; raise `GraphQLErrors` if one has errors."""
        async with self.socket() as (send, receive):
            await send({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}})
            while True:
                message = await receive()
                match message["type"]:
                    case "next":
                        if message["payload"].get("errors"):
                            raise GraphQLErrors(message["payload"]["errors"])
                        yield message["payload"]["data"]
                    case "error":
                        raise GraphQLErrors(message["payload"])
                    case "complete":
                        return
                    case "ping":  # else the server closes the socket, as it does where nobody is left
                        await send({"type": "pong"})
                    case _:
                        pass

    @asynccontextmanager
    async def socket(self) -> AsyncGenerator[tuple[Callable[[dict[str, Any]], Awaitable[None]], Callable[[], Awaitable[dict[str, Any]]]]]:
        """Open a graphql-transport-ws socket and wait for `connection_ack`; yield (send, receive)."""
        address = self.url.replace("http", "ws", 1) + "/graphql"
        async with connect(address, subprotocols=["graphql-transport-ws"], max_size=None, close_timeout=1) as socket:  # pyright: ignore[reportArgumentType] - a NewType of str

            async def send(message: dict[str, Any]) -> None:
                await socket.send(orjson.dumps(message).decode())

            async def receive() -> dict[str, Any]:
                return orjson.loads(await socket.recv())

            await send({"type": "connection_init", "payload": {"Authorization": f"Bearer {self.token}"} if self.token else {}})
            assert (await receive())["type"] == "connection_ack"
            yield send, receive
