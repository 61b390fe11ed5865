"""The worker's client of one forkserver process: its commands, its child processes, and their end when the forkserver dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import structlog
import uvloop

from workers.runtime import frames, sandbox

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TAIL_BYTES = 4_000
CHUNK_BYTES = 64 * 1024
EXIT_TIMEOUT = 2.0  # seconds in which a forkserver exits after its socket was closed
RESPONSE_TIMEOUT = 10.0  # seconds in which a forkserver responds even on a busy machine; after that it is killed
START_TIMEOUT = 30.0  # the same for a forkserver that is starting
ORPHAN_TIMEOUT = 2.0  # seconds to wait until the descendants of a dead forkserver have died
ORPHAN_POLL_INTERVAL = 0.02


class ChildExit(NamedTuple):
    """How a child ended: its exit status (negative: the signal) and why it was killed: by a limit (memory, lease …) or by the worker.

    The reason "forkserver" means that the forkserver died, and the child with it.
    """

    status: int
    reason: str | None


class ForkserverUnavailable(Exception):
    """There is no child process: the forkserver died, did not respond, or could not fork."""


class ChildHandle:
    """A child process that runs one body. `tail` is the end of its output."""

    def __init__(self, forkserver: ForkserverClient, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._forkserver = forkserver
        self._number = number
        self._reader = reader
        self._writer = writer
        self.pid = 0
        self.exited: asyncio.Future[ChildExit] = asyncio.get_running_loop().create_future()
        self.tail = b""
        self.has_sent = False  # a message since the last request
        self.home: Path | None = None  # the folder that the child reaches if it may run several bodies; removed with it
        self._output_reader: asyncio.StreamReader | None = None
        self._output_transport: asyncio.ReadTransport | None = None

    async def send_request(self, message: dict[str, Any]) -> None:
        """Send a request: what to run, and its limits."""
        self.has_sent = False
        await self.send(message)

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message. One that a dead child does not take is dropped: its exit tells."""
        self._writer.write(frames.encode(message))
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the child's messages until it closes the socket."""
        while (message := await frames.read(self._reader)) is not None:
            self.has_sent = True
            yield message

    async def output_chunks(self, end: bytes) -> AsyncIterator[bytes]:
        """Yield the output of the child and its descendants in chunks, up to `end`, which a child writes that may run another body."""
        assert self._output_reader is not None
        self.tail = held_back = b""
        while chunk := await self._output_reader.read(CHUNK_BYTES):
            chunk, found, _ = (held_back + chunk).partition(end)
            held_back = b"" if found else chunk[_end_of_text(chunk, end) :]
            chunk = chunk.removesuffix(held_back)
            self.tail = (self.tail + chunk)[-TAIL_BYTES:]
            yield chunk
            if found:
                return
        yield held_back

    def attach_output(self, reader: asyncio.StreamReader, transport: asyncio.ReadTransport) -> None:
        self._output_reader, self._output_transport = reader, transport

    def set_limits(self, deadline: float | None, memory_limit: int | None) -> None:
        """Have the child killed at `deadline` (monotonic clock), or above `memory_limit` bytes. Each heartbeat extends the deadline.

        A child that is kept for another body has neither.
        """
        self._forkserver.send({"do": "set_limits", "id": self._number, "deadline": deadline, "memory_limit": memory_limit})

    def kill(self, reason: str, grace: float = 0.0) -> None:
        """Kill the child and its descendants; with a grace period, send SIGTERM first and SIGKILL after so many seconds."""
        self._forkserver.send({"do": "kill", "id": self._number, "reason": reason, "grace": grace})

    async def wait(self, grace: float = 0.0) -> ChildExit:
        """Wait for the exit of a child that was killed or has closed its socket. A forkserver that does not report it in time is
        killed, and its children with it."""
        if not (await asyncio.wait([self.exited], timeout=grace + RESPONSE_TIMEOUT))[0]:
            self.kill("stopped")
            if not (await asyncio.wait([self.exited], timeout=RESPONSE_TIMEOUT))[0]:
                self._forkserver.kill_unresponsive()
        return await self.exited

    @property
    def is_retiring(self) -> bool:
        """Whether its forkserver is to exit with its last child."""
        return self._forkserver.is_retiring

    def remove_home(self) -> None:
        """Remove the child's folder, in a thread: a body may have left a million files there."""
        if self.home is not None:
            asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, self.home, True)  # noqa: FBT003 - ignores errors

    def close(self) -> None:
        self._writer.close()
        if self._output_transport is not None:  # unread output would keep it open
            self._output_transport.close()


class ForkserverClient:
    """Starts a forkserver; needs a running event loop.

    It gets a clean environment, with the variables named in `variables` (see `sandbox`), since its children inherit its memory.
    `kill_orphans` kills processes that a dead forkserver left to the worker, and returns whether there were any.
    """

    def __init__(self, *, preload: bool, kill_orphans: Callable[[], bool], variables: Collection[str] = ()) -> None:
        ours, theirs = socket.socketpair()
        environment = sandbox.clean_environment(os.environ, variables)
        environment["PYTHONPATH"] = os.pathsep.join([str(sandbox.PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # -P: modules are not imported from the working folder, which bodies may not read.
        command = [sys.executable, "-P", "-m", "workers.runtime.forkserver", str(theirs.fileno()), "preload" if preload else "lazy"]
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
        self.closed = asyncio.create_task(self._listen(), name="forkserver")  # done when the forkserver and all its descendants are dead

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def child_count(self) -> int:
        return len(self._children)

    @property
    def is_retiring(self) -> bool:
        return self._is_retiring

    async def wait_ready(self, timeout: float | None = START_TIMEOUT) -> None:
        """Return when the forkserver can fork. Raises `ForkserverUnavailable`."""
        await self._await_response(self._ready, timeout)

    async def _await_response(self, response: asyncio.Future[Any], timeout: float | None) -> Any:
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(response)
        except TimeoutError:
            self.kill_unresponsive()
            raise ForkserverUnavailable("The forkserver does not respond.") from None

    def kill_unresponsive(self) -> None:
        """Kill the forkserver; pending calls fail as soon as all its children are dead."""
        log.warning("forkserver_unresponsive", pid=self.pid)
        self._process.kill()

    def retire(self) -> None:
        """Let the forkserver exit with its last child. A child without a request must be closed by its owner."""
        self._is_retiring = True
        if not self._children:
            self.close()

    def close(self) -> None:
        """Make the forkserver kill its children and exit."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        if not self._ready.done():  # it is importing, reads no commands, and has no child
            self._process.kill()

    async def wait_closed(self) -> None:
        """Wait for the forkserver's exit; kill it after `EXIT_TIMEOUT`."""
        if not (await asyncio.wait([self.closed], timeout=EXIT_TIMEOUT))[0]:
            self._process.kill()
        await self.closed

    def send(self, message: dict[str, Any]) -> None:
        """Send a command without blocking: what the socket does not take yet is buffered in order."""
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
        except OSError:  # the forkserver has died; `_listen` fails the pending calls
            self._send_buffer.clear()
        loop.remove_writer(control)

    async def spawn(self) -> ChildHandle:
        """Return a child that waits for its request; one call at a time. Raises `ForkserverUnavailable`, or `OSError` if no pipe can be created."""
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
            read_file = _open_pipe(read_fd, ours)
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
            while self._send_buffer and self.is_alive:  # noqa: ASYNC110 - descriptors must travel with their own bytes; the buffer is nearly always empty
                await asyncio.sleep(0.01)
            self._spawning[number] = spawned
            self._children[number] = child
            socket.send_fds(self._control, [json.dumps({"do": "spawn", "id": number}).encode() + b"\n"], [other.fileno(), write_fd])
        except BaseException as error:
            self._spawning.pop(number, None)
            self._children.pop(number, None)
            child.close()
            if isinstance(error, OSError):
                raise ForkserverUnavailable("The forkserver died.") from error
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
            log.warning("forkserver_unreachable", exc_info=True)
        exited = asyncio.create_task(asyncio.to_thread(_wait_without_reaping, self.pid))
        if not (await asyncio.wait([exited], timeout=EXIT_TIMEOUT))[0]:
            self._process.kill()
            await exited
        self._process.wait()  # in the thread in which `kill` is called, so that no signal goes to another process that got the pid
        deadline = loop.time() + ORPHAN_TIMEOUT
        while self._kill_orphans() and loop.time() < deadline:  # noqa: ASYNC110 - there is no event for the death of all descendants
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
        elif "spawn_failed" in message:
            self._children.pop(message["spawn_failed"], None)
            _fail(self._spawning.pop(message["spawn_failed"]), f"No process could be forked: {message['reason']}")
        elif (child := self._children.pop(message["exited"], None)) is not None:
            child.exited.set_result(ChildExit(message["status"], message["reason"]))
        if self._is_retiring and not self._children:
            self.close()

    def _fail_pending(self) -> None:
        """Fail all pending calls: the forkserver is dead, and its children with it."""
        for future in (self._ready, *self._spawning.values()):
            _fail(future, "The forkserver died.")
        self._spawning.clear()
        for child in self._children.values():
            if not child.exited.done():
                child.exited.set_result(ChildExit(-signal.SIGKILL, "forkserver"))
        self._children.clear()


def _open_pipe(descriptor: int, stack: ExitStack) -> BinaryIO:
    """Open the pipe for the event loop; the stack closes it if the loop does not take it over."""
    if isinstance(asyncio.get_running_loop(), uvloop.Loop):
        # libuv closes the descriptor, and uvloop would then close the file: by then another thread may have got the same descriptor.
        stack.callback(os.close, descriptor)
        return os.fdopen(descriptor, "rb", 0, closefd=False)
    return stack.enter_context(os.fdopen(descriptor, "rb", 0))


def _end_of_text(chunk: bytes, end: bytes) -> int:
    """The position in `chunk` of what may be the beginning of `end`; the length of `chunk` if nothing is."""
    start = chunk.rfind(end[:1], max(0, len(chunk) - len(end) + 1))
    return start if start >= 0 and end.startswith(chunk[start:]) else len(chunk)


def _wait_without_reaping(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # `is_alive` has reaped it
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _fail(future: asyncio.Future[Any], reason: str) -> None:
    if not future.done():
        future.set_exception(ForkserverUnavailable(reason))
        future.exception()  # marks it as retrieved, since nobody may be waiting
