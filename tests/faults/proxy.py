"""A process that stands before Postgres, Redis and S3 and does to their connections what networks do.

Started with a JSON document of its links as argument; each line on its standard input names a link and may replace its faults. Each is
answered with what struck on that link since its faults were last replaced: a fault that struck nobody proves nothing.
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
HANG_LOOK = 0.05
FURTHEST = "bytes before a cut"


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens on a link. Probabilities are for each piece that passes; those of HTTP for each request."""

    refuse: bool = False
    stall: bool = False
    delay: float = 0.0  # seconds at most
    drop: float = 0.0
    half_close: float = 0.0
    error: float = 0.0  # 500 or 503 instead of an answer
    hang: float = 0.0  # no answer
    cut: float = 0.0  # the transfer ends in its middle
    lose: float = 0.0  # done, but the answer is lost
    times: int | None = None  # HTTP faults at most

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def names(self) -> list[str]:
        """Of those that may strike."""
        return [name for name, value in asdict(self).items() if value and name != "times"]


@dataclass
class Link:
    """One port of ours that leads to one server."""

    name: str
    host: str
    port: int
    http: bool
    random: random.Random
    faults: Faults = field(default_factory=Faults)
    injected: int = 0
    struck: Counter[str] = field(default_factory=Counter[str])
    writers: set[asyncio.StreamWriter] = field(default_factory=set[asyncio.StreamWriter])

    def set(self, faults: Faults) -> None:
        self.faults, self.injected, self.struck = faults, 0, Counter()
        if faults.refuse:
            for writer in list(self.writers):
                abort(writer)

    async def serve(self) -> int:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse:
            self.struck["refuse"] += 1
            abort(writer)
            return
        try:
            upstream_reader, upstream = await asyncio.open_connection(self.host, self.port)
        except OSError:
            abort(writer)
            return
        pair = Pair(self, (reader, writer), (upstream_reader, upstream))
        self.writers |= {writer, upstream}
        try:
            await pair.run()
        finally:
            self.writers -= {writer, upstream}
            abort(writer)
            abort(upstream)

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.random.random() < probability

    def http_fault(self) -> str | None:
        """What is to happen to the next request."""
        faults = self.faults
        if faults.times is not None and self.injected >= faults.times:
            return None
        for name in ("error", "hang", "cut", "lose"):
            if self.chance(getattr(faults, name)):
                self.injected += 1
                return name
        return None


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pair:
    """A connection of a client and ours to the server."""

    def __init__(self, link: Link, client: Ends, server: Ends) -> None:
        self._link = link
        self._client = client
        self._server = server
        self._room: dict[str, int] = {}  # bytes that may still pass in a direction
        self._passed = 0  # of the transfer that is to be cut
        self._lost = False
        self._cut = False

    async def run(self) -> None:
        up = asyncio.create_task(self._pump(self._client[0], self._server[1], "up"))
        down = asyncio.create_task(self._pump(self._server[0], self._client[1], "down"))
        _, waiting = await asyncio.wait([up, down], return_when=asyncio.FIRST_EXCEPTION)
        for task in waiting:
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        """Until its end; raising ends both ways."""
        link = self._link
        while chunk := await reader.read(CHUNK):
            if link.faults.stall:
                link.struck["stall"] += 1
            while link.faults.stall:
                await asyncio.sleep(HANG_LOOK)
            if link.faults.delay:
                link.struck["delay"] += 1
                await asyncio.sleep(link.random.uniform(0, link.faults.delay))
            if link.chance(link.faults.drop):
                link.struck["drop"] += 1
                raise ConnectionAbortedError
            if link.chance(link.faults.half_close):
                link.struck["half_close"] += 1
                break
            if link.http:
                await self._mistreat(chunk, way)
            room = self._room.get(way)
            if room is not None and len(chunk) >= room:
                writer.write(chunk[:room])
                with suppress(OSError):
                    await writer.drain()
                link.struck["cut"] += 1
                link.struck[FURTHEST] = max(link.struck[FURTHEST], self._passed + room)
                raise ConnectionAbortedError
            if room is not None:
                self._room[way] = room - len(chunk)
                self._passed += len(chunk)
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()

    async def _mistreat(self, chunk: bytes, way: str) -> None:
        link = self._link
        if way == "down":
            if chunk.startswith(b"HTTP/1.1 100 "):  # the store is about to be told what to do; nothing has been done yet
                return
            if self._lost:
                link.struck["lose"] += 1
                raise ConnectionAbortedError
            if self._cut:
                self._cut = False
                self._room[way] = self._somewhere_in(chunk)
            return
        if not REQUEST.match(chunk):
            return
        fault = link.http_fault()
        if fault == "error":
            link.struck[fault] += 1
            status = link.random.choice(["500 Internal Server Error", "503 Service Unavailable"])
            body = b"<Error><Code>Injected</Code><Message>By the harness.</Message></Error>"
            head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            self._client[1].write(head.encode() + body)
            await self._client[1].drain()
            await asyncio.sleep(0.05)
            raise ConnectionAbortedError
        if fault == "hang":
            link.struck[fault] += 1
            faults = link.faults
            while link.faults is faults and not self._client[0].at_eof():
                await asyncio.sleep(HANG_LOOK)
            raise ConnectionAbortedError
        if fault == "cut" and chunk.startswith((b"PUT", b"POST")):
            self._room[way] = self._somewhere_in(chunk)
        elif fault == "cut":
            self._cut = True
        elif fault == "lose":
            self._lost = True

    def _somewhere_in(self, chunk: bytes) -> int:
        """Bytes after which the message that begins with this chunk is cut: anywhere in it, however long it is."""
        head = chunk.find(b"\r\n\r\n") + 4
        length = LENGTH.search(chunk[:head])
        return self._link.random.randrange(1, max(2, head + (0 if length is None else int(length[1]))))


def abort(writer: asyncio.StreamWriter) -> None:
    """At once and without a farewell: the other side is told by a reset."""
    with suppress(OSError):
        writer.transport.abort()


async def main(document: dict[str, Any]) -> None:
    chance = random.Random(document["seed"])
    links = {each["name"]: Link(random=random.Random(chance.random()), **each) for each in document["links"]}
    print(json.dumps({name: await link.serve() for name, link in links.items()}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = json.loads(line)
        link = links[order["link"]]
        struck = link.struck
        if "faults" in order:
            link.set(Faults(**order["faults"]))
        print(json.dumps(struck), flush=True)


def free_port() -> int:
    """One that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
