"""Running one body in a child, and telling why it did not make it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db.services.jobs import Failure, NodeChange, Point
from db.tables.jobs import JobNodeStatus
from workers.runtime.child import Child, Ended, Nursery
from workers.runtime.frames import BadFrame
from workers.runtime.reports import Reports
from workers.settings import WorkerSettings

_NO_MEMORY = (b"memory allocation of", b"out of memory", b"bad_alloc", b"Cannot allocate memory")


class BodyFailed(Exception):
    """The attempt ends as `failure` says."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class LeaseRanOut(Exception):
    """The body was killed because nobody renewed its deadline."""


class Bodies:
    """Lends children to one attempt. `until` is when the lease ends on the monotonic clock; each pulse moves it."""

    def __init__(self, nursery: Nursery, settings: WorkerSettings, reports: Reports, until: float) -> None:
        self._nursery = nursery
        self._settings = settings
        self._reports = reports
        self._until = until
        self._child: Child | None = None
        self.patience = 0.0

    def renew(self, until: float) -> None:
        """The lease holds until then."""
        self._until = until
        if self._child is not None:
            self._child.arm(until, self._settings.memory_bytes)

    async def run(
        self, target: str, spec: Mapping[str, Any], folder: Path, *, seconds: float | None, span: tuple[float, float]
    ) -> dict[str, Any]:
        """The result of "module:function" called with `spec`; its progress fills the `span` of the job's.

        Raises `BodyFailed` or `LeaseRanOut`. Cancelled, it waits until the body is dead, asked to end for `patience` seconds first.
        """
        seconds = self._settings.job_timeout if seconds is None else seconds
        child = self._child = await self._nursery.take()
        printing = asyncio.create_task(self._print(child))
        try:
            child.arm(self._until, self._settings.memory_bytes)
            await child.order({"target": target, "spec": dict(spec), "folder": str(folder), "limits": self._limits()})
            try:
                async with asyncio.timeout(seconds):
                    answer = await self._listen(child, span)
                    ended = await child.ended if answer is None else None
            except TimeoutError:
                raise BodyFailed(_final("TIMEOUT", f"The job ran longer than the {seconds:g} s it may. Give it less to do.")) from None
            except BadFrame as error:
                raise BodyFailed(
                    Failure("BODY_FAILED", f"The body said something that cannot be understood: {error}", retryable=True)
                ) from None
            if answer is None:
                assert ended is not None
                await asyncio.wait([printing], timeout=1.0)
                raise self._why(ended, child.tail)
            return _result(answer)
        finally:
            await self._see_buried(child, asyncio.create_task(self._bury(child, printing)))

    async def _listen(self, child: Child, span: tuple[float, float]) -> dict[str, Any] | None:
        async for message in child.messages():
            if "report" not in message:
                return message
            self._report(message["report"], span)
        return None

    async def _see_buried(self, child: Child, burial: asyncio.Task[None]) -> None:
        """Nothing goes on before the body is dead. Told to hurry, it is killed without patience."""
        while not burial.done():
            try:
                await asyncio.shield(burial)
            except asyncio.CancelledError:
                child.kill("stopped")

    async def _bury(self, child: Child, printing: asyncio.Task[None]) -> None:
        self._child = None
        if not child.ended.done():
            child.kill("stopped", self.patience)
        await child.ended
        await asyncio.wait([printing], timeout=1.0)
        printing.cancel()
        child.close()

    async def _print(self, child: Child) -> None:
        async for line in child.lines():
            self._reports.line(line)

    def _report(self, report: dict[str, Any], span: tuple[float, float]) -> None:
        if "progress" in report:
            percent, step = report["progress"]
            low, high = span
            self._reports.progress(low + (high - low) * (percent or 0.0) / 100, str(step))
        for key, status, progress, output, error in report.get("nodes", ()):
            self._reports.node(NodeChange(str(key), JobNodeStatus(status), _percent(status, progress), output, error))
        for key, step, value in report.get("points", ()):
            self._reports.point(Point(str(key), int(step), float(value)))
        for line in report.get("lines", ()):
            self._reports.line(str(line))

    def _limits(self) -> dict[str, int]:
        settings = self._settings
        return {"CPU": settings.cpu_seconds, "FSIZE": settings.file_bytes, "NOFILE": settings.open_files, "CORE": 0}

    def _why(self, ended: Ended, tail: bytes) -> Exception:
        if ended.reason == "lease":
            return LeaseRanOut()
        if ended.reason == "memory" or (ended.status == -signal.SIGABRT and any(words in tail for words in _NO_MEMORY)):
            return BodyFailed(self._out_of_memory())
        if ended.status == -signal.SIGXCPU:
            return BodyFailed(_final("CPU_LIMIT", f"The job used more than the {self._settings.cpu_seconds} CPU seconds it may."))
        said = tail.decode("utf-8", "replace")[-1_000:] or None
        if ended.status < 0:
            name = signal.Signals(-ended.status).name
            return BodyFailed(
                Failure("BODY_KILLED", f"The job's process was ended by {name}.", retryable=True, traceback=said, at_once=True)
            )
        return BodyFailed(Failure("BODY_EXITED", f"The job's process ended with {ended.status}.", retryable=True, traceback=said))

    def _out_of_memory(self) -> Failure:
        mib = self._settings.memory_bytes // 1024**2
        return _final("OUT_OF_MEMORY", f"The job needed more memory than the {mib} MiB it may use. Give it fewer rows or columns.")


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    if "result" in answer:
        return answer["result"]
    if "bad" in answer:
        bad = answer["bad"]
        raise BodyFailed(Failure(bad["code"], bad["message"], retryable=False, row=bad["row"], column=bad["column"]))
    if "memory" in answer:
        raise BodyFailed(_final("OUT_OF_MEMORY", "The job needed more memory than there is. Give it fewer rows or columns."))
    error = answer["error"]
    raise BodyFailed(Failure("BODY_FAILED", error["message"], retryable=True, traceback=error["traceback"]))


def _final(code: str, message: str) -> Failure:
    return Failure(code, message, retryable=False)


def _percent(status: str, progress: float) -> int:
    return 100 if status == "completed" else max(0, min(100, int(progress)))
