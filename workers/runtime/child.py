"""The worker's end of its children: a warm one waits, so that a body starts at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import structlog

from workers.runtime import frames

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ROOT = Path(__file__).resolve().parents[2]
TAIL = 4_000
CHUNK = 64 * 1024
WARM_AFTER = 0.05
FAREWELL = 2.0  # seconds in which a nursery without a worker goes by itself


class Ended(NamedTuple):
    """How a child died: its exit status (negative: the signal), and who had it killed: memory, lease, or the worker's own reason."""

    status: int
    reason: str | None


class NurseryLost(Exception):
    """The process that makes children died; its children with it."""


class Child:
    """A process that runs one body. `tail` is the end of what it printed."""

    def __init__(self, nursery: Nursery, number: int, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._nursery = nursery
        self._number = number
        self._reader = reader
        self._writer = writer
        self.pid = pid
        self.ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.tail = b""
        self._output: asyncio.StreamReader | None = None
        self._pipe: asyncio.ReadTransport | None = None

    async def order(self, message: dict[str, Any]) -> None:
        """Tell it what to run."""
        self._writer.write(frames.encode(message))
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it has gone."""
        while (message := await frames.read(self._reader)) is not None:
            yield message

    async def printed(self) -> AsyncIterator[bytes]:
        """What it and all it forked print, in pieces."""
        assert self._output is not None
        while chunk := await self._output.read(CHUNK):
            self.tail = (self.tail + chunk)[-TAIL:]
            yield chunk

    def listen_to(self, output: asyncio.StreamReader, pipe: asyncio.ReadTransport) -> None:
        self._output, self._pipe = output, pipe

    def arm(self, until: float, memory: int) -> None:
        """Let it live until then (monotonic clock) and no further; to be said again with each pulse."""
        self._nursery.say({"do": "arm", "id": self._number, "until": until, "memory": memory})

    def kill(self, reason: str, patience: float = 0.0) -> None:
        """Kill it and all it forked; with patience, ask first and wait so many seconds."""
        self._nursery.say({"do": "kill", "id": self._number, "reason": reason, "patience": patience})

    def close(self) -> None:
        self._writer.close()
        if self._pipe is not None:  # what nobody read of it would keep it open
            self._pipe.close()


class Nursery:
    """Makes children. When its process dies it is started again; the children that died with it have ended as by SIGKILL."""

    def __init__(self, *, preload: bool) -> None:
        self._preload = preload
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._unsaid = bytearray()
        self._ready: asyncio.Future[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._born: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, Child] = {}
        self._last = 0
        self._spare: asyncio.Task[Child] | None = None
        self._spawning = asyncio.Lock()
        self._closing = False

    async def __aenter__(self) -> Self:
        self._warm()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        if self._spare is not None:
            self._spare.cancel()
        if self._control is not None and self._listener is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)  # it sees the end of the stream, kills what is left, and goes
            late = (await asyncio.wait([self._listener], timeout=FAREWELL))[1]
            if late and self._process is not None:  # it imports a library, which takes long on a machine that is busy
                self._process.kill()
            await self._listener

    @property
    def pid(self) -> int | None:
        """Of the nursery's own process."""
        return None if self._process is None else self._process.pid

    async def take(self) -> Child:
        """A child that waits for its order. Raises `NurseryLost` when the process cannot be started."""
        spare, self._spare = self._spare, None
        # Forking takes some milliseconds of a core, which the body that starts now can use better.
        asyncio.get_running_loop().call_later(WARM_AFTER, self._warm)
        if spare is not None:
            try:
                child = await _awaited(spare)
            except (NurseryLost, OSError):
                log.warning("spare_child_lost")
            else:
                if not child.ended.done():
                    return child
                child.close()
        return await _awaited(asyncio.create_task(self._spawn(), name="child"))

    def _warm(self) -> None:
        if self._spare is None and not self._closing:
            self._spare = asyncio.create_task(self._spawn(), name="spare child")
            self._spare.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _renew(self) -> None:
        """The libraries are there now: a child from before would have to import them itself."""
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.add_done_callback(_dismiss)
        self._warm()

    def say(self, message: dict[str, Any]) -> None:
        """Never waits: what a busy nursery has no room for yet is kept, whole and in order."""
        if self._control is not None:
            self._unsaid += json.dumps(message).encode() + b"\n"
            self._say_the_rest()

    def _say_the_rest(self) -> None:
        control, loop = self._control, asyncio.get_running_loop()
        if control is None or control.fileno() < 0:
            self._unsaid.clear()
            return
        try:
            while self._unsaid:
                del self._unsaid[: control.send(self._unsaid)]
        except BlockingIOError:
            loop.add_writer(control, self._say_the_rest)
            return
        except OSError:  # it has gone; whoever waits for a child of it is told so
            self._unsaid.clear()
        loop.remove_writer(control)

    async def _spawn(self) -> Child:
        async with self._spawning:
            await self._started()
            ours, theirs = socket.socketpair()
            output, printed = os.pipe()
            self._last += 1
            number = self._last
            born: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._born[number] = born
            ours.setblocking(False)  # noqa: FBT003 - takes no keyword
            while self._unsaid:  # noqa: ASYNC110 - the descriptors travel with their own bytes, and it is empty all but always
                await asyncio.sleep(0.01)
            try:
                assert self._control is not None
                socket.send_fds(self._control, [json.dumps({"do": "spawn", "id": number}).encode() + b"\n"], [theirs.fileno(), printed])
            except OSError as error:
                ours.close()
                os.close(output)
                raise NurseryLost("The process that makes children died.") from error
            finally:
                theirs.close()
                os.close(printed)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            lines = asyncio.StreamReader()
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(output, "rb", 0)
            )
            child = Child(self, number, 0, reader, writer)
            child.listen_to(lines, pipe)
            self._children[number] = child
            try:
                child.pid = await born
            except BaseException:
                child.close()
                raise
            return child

    async def _started(self) -> None:
        if self._process is None or self._process.poll() is not None:
            ours, theirs = socket.socketpair()
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
            command = [sys.executable, "-m", "workers.runtime.nursery", str(theirs.fileno()), "preload" if self._preload else "lazy"]
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603 - starting takes a millisecond; the command is ours
                command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True, stdin=subprocess.DEVNULL
            )
            theirs.close()
            ours.setblocking(False)  # noqa: FBT003 - takes no keyword
            self._control = ours
            self._ready = asyncio.get_running_loop().create_future()
            self._listener = asyncio.create_task(self._listen(self._process, ours, self._ready), name="nursery")
        assert self._ready is not None
        await asyncio.shield(self._ready)

    async def _listen(self, process: subprocess.Popen[bytes], control: socket.socket, ready: asyncio.Future[None]) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        try:
            while part := await loop.sock_recv(control, CHUNK):
                *lines, buffer = (buffer + part).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line), ready)
        except OSError:
            log.warning("nursery_unreachable", exc_info=True)
        try:
            await asyncio.to_thread(process.wait, FAREWELL)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._bereave(ready)
        if self._control is control:
            self._unsaid.clear()
        loop.remove_writer(control)
        control.close()

    def _hear(self, message: dict[str, Any], ready: asyncio.Future[None]) -> None:
        if "ready" in message:
            ready.set_result(None)
        elif "warm" in message:
            self._renew()
        elif "spawned" in message:
            born = self._born.pop(message["spawned"])
            if not born.done():
                born.set_result(message["pid"])
        elif (child := self._children.pop(message["ended"], None)) is not None:
            child.ended.set_result(Ended(message["status"], message["reason"]))

    def _bereave(self, ready: asyncio.Future[None]) -> None:
        """The nursery has gone, and its children with it."""
        lost = NurseryLost("The process that makes children died.")
        for waiting in (ready, *self._born.values()):
            if not waiting.done():
                waiting.set_exception(lost)
                waiting.exception()
        self._born.clear()
        for child in self._children.values():
            if not child.ended.done():
                child.ended.set_result(Ended(-signal.SIGKILL, None))
        self._children.clear()


async def _awaited(task: asyncio.Task[Child]) -> Child:
    """The child; when the waiting is cancelled, the child that comes is sent away."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_dismiss)
        raise


def _dismiss(task: asyncio.Task[Child]) -> None:
    """A child without an order ends when its pipe does."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
