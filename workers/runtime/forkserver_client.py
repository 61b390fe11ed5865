"""One nursery process as its worker sees it: what is said to it, the children it makes, and what becomes of them when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from workers.runtime import frames

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PROJECT_ROOT = Path(__file__).resolve().parents[2]
TAIL_BYTES = 4_000
CHUNK_BYTES = 64 * 1024
EXIT_TIMEOUT = 2.0  # seconds in which a nursery without a worker goes by itself
RESPONSE_TIMEOUT = 10.0  # seconds in which a nursery answers, however busy the machine is; one that does not is as good as dead
START_TIMEOUT = 30.0  # the same for one that is being started
ORPHAN_TIMEOUT = 2.0  # seconds that what the bodies of a dead nursery forked has to die too
ORPHAN_POLL_INTERVAL = 0.02


class ChildExit(NamedTuple):
    """How a child died: its exit status (negative: the signal), and who had it killed: memory, lease, or the worker's own reason.

    "nursery" says that the nursery died, and the child with it.
    """

    status: int
    reason: str | None


class ForkserverUnavailable(Exception):
    """There is no child: the process that makes children died, did not answer, or could not make one."""


class ChildHandle:
    """A process that runs one body. `tail` is the end of what it printed."""

    def __init__(self, forkserver: ForkserverClient, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._forkserver = forkserver
        self._number = number
        self._reader = reader
        self._writer = writer
        self.pid = 0
        self.exited: asyncio.Future[ChildExit] = asyncio.get_running_loop().create_future()
        self.tail = b""
        self._output_reader: asyncio.StreamReader | None = None
        self._output_transport: asyncio.ReadTransport | None = None

    async def send_request(self, message: dict[str, Any]) -> None:
        """Tell it what to run."""
        self._writer.write(frames.encode(message))
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What it says, until it has gone."""
        while (message := await frames.read(self._reader)) is not None:
            yield message

    async def output_chunks(self) -> AsyncIterator[bytes]:
        """What it and all it forked print, in pieces."""
        assert self._output_reader is not None
        while chunk := await self._output_reader.read(CHUNK_BYTES):
            self.tail = (self.tail + chunk)[-TAIL_BYTES:]
            yield chunk

    def attach_output(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._output_reader, self._output_transport = reader, transport

    def set_limits(self, deadline: float, memory_limit: int) -> None:
        """Let it live until then (monotonic clock) and no further; to be said again with each pulse."""
        self._forkserver.send({"do": "arm", "id": self._number, "until": deadline, "memory": memory_limit})

    def kill(self, reason: str, grace: float = 0.0) -> None:
        """Kill it and all it forked; with patience, ask first and wait so many seconds."""
        self._forkserver.send({"do": "kill", "id": self._number, "reason": reason, "patience": grace})

    async def wait(self, grace: float = 0.0) -> ChildExit:
        """How it ended, once it has been killed or has nothing more to say. A nursery that does not tell in time is killed itself:
        its children die with it."""
        if not (await asyncio.wait([self.exited], timeout=grace + RESPONSE_TIMEOUT))[0]:
            self.kill("stopped")
            if not (await asyncio.wait([self.exited], timeout=RESPONSE_TIMEOUT))[0]:
                self._forkserver.kill_unresponsive()
        return await self.exited

    def close(self) -> None:
        self._writer.close()
        if self._output_transport is not None:  # what nobody read of it would keep it open
            self._output_transport.close()


class ForkserverClient:
    """Must be started in a running event loop. `orphans` kills what came to the worker from a dead nursery; whether there was something."""

    def __init__(self, *, preload: bool, kill_orphans: Callable[[], bool]) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        command = [sys.executable, "-m", "workers.runtime.forkserver", str(theirs.fileno()), "preload" if preload else "lazy"]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                    command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True, stdin=subprocess.DEVNULL
                )
        except OSError:
            ours.close()
            raise
        ours.setblocking(False)  # noqa: FBT003 - takes no keyword
        loop = asyncio.get_running_loop()
        self._kill_orphans = kill_orphans
        self._control = ours
        self._send_buffer = bytearray()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, ChildHandle] = {}
        self._last_number = 0
        self._is_retiring = False
        self.closed = asyncio.create_task(self._listen(), name="forkserver")  # done when nothing of it is left

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def wait_ready(self, timeout: float | None = START_TIMEOUT) -> None:
        """Return when it can make children. Raises `NurseryLost`."""
        await self._await_response(self._ready, timeout)

    async def _await_response(self, response: asyncio.Future[Any], timeout: float | None) -> Any:
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(response)
        except TimeoutError:
            self.kill_unresponsive()
            raise ForkserverUnavailable("The process that makes children does not answer.") from None

    def kill_unresponsive(self) -> None:
        """Kill it; whoever waits for a child of it is told so as soon as all of them are dead."""
        log.warning("nursery_does_not_answer", pid=self.pid)
        self._process.kill()

    def retire(self) -> None:
        """It goes when its last child has ended; a child without an order must be closed by who has it."""
        self._is_retiring = True
        if not self._children:
            self.close()

    def close(self) -> None:
        """Tell it to kill what is left and go."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        if not self._ready.done():  # it is importing, hears nothing, and has no child
            self._process.kill()

    async def wait_closed(self) -> None:
        """Return when it has gone, which it is made to do after a while."""
        if not (await asyncio.wait([self.closed], timeout=EXIT_TIMEOUT))[0]:
            self._process.kill()
        await self.closed

    def send(self, message: dict[str, Any]) -> None:
        """Never waits: what a busy nursery has no room for yet is kept, whole and in order."""
        self._send_buffer += json.dumps(message).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        control, loop = self._control, asyncio.get_running_loop()
        if control.fileno() < 0:
            self._send_buffer.clear()
            return
        try:
            while self._send_buffer:
                del self._send_buffer[: control.send(self._send_buffer)]
        except BlockingIOError:
            loop.add_writer(control, self._flush)
            return
        except OSError:  # it has gone; whoever waits for a child of it is told so
            self._send_buffer.clear()
        loop.remove_writer(control)

    async def spawn(self) -> ChildHandle:
        """A child that waits for its order; one at a time. Raises `NurseryLost`, and `OSError` where the worker lacks what a pipe needs."""
        self._last_number += 1
        number = self._last_number
        spawned: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with ExitStack() as theirs:
            child = await self._request_child(number, spawned, theirs)
        try:
            child.pid = await self._await_response(spawned, RESPONSE_TIMEOUT)
        except BaseException:
            self._children.pop(number, None)
            child.close()
            raise
        return child

    async def _request_child(self, number: int, spawned: asyncio.Future[int], theirs: ExitStack) -> ChildHandle:
        with ExitStack() as ours:
            connection, other = socket.socketpair()
            theirs.callback(other.close)
            ours.callback(connection.close)
            read_fd, write_fd = os.pipe()
            theirs.callback(os.close, write_fd)
            read_file = ours.enter_context(os.fdopen(read_fd, "rb", 0))
            connection.setblocking(False)  # noqa: FBT003 - takes no keyword
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            output_reader = asyncio.StreamReader()
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(output_reader), read_file
            )
            ours.pop_all()
        child = ChildHandle(self, number, reader, writer)
        child.attach_output(output_reader, transport)
        try:
            while self._send_buffer and self.is_alive:  # noqa: ASYNC110 - the descriptors travel with their own bytes; it is empty all but always
                await asyncio.sleep(0.01)
            self._spawning[number] = spawned
            self._children[number] = child
            socket.send_fds(self._control, [json.dumps({"do": "spawn", "id": number}).encode() + b"\n"], [other.fileno(), write_fd])
        except BaseException as error:
            self._spawning.pop(number, None)
            self._children.pop(number, None)
            child.close()
            if isinstance(error, OSError):
                raise ForkserverUnavailable("The process that makes children died.") from error
            raise
        return child

    async def _listen(self) -> None:
        loop, control = asyncio.get_running_loop(), self._control
        buffer = b""
        try:
            while chunk := await loop.sock_recv(control, CHUNK_BYTES):
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    self._handle_message(json.loads(line))
        except OSError:
            log.warning("nursery_unreachable", exc_info=True)
        try:
            await asyncio.to_thread(self._process.wait, EXIT_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        deadline = loop.time() + ORPHAN_TIMEOUT
        while self._kill_orphans() and loop.time() < deadline:  # noqa: ASYNC110 - the kernel tells nobody when all are dead
            await asyncio.sleep(ORPHAN_POLL_INTERVAL)
        self._fail_pending()
        self._send_buffer.clear()
        loop.remove_writer(control)
        control.close()

    def _handle_message(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready.set_result(None)
        elif "spawned" in message:
            spawned = self._spawning.pop(message["spawned"])
            if not spawned.done():
                spawned.set_result(message["pid"])
        elif "unborn" in message:
            self._children.pop(message["unborn"], None)
            _fail(self._spawning.pop(message["unborn"]), f"No process could be made: {message['why']}")
        elif (child := self._children.pop(message["ended"], None)) is not None:
            child.exited.set_result(ChildExit(message["status"], message["reason"]))
        if self._is_retiring and not self._children:
            self.close()

    def _fail_pending(self) -> None:
        """The nursery has gone, and its children with it."""
        for future in (self._ready, *self._spawning.values()):
            _fail(future, "The process that makes children died.")
        self._spawning.clear()
        for child in self._children.values():
            if not child.exited.done():
                child.exited.set_result(ChildExit(-signal.SIGKILL, "nursery"))
        self._children.clear()


def _fail(future: asyncio.Future[Any], reason: str) -> None:
    if not future.done():
        future.set_exception(ForkserverUnavailable(reason))
        future.exception()  # nobody may be waiting any more
