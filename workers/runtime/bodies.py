"""Running one body in a child, and telling why it did not make it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from db.services.jobs import Failure, NodeChange, Point
from db.tables.jobs import JobNodeStatus
from workers.runtime import telemetry
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.child import Child, Ended, Nursery, NurseryLost
from workers.runtime.failures import BodyFailed
from workers.runtime.frames import BadFrame
from workers.runtime.logs import Lines
from workers.runtime.reports import Reports
from workers.settings import WorkerSettings

# Seconds between two looks at what a body prints whose log is full: at most some 100 MB/s, and a few per cent of the worker's time.
SLOWED = 0.001
BEHIND = 0.05
DYING = 0.1  # share of a lease that is left to die in: where the machine is busy, or the body has gigabytes, SIGKILL takes a moment to be obeyed
HEAR_OUT, SHORT = 20, 0.05
_NO_MEMORY = (b"memory allocation of", b"out of memory", b"bad_alloc", b"Cannot allocate memory")
_TOLD = {
    "DISK_FULL": "The worker had no disk space left for what the job writes; free some, or give it less to write. ",
    "BODY_EXITED": "The job's process ended itself. ",
}


class Terminated(BodyFailed):
    """The body died of a SIGTERM that its worker did not send: somebody may have told the worker to stop too."""


class LeaseRanOut(Exception):
    """The body was killed because nobody renewed its deadline."""


class Bodies:
    """Lends children to one attempt. `until` is when the lease ends on the monotonic clock; each pulse moves it. By then they are dead."""

    def __init__(self, nursery: Nursery, settings: WorkerSettings, reports: Reports, checkpoints: Checkpoints, until: float) -> None:
        self._nursery = nursery
        self._settings = settings
        self._reports = reports
        self._checkpoints = checkpoints
        self._until = self._last_moment(until)
        self._child: Child | None = None
        self._dying: Child | None = None  # has been asked to end, and may take its time
        self.patience = 0.0
        self.ordered: Callable[[], None] | None = None  # called when a child has been told what to run

    @property
    def is_running(self) -> bool:
        """Whether a child has a body."""
        return self._child is not None

    def renew(self, until: float) -> None:
        """The lease holds until then."""
        self._until = self._last_moment(until)
        for child in (self._child, self._dying):
            if child is not None:
                child.arm(self._until, self._settings.memory_bytes)

    def _last_moment(self, until: float) -> float:
        """When bodies are killed whose lease ends then."""
        return until - DYING * self._settings.lease

    async def run(self, target: str, spec: Mapping[str, Any], folder: Path, *, span: tuple[float, float]) -> dict[str, Any]:
        """The result of "module:function" called with `spec`; its progress fills the `span` of the job's.

        Raises `BodyFailed`, `LeaseRanOut` or `NurseryLost`. Cancelled, it waits until the body is dead, asked to end for `patience`
        seconds first.
        """
        child = self._child = await self._nursery.take()
        printing = asyncio.create_task(self._print(child))
        try:
            if time.monotonic() >= self._until:  # the worker stood still, and another may have begun
                raise LeaseRanOut
            child.arm(self._until, self._settings.memory_bytes)
            order = {"target": target, "spec": dict(spec), "folder": str(folder), "until": self._until}
            await child.order({**order, "limits": self._limits(), "niceness": self._settings.niceness})
            if self.ordered is not None:
                self.ordered()
            try:
                answer = await self._listen(child, span)
            except BadFrame as error:
                raise BodyFailed(_final("BODY_FAILED", f"The body said something that cannot be understood: {error}")) from None
            if answer is None:
                ended = await child.death()
                telemetry.died(ended.status, ended.reason)
                await _heard_out(printing)
                raise self._why(ended, child.tail)
            return self._result(answer)
        finally:
            await self._see_buried(child, asyncio.create_task(self._bury(child, printing)))

    async def _listen(self, child: Child, span: tuple[float, float]) -> dict[str, Any] | None:
        async for message in child.messages():
            if "report" not in message:
                return message
            try:
                self._report(message["report"], span)
                await self._resume(message["report"])
            except (TypeError, ValueError, AttributeError) as error:
                raise BadFrame(f"{type(error).__name__}: {error}") from error
            while self._reports.is_behind:  # noqa: ASYNC110 - a clock empties them, and says so to nobody. The pipe fills; the body waits.
                await asyncio.sleep(BEHIND)
        return None

    async def _see_buried(self, child: Child, burial: asyncio.Task[None]) -> None:
        """Nothing goes on before the body is dead. Told to hurry, it is killed without patience; and then nothing goes on at all."""
        is_stopped = False
        while not burial.done():
            try:
                await asyncio.shield(burial)
            except asyncio.CancelledError:
                is_stopped = True
                child.kill("stopped")
        if is_stopped:  # a stop that comes when the body has just ended is meant for the rest of the task
            raise asyncio.CancelledError

    async def _bury(self, child: Child, printing: asyncio.Task[None]) -> None:
        self._child, self._dying = None, child
        if not child.ended.done():
            child.kill("stopped", self.patience)
        await child.death(self.patience)
        self._dying = None
        await _heard_out(printing)
        printing.cancel()
        child.close()

    async def _print(self, child: Child) -> None:
        lines = Lines()
        async for chunk in child.printed():
            self._reports.say(lines.feed(chunk))
            if self._reports.log_is_full:
                await asyncio.sleep(SLOWED)
        self._reports.say(lines.finish())

    def _report(self, report: dict[str, Any], span: tuple[float, float]) -> None:
        if "progress" in report:
            percent, step = report["progress"]
            low, high = span
            self._reports.progress(low + (high - low) * (percent or 0.0) / 100, str(step))
        for key, status, progress, output, error in report.get("nodes", ()):
            self._reports.node(NodeChange(str(key), JobNodeStatus(status), _percent(status, progress), output, error))
        for key, step, value in report.get("points", ()):
            self._reports.point(Point(str(key), int(step), float(value)))

        for name, position, state, file, is_disposable in report.get("checkpoints", ()):
            path = None if file is None else Path(file)
            self._checkpoints.take(str(name), int(position), dict(state), path, is_disposable=bool(is_disposable))

    async def _resume(self, report: dict[str, Any]) -> None:
        """Before anything else is heard of the body: what was written past the place where it begins is removed."""
        if "resumed" in report:
            name, message = report["resumed"]
            await self._checkpoints.go_on(name, str(message))
        if "restarted" in report:
            name, message = report["restarted"]
            await self._checkpoints.start_over(name, str(message))

    def _limits(self) -> dict[str, int]:
        settings = self._settings
        return {"CPU": settings.cpu_seconds, "FSIZE": settings.file_bytes, "NOFILE": settings.open_files, "CORE": 0}

    def _result(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "result" in answer:
            return answer["result"]
        if "late" in answer:
            raise LeaseRanOut
        if "bad" in answer:
            bad = answer["bad"]
            raise BodyFailed(Failure(bad["code"], bad["message"], retryable=False, row=bad["row"], column=bad["column"]))
        if "memory" in answer:
            raise BodyFailed(_final("OUT_OF_MEMORY", "The job needed more memory than there is. Give it fewer rows or columns."))
        error = answer["error"]
        if error["code"] == "FILE_LIMIT":
            raise BodyFailed(self._file_limit(error["traceback"]))
        message = f"{_TOLD.get(error['code'], '')}{error['message']}"
        raise BodyFailed(Failure(error["code"], message, error["retryable"], error["traceback"]))

    def _why(self, ended: Ended, tail: bytes) -> Exception:
        if ended.reason == "lease":
            return LeaseRanOut()
        if ended.reason == "nursery":
            return NurseryLost("The process that looks after it died.")
        if ended.reason == "processes":
            return BodyFailed(_final("PROCESS_LIMIT", "The job started more processes than it may. Give it fewer at a time."))
        if ended.reason == "memory" or (ended.status == -signal.SIGABRT and any(words in tail for words in _NO_MEMORY)):
            return BodyFailed(self._out_of_memory())
        if ended.reason == "machine memory":
            return BodyFailed(_final("OUT_OF_MEMORY", "The machine ran out of memory and ended the job. Give it fewer rows or columns."))
        if ended.status == -signal.SIGXCPU:
            most = self._settings.cpu_seconds
            return BodyFailed(_final("CPU_LIMIT", f"The job used more than the {most} CPU seconds it may. Give it less to do."))
        if ended.status == -signal.SIGXFSZ:
            return BodyFailed(self._file_limit(None))
        said = tail.decode("utf-8", "replace")[-1_000:] or None
        if ended.status < 0:
            name = signal.Signals(-ended.status).name
            kind = Terminated if ended.status == -signal.SIGTERM and ended.reason is None else BodyFailed
            return kind(Failure("BODY_KILLED", f"The job's process was ended by {name}.", retryable=True, traceback=said, at_once=True))
        return BodyFailed(Failure("BODY_EXITED", f"The job's process ended with {ended.status}.", retryable=True, traceback=said))

    def _file_limit(self, told: str | None) -> Failure:
        mib = self._settings.file_bytes // 1024**2
        message = f"The job wrote a file larger than the {mib} MiB it may. Give it fewer rows or columns."
        return Failure("FILE_LIMIT", message, retryable=False, traceback=told)

    def _out_of_memory(self) -> Failure:
        mib = self._settings.memory_bytes // 1024**2
        return _final("OUT_OF_MEMORY", f"The job needed more memory than the {mib} MiB it may use. Give it fewer rows or columns.")


async def _heard_out(printing: asyncio.Task[None]) -> None:
    """What the dead printed last lies in the pipe, to be read at once; only a process that outlived them may keep it open.

    In many short waits: of a worker that stood still, one long wait would be over before it had looked at the pipe.
    """
    for _ in range(HEAR_OUT):
        if (await asyncio.wait([printing], timeout=SHORT))[0]:
            break


def _final(code: str, message: str) -> Failure:
    return Failure(code, message, retryable=False)


def _percent(status: str, progress: float) -> int:
    return 100 if status == "completed" else max(0, min(100, int(progress)))
