"""A proxy before PostgreSQL, Redis and S3 that injects network faults into their connections.

Its argument is a JSON document of its links. Each line on its standard input names a link and may replace its faults; the response is how
often each fault struck on that link since they were last replaced: a fault that never struck proves nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

CHUNK = 65_536
REQUEST = re.compile(rb"(GET|PUT|POST|HEAD|DELETE) /\S* HTTP/1\.1\r\n")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HANG_POLL_INTERVAL = 0.05
CUT_OFFSET = "bytes before a cut"


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a link. Probabilities are for each chunk; those of HTTP faults for each request."""

    refuse: bool = False
    stall: bool = False
    delay: float = 0.0  # seconds, at most
    drop: float = 0.0
    half_close: float = 0.0
    error: float = 0.0  # 500 or 503 instead of a response
    hang: float = 0.0  # no response
    cut: float = 0.0  # the transfer is cut midway
    lose: float = 0.0  # executed, but the response is lost
    times: int | None = None  # most HTTP faults

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def active_names(self) -> list[str]:
        """The names of the faults that may strike."""
        return [name for name, value in asdict(self).items() if value and name != "times"]


@dataclass
class Link:
    """A local port that leads to one server."""

    name: str
    host: str
    port: int
    http: bool
    random: random.Random
    faults: Faults = field(default_factory=Faults)
    http_injections: int = 0
    injections: Counter[str] = field(default_factory=Counter[str])
    writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def set_faults(self, faults: Faults) -> None:
        self.faults, self.http_injections, self.injections = faults, 0, Counter()
        if faults.refuse:
            for writer in list(self.writers):
                abort(writer)

    async def serve(self) -> int:
        server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse:
            self.injections["refuse"] += 1
            abort(writer)
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection(self.host, self.port)
        except OSError:
            abort(writer)
            return
        connection = ProxiedConnection(self, (reader, writer), (upstream_reader, upstream))
        self.writers |= {writer, upstream}
        try:
            await connection.run()
        finally:
            self.writers -= {writer, upstream}
            abort(writer)
            abort(upstream)

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def next_http_fault(self) -> str | None:
        """Return the fault of the next request."""
        faults = self.faults
        if faults.times is not None and self.http_injections >= faults.times:
            return None
        for name in ("error", "hang", "cut", "lose"):
            if self.happens(getattr(faults, name)):
                self.http_injections += 1
                return name
        return None


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ProxiedConnection:
    """A client's connection and ours to the server."""

    def __init__(self, link: Link, client: Streams, server: Streams) -> None:
        self._link = link
        self._client = client
        self._server = server
        self._bytes_until_cut: dict[str, int] = {}  # bytes that may still pass, by direction
        self._bytes_passed = 0  # of the transfer to cut
        self._loses_response = False
        self._cuts_response = False

    async def run(self) -> None:
        up = asyncio.create_task(self._pump(self._client[0], self._server[1], "up"))
        down = asyncio.create_task(self._pump(self._server[0], self._client[1], "down"))
        _, pending = await asyncio.wait([up, down], return_when=asyncio.FIRST_EXCEPTION)
        for task in pending:
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        """Forward one direction until its end; an exception ends both."""
        link = self._link
        while chunk := await reader.read(CHUNK):
            if link.faults.stall:
                link.injections["stall"] += 1
            while link.faults.stall:
                await asyncio.sleep(HANG_POLL_INTERVAL)
            if link.faults.delay:
                link.injections["delay"] += 1
                await asyncio.sleep(link.random.uniform(0, link.faults.delay))
            if link.happens(link.faults.drop):
                link.injections["drop"] += 1
                raise ConnectionAbortedError
            if link.happens(link.faults.half_close):
                link.injections["half_close"] += 1
                break
            if link.http:
                await self._inject_http_fault(chunk, direction)
            remaining = self._bytes_until_cut.get(direction)
            if remaining is not None and len(chunk) >= remaining:
                writer.write(chunk[:remaining])
                with suppress(OSError):
                    await writer.drain()
                link.injections["cut"] += 1
                link.injections[CUT_OFFSET] = max(link.injections[CUT_OFFSET], self._bytes_passed + remaining)
                raise ConnectionAbortedError
            if remaining is not None:
                self._bytes_until_cut[direction] = remaining - len(chunk)
                self._bytes_passed += len(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def _inject_http_fault(self, chunk: bytes, direction: str) -> None:
        link = self._link
        if direction == "down":
            if chunk.startswith(b"HTTP/1.1 100 "):  # an interim response: the request has not been executed yet
                return
            if self._loses_response:
                link.injections["lose"] += 1
                raise ConnectionAbortedError
            if self._cuts_response:
                self._cuts_response = False
                self._bytes_until_cut[direction] = self._random_cut_offset(chunk)
            return
        if not REQUEST.match(chunk):
            return
        fault = link.next_http_fault()
        if fault == "error":
            link.injections[fault] += 1
            status = link.random.choice(["500 Internal Server Error", "503 Service Unavailable"])
            body = b"<Error><Code>Injected</Code><Message>By the harness.</Message></Error>"
            header = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            self._client[1].write(header.encode() + body)
            await self._client[1].drain()
            await asyncio.sleep(0.05)
            raise ConnectionAbortedError
        if fault == "hang":
            link.injections[fault] += 1
            faults = link.faults
            while link.faults is faults and not self._client[0].at_eof():
                await asyncio.sleep(HANG_POLL_INTERVAL)
            raise ConnectionAbortedError
        if fault == "cut" and chunk.startswith((b"PUT", b"POST")):
            self._bytes_until_cut[direction] = self._random_cut_offset(chunk)
        elif fault == "cut":
            self._cuts_response = True
        elif fault == "lose":
            self._loses_response = True

    def _random_cut_offset(self, chunk: bytes) -> int:
        """Return after how many bytes to cut the message that starts with this chunk: anywhere in it, however long it is."""
        header_length = chunk.find(b"\r\n\r\n") + 4
        length = LENGTH.search(chunk[:header_length])
        return self._link.random.randrange(1, max(2, header_length + (0 if length is None else int(length[1]))))


def abort(writer: asyncio.StreamWriter) -> None:
    """Close at once with a TCP reset."""
    with suppress(OSError):
        writer.transport.abort()


async def main(document: dict[str, Any]) -> None:
    rng = random.Random(document["seed"])
    links = {link_document["name"]: Link(random=random.Random(rng.random()), **link_document) for link_document in document["links"]}
    print(json.dumps({name: await link.serve() for name, link in links.items()}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        request = json.loads(line)
        link = links[request["link"]]
        injections = link.injections
        if "faults" in request:
            link.set_faults(Faults(**request["faults"]))
        print(json.dumps(injections), flush=True)


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
