"""An HTTP client that costs next to nothing, so that a benchmark measures the servers: one keep-alive connection, POST, Content-Length."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import orjson

from tests.benchmarks import deployment


class RawConnection(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._length: int | None = None  # of the whole response, once its head is known
        self._response: asyncio.Future[bytes] | None = None
        self.transport: Any = None  # uvloop's transports are no `asyncio.Transport`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._length is None:
            head, separator, _ = bytes(self._received).partition(b"\r\n\r\n")
            if not separator:
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._length = len(head) + 4 + int(length)
        if len(self._received) >= self._length and self._response is not None:
            response = bytes(self._received)
            self._received.clear()
            self._length = None
            self._response.set_result(response)

    async def send(self, request: bytes) -> bytes:
        """Return the response, head included."""
        self._response = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._response


def request(query: str, variables: Mapping[str, Any] | None = None) -> bytes:
    body = orjson.dumps({"query": query} if variables is None else {"query": query, "variables": variables})
    head = (
        "POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json\r\n"
        f"authorization: Bearer {deployment.TOKEN}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def rate(port: int, requests: Sequence[bytes], clients: int, seconds: float, shortest: int) -> tuple[float, float]:
    """Return (requests a second, median seconds of a request) with `clients` connections, which send the requests in turn.

    A response has at least `shortest` bytes.
    """
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(RawConnection, "127.0.0.1", port))[1] for _ in range(clients)]
    sent, times = itertools.cycle(requests), list[float]()
    deadline = time.perf_counter() + seconds

    async def send_requests(connection: RawConnection) -> None:
        while (started_at := time.perf_counter()) < deadline:
            response = await connection.send(next(sent))
            if not response.startswith(b"HTTP/1.1 200") or len(response) < shortest:
                raise SystemExit(f"port {port}: {response[:500].decode()}")
            times.append(time.perf_counter() - started_at)

    started_at = time.perf_counter()
    await asyncio.gather(*map(send_requests, connections))
    elapsed = time.perf_counter() - started_at
    for connection in connections:
        connection.transport.close()
    return len(times) / elapsed, median(times)
