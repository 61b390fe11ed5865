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

ROOT = Path(__file__).resolve().parents[2]
TAIL = 4_000
CHUNK = 64 * 1024
FAREWELL = 2.0  # seconds in which a nursery without a worker goes by itself
ANSWER = 10.0  # seconds in which a nursery answers, however busy the machine is; one that does not is as good as dead
START = 30.0  # the same for one that is being started
MOURNING = 2.0  # seconds that what the bodies of a dead nursery forked has to die too
AGAIN = 0.02


class Ended(NamedTuple):
    """How a child died: its exit status (negative: the signal), and who had it killed: memory, lease, or the worker's own reason.

    "nursery" says that the nursery died, and the child with it.
    """

    status: int
    reason: str | None


class NurseryLost(Exception):
    """There is no child: the process that makes children died, did not answer, or could not make one."""


class Child:
    """A process that runs one body. `tail` is the end of what it printed."""

    def __init__(self, house: House, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._house = house
        self._number = number
        self._reader = reader
        self._writer = writer
        self.pid = 0
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
        self._house.say({"do": "arm", "id": self._number, "until": until, "memory": memory})

    def kill(self, reason: str, patience: float = 0.0) -> None:
        """Kill it and all it forked; with patience, ask first and wait so many seconds."""
        self._house.say({"do": "kill", "id": self._number, "reason": reason, "patience": patience})

    async def death(self, patience: float = 0.0) -> Ended:
        """How it ended, once it has been killed or has nothing more to say. A nursery that does not tell in time is killed itself:
        its children die with it."""
        if not (await asyncio.wait([self.ended], timeout=patience + ANSWER))[0]:
            self.kill("stopped")
            if not (await asyncio.wait([self.ended], timeout=ANSWER))[0]:
                self._house.give_up()
        return await self.ended

    def close(self) -> None:
        self._writer.close()
        if self._pipe is not None:  # what nobody read of it would keep it open
            self._pipe.close()


class House:
    """Must be started in a running event loop. `orphans` kills what came to the worker from a dead nursery; whether there was something."""

    def __init__(self, *, preload: bool, orphans: Callable[[], bool]) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        command = [sys.executable, "-m", "workers.runtime.nursery", str(theirs.fileno()), "preload" if preload else "lazy"]
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
        self._orphans = orphans
        self._control = ours
        self._unsaid = bytearray()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._born: dict[int, asyncio.Future[int]] = {}
        self._children: dict[int, Child] = {}
        self._last = 0
        self._retires = False
        self.gone = asyncio.create_task(self._listen(), name="nursery")  # done when nothing of it is left

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def ready(self, patience: float | None = START) -> None:
        """Return when it can make children. Raises `NurseryLost`."""
        await self._answered(self._ready, patience)

    async def _answered(self, answer: asyncio.Future[Any], patience: float | None) -> Any:
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(answer)
        except TimeoutError:
            self.give_up()
            raise NurseryLost("The process that makes children does not answer.") from None

    def give_up(self) -> None:
        """Kill it; whoever waits for a child of it is told so as soon as all of them are dead."""
        log.warning("nursery_does_not_answer", pid=self.pid)
        self._process.kill()

    def retire(self) -> None:
        """It goes when its last child has ended; a child without an order must be closed by who has it."""
        self._retires = True
        if not self._children:
            self.leave()

    def leave(self) -> None:
        """Tell it to kill what is left and go."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        if not self._ready.done():  # it is importing, hears nothing, and has no child
            self._process.kill()

    async def left(self) -> None:
        """Return when it has gone, which it is made to do after a while."""
        if not (await asyncio.wait([self.gone], timeout=FAREWELL))[0]:
            self._process.kill()
        await self.gone

    def say(self, message: dict[str, Any]) -> None:
        """Never waits: what a busy nursery has no room for yet is kept, whole and in order."""
        self._unsaid += json.dumps(message).encode() + b"\n"
        self._say_the_rest()

    def _say_the_rest(self) -> None:
        control, loop = self._control, asyncio.get_running_loop()
        if control.fileno() < 0:
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

    async def spawn(self) -> Child:
        """A child that waits for its order; one at a time. Raises `NurseryLost`, and `OSError` where the worker lacks what a pipe needs."""
        self._last += 1
        number = self._last
        born: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with ExitStack() as theirs:
            child = await self._make(number, born, theirs)
        try:
            child.pid = await self._answered(born, ANSWER)
        except BaseException:
            self._children.pop(number, None)
            child.close()
            raise
        return child

    async def _make(self, number: int, born: asyncio.Future[int], theirs: ExitStack) -> Child:
        with ExitStack() as ours:
            connection, other = socket.socketpair()
            theirs.callback(other.close)
            ours.callback(connection.close)
            output, printed = os.pipe()
            theirs.callback(os.close, printed)
            reading = ours.enter_context(os.fdopen(output, "rb", 0))
            connection.setblocking(False)  # noqa: FBT003 - takes no keyword
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            lines = asyncio.StreamReader()
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), reading)
            ours.pop_all()
        child = Child(self, number, reader, writer)
        child.listen_to(lines, pipe)
        try:
            while self._unsaid and self.is_alive:  # noqa: ASYNC110 - the descriptors travel with their own bytes; it is empty all but always
                await asyncio.sleep(0.01)
            self._born[number] = born
            self._children[number] = child
            socket.send_fds(self._control, [json.dumps({"do": "spawn", "id": number}).encode() + b"\n"], [other.fileno(), printed])
        except BaseException as error:
            self._born.pop(number, None)
            self._children.pop(number, None)
            child.close()
            if isinstance(error, OSError):
                raise NurseryLost("The process that makes children died.") from error
            raise
        return child

    async def _listen(self) -> None:
        loop, control = asyncio.get_running_loop(), self._control
        buffer = b""
        try:
            while part := await loop.sock_recv(control, CHUNK):
                *lines, buffer = (buffer + part).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
        except OSError:
            log.warning("nursery_unreachable", exc_info=True)
        try:
            await asyncio.to_thread(self._process.wait, FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        until = loop.time() + MOURNING
        while self._orphans() and loop.time() < until:  # noqa: ASYNC110 - the kernel tells nobody when all are dead
            await asyncio.sleep(AGAIN)
        self._bereave()
        self._unsaid.clear()
        loop.remove_writer(control)
        control.close()

    def _hear(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready.set_result(None)
        elif "spawned" in message:
            born = self._born.pop(message["spawned"])
            if not born.done():
                born.set_result(message["pid"])
        elif "unborn" in message:
            self._children.pop(message["unborn"], None)
            _lose(self._born.pop(message["unborn"]), f"No process could be made: {message['why']}")
        elif (child := self._children.pop(message["ended"], None)) is not None:
            child.ended.set_result(Ended(message["status"], message["reason"]))
        if self._retires and not self._children:
            self.leave()

    def _bereave(self) -> None:
        """The nursery has gone, and its children with it."""
        for waiting in (self._ready, *self._born.values()):
            _lose(waiting, "The process that makes children died.")
        self._born.clear()
        for child in self._children.values():
            if not child.ended.done():
                child.ended.set_result(Ended(-signal.SIGKILL, "nursery"))
        self._children.clear()


def _lose(waiting: asyncio.Future[Any], why: str) -> None:
    if not waiting.done():
        waiting.set_exception(NurseryLost(why))
        waiting.exception()  # nobody may be waiting any more
