"""A minimal Trellis client: GraphQL over HTTP, subscriptions over one websocket each, files by PUT."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol


class ApiError(Exception):
    """The API returned errors or a problem."""


class Api:
    """An authenticated client. Every method raises `ApiError` with the API's message."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self._store = httpx.AsyncClient(timeout=120)

    async def close(self) -> None:
        await self._http.aclose()
        await self._store.aclose()

    async def execute(self, query: str, **variables: Any) -> Any:
        """The value of the query's only root field."""
        response = (await self._http.post("/graphql", json={"query": query, "variables": variables})).json()
        if response.get("errors"):
            raise ApiError("; ".join(error["message"] for error in response["errors"]))
        (value,) = response["data"].values()
        return value

    async def mutate(self, mutation: str, fields: str, **values: Any) -> dict[str, Any]:
        """Call a mutation with one input and select `fields` of its payload."""
        name = mutation[0].upper() + mutation[1:]
        query = f"mutation($input: {name}Input!) {{ {mutation}(input: $input) {{ __typename ... on {name}Payload {{ {fields} }} ... on Problem {{ code message }} }} }}"
        payload = await self.execute(query, input=values)
        if "code" in payload:
            raise ApiError(f"{payload['code']}: {payload['message']}")
        return payload

    async def find_or_create(self, kind: str, name: str, **fields: Any) -> str:
        """The id of the viewer's dataset, pipeline or experiment with this name, created if missing."""
        query = f"query($filter: {kind.capitalize()}Filter) {{ {kind}s(first: 1, filter: $filter) {{ edges {{ node {{ id }} }} }} }}"
        viewer = await self.execute("{ viewer { id } }")
        connection = await self.execute(query, filter={"name": {"eq": name}, "ownerId": viewer["id"]})
        if connection["edges"]:
            return connection["edges"][0]["node"]["id"]
        return (await self.mutate(f"create{kind.capitalize()}", f"{kind} {{ id }}", name=name, **fields))[kind]["id"]

    async def upload(self, dataset: str, filename: str, content: bytes) -> tuple[str, str]:
        """Announce, PUT and complete: (version id, INGEST job id)."""
        payload = await self.mutate(
            "requestUpload",
            "upload { id method url headers { name value } }",
            datasetId=dataset,
            filename=filename,
            sizeBytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            contentType="text/csv",
        )
        upload = payload["upload"]
        headers = {header["name"]: header["value"] for header in upload["headers"]}
        response = await self._store.request(upload["method"], upload["url"], content=content, headers=headers)
        if response.status_code != 200:
            raise ApiError(f"The object store answered {response.status_code} to the upload of {filename}.")
        completed = await self.mutate("completeUpload", "version { id } job { id }", uploadId=upload["id"])
        return completed["version"]["id"], completed["job"]["id"]

    async def subscribe(self, query: str, **variables: Any) -> AsyncGenerator[Any]:
        """The value of the subscription's field for each event, until it completes. Raises `ApiError` if the connection is closed before."""
        address = self.url.replace("http", "ws", 1) + "/graphql"
        async with connect(address, subprotocols=[Subprotocol("graphql-transport-ws")], max_size=None) as socket:

            async def send(message: dict[str, Any]) -> None:
                await socket.send(orjson.dumps(message).decode())

            try:
                await send({"type": "connection_init", "payload": {"Authorization": f"Bearer {self.token}"}})
                await socket.recv()
                await send({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}})
                while True:
                    message = orjson.loads(await socket.recv())
                    if message["type"] == "ping":  # a client that does not answer is given up
                        await send({"type": "pong"})
                    elif message["type"] == "next":
                        (value,) = message["payload"]["data"].values()
                        yield value
                    elif message["type"] == "error":
                        raise ApiError("; ".join(error["message"] for error in message["payload"]))
                    elif message["type"] == "complete":
                        return
            except ConnectionClosed as error:
                raise ApiError(f"The connection was closed before the stream had ended: {error}. Run the demo again.") from error
