"""One viewer: requests, responses, observed events, and a client at every API."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from websockets.exceptions import WebSocketException

from tests.client import Client, GraphQLErrors
from tests.faults.cluster import Cluster, eventually

RETRYABLE_CODES = {"UNAVAILABLE", "TIMEOUT"}  # the outcome is unknown: retried with the same idempotency key
RETRYABLE_ERRORS = (httpx.HTTPError, OSError, TimeoutError, WebSocketException)


@dataclass(slots=True)
class Submission:
    """A submit and its responses. `expected` is how the job must end unless cancelled; None if several ends are right."""

    owner: str
    key: str
    script: str
    expected: str | None
    job_ids: list[UUID] = field(default_factory=list[UUID])

    @property
    def job(self) -> UUID:
        return self.job_ids[0]


@dataclass(slots=True)
class Subscriber:
    """One subscriber of one job: the events it saw over all its connections."""

    owner: str
    job: UUID
    sequences: list[int] = field(default_factory=list[int])
    connections: int = 0
    done: bool = False


class Viewer:
    """A named viewer with a client at every API; if one does not respond, another is used."""

    def __init__(self, name: str, token: str, cluster: Cluster) -> None:
        self.name = name
        self.token = token
        self._cluster = cluster
        self._clients: dict[str, Client] = {}
        self.dataset = ""
        self.output = ""
        self.version = ""
        self.pipelines: dict[str, asyncio.Task[str]] = {}

    @property
    def version_key(self) -> UUID:
        return UUID(self.version.removeprefix("version_"))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    def client(self, turn: int = 0) -> Client:
        urls = self._cluster.urls
        url = urls[turn % len(urls)]
        if url not in self._clients:
            self._clients[url] = Client(url, self.token)
        return self._clients[url]

    async def execute_with_retries(self, query: str, *, within: float = 90.0, first: int = 0, **variables: Any) -> dict[str, Any]:
        """Return the response of the only root field, with retries across the APIs from `first` on."""
        answers: list[Any] = []
        turns = itertools.count(first)

        async def is_answered() -> bool:
            try:
                answers.append(await self.client(next(turns)).one(query, **variables))
            except GraphQLErrors as error:
                if not set(error.codes) <= RETRYABLE_CODES:
                    raise
            except (*RETRYABLE_ERRORS, ValueError):
                pass
            if not answers:
                await asyncio.sleep(0.1)
            return bool(answers)

        await eventually(is_answered, within, f"an answer to {query[:60]}")
        return answers[0]

    async def pipeline(self, name: str, steps: list[tuple[str, str, dict[str, Any]]], **fields: Any) -> str:
        """Return the pipeline, created at the first call."""
        if name not in self.pipelines:
            self.pipelines[name] = asyncio.create_task(self._create_pipeline(name, steps, fields))
        return await self.pipelines[name]

    async def _create_pipeline(self, name: str, steps: list[tuple[str, str, dict[str, Any]]], fields: dict[str, Any]) -> str:
        return (await self.client().create_pipeline(name, *steps, **fields))["pipeline"]["id"]
