"""A receiver of webhooks on this machine, and endpoints that are sent to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import webhooks
from db.settings import StateSettings
from tests.client import Client
from tests.notifications.telling import dispatched

HOST = "127.0.0.4"  # the tests allow webhooks to it, and no other address of this machine
CREATE = """mutation($input: CreateWebhookEndpointInput!) { createWebhookEndpoint(input: $input) { __typename ... on Problem { code message }
  ... on InvalidInput { issues { path message } } ... on CreateWebhookEndpointPayload { secret endpoint { id } } } }"""
UPDATE = """mutation($input: UpdateWebhookEndpointInput!) { updateWebhookEndpoint(input: $input) { __typename ... on InvalidInput { issues { path } }
  ... on Problem { code } ... on UpdateWebhookEndpointPayload { endpoint { name description url events isActive disabledAt consecutiveFailures } } } }"""
DELIVERIES = """query($id: ID!, $filter: DeliveryFilter) { node(id: $id) { ... on WebhookEndpoint { isActive consecutiveFailures lastError lastUsedAt disabledAt
  deliveries(filter: $filter, first: 50) { edges { node { id messageId eventType subjectId status attempts httpStatus duration requestBody responseBody error isTest
    deliveredAt nextAttemptAt } } } } } }"""


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    headers: Mapping[str, str]
    content: bytes
    path: str = ""

    @property
    def body(self) -> Any:
        return orjson.loads(self.content)


@dataclass
class Receiver:
    """Answers by `respond`, with the status 200 by default, and remembers what it received."""

    port: int = 0
    received: list[Received] = field(default_factory=list[Received])
    answer: Callable[[Received], tuple[int, bytes]] = lambda _: (200, b"ok")
    delay: float = 0.0
    headers: str = ""
    open_requests: int = 0

    def url(self, path: str = "/hook", scheme: str = "http") -> str:
        return f"{scheme}://{HOST}:{self.port}{path}"

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:] if line)}
            request = Received(headers, await reader.readexactly(int(headers.get("content-length", "0"))), head.split(" ", 2)[1])
            self.open_requests += 1
            await asyncio.sleep(self.delay)
            self.received.append(request)
            self.open_requests -= 1
            status, content = self.answer(request)
            writer.write(f"HTTP/1.1 {status} Status\r\nContent-Length: {len(content)}\r\n{self.headers}\r\n".encode() + content)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(context: ssl.SSLContext | None = None, host: str = HOST) -> AsyncGenerator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.respond, host, 0, ssl=context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


async def created(client: Client, url: str, *events: str, **fields: Any) -> tuple[str, str]:
    """Create an endpoint; return its id and secret."""
    answer = await client.one(CREATE, input={"name": "receiver", "url": url, "events": list(events) or ["QUOTA_NEAR"], **fields})
    assert answer["__typename"] == "CreateWebhookEndpointPayload", answer
    return answer["endpoint"]["id"], answer["secret"]


_IS_BUSY = text("""
    SELECT EXISTS (SELECT FROM webhook_endpoints w JOIN users u ON u.id = w.owner_id WHERE w.disabled_at IS NULL AND u.disabled_at IS NULL
        AND (w.due_at <= now() OR w.claimed_until > now())) AS is_busy
""")


async def sent(database: Database, settings: StateSettings) -> None:
    """Dispatch all events, and send all that is due; a worker may do a part of it."""
    async with asyncio.timeout(120):
        while True:
            await dispatched(database)
            for endpoint_id in await webhooks.claim(database, 100):
                await webhooks.serve(database, settings, endpoint_id)
            (row,) = await database.rows(_IS_BUSY)
            if not row.is_busy:
                return
            await asyncio.sleep(0.02)


async def claim_all(database: Database) -> list[UUID]:
    """Claim all endpoints, so that no worker serves them."""
    async with database.work(SYSTEM) as work:
        rows = await work.all(text("UPDATE webhook_endpoints SET claimed_until = now() + interval '1 hour' RETURNING id"))
    return [row.id for row in rows]


async def deliveries(client: Client, endpoint: str, **criteria: Any) -> list[dict[str, Any]]:
    """The deliveries to an endpoint, the oldest first."""
    page = (await client.one(DELIVERIES, id=endpoint, filter=criteria))["deliveries"]
    return [edge["node"] for edge in reversed(page["edges"])]
