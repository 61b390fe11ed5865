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
from workers.runtime.failures import BodyFailed
from workers.runtime.frames import BadFrame
from workers.runtime.logs import LineDecoder
from workers.runtime.process_pool import ChildExit, ChildHandle, ForkserverUnavailable, ProcessPool
from workers.runtime.reports import Reports
from workers.settings import WorkerSettings

# Seconds between two looks at what a body prints whose log is full: at most some 100 MB/s, and a few per cent of the worker's time.
FULL_LOG_PAUSE = 0.001
BACKPRESSURE_PAUSE = 0.05
KILL_MARGIN = 0.1  # share of a lease that is left to die in: where the machine is busy, or the body has gigabytes, SIGKILL takes a moment to be obeyed
DRAIN_ROUNDS, DRAIN_WAIT = 20, 0.05
_OUT_OF_MEMORY_OUTPUT = (b"memory allocation of", b"out of memory", b"bad_alloc", b"Cannot allocate memory")
_MESSAGE_PREFIXES = {
    "DISK_FULL": "The worker had no disk space left for what the job writes; free some, or give it less to write. ",
    "BODY_EXITED": "The job's process ended itself. ",
}


class BodyTerminated(BodyFailed):
    """The body died of a SIGTERM that its worker did not send: somebody may have told the worker to stop too."""


class LeaseExpired(Exception):
    """The body was killed because nobody renewed its deadline."""


class BodyRunner:
    """Lends children to one attempt. `until` is when the lease ends on the monotonic clock; each pulse moves it. By then they are dead."""

    def __init__(
        self, process_pool: ProcessPool, settings: WorkerSettings, reports: Reports, checkpoints: Checkpoints, lease_deadline: float
    ) -> None:
        self._process_pool = process_pool
        self._settings = settings
        self._reports = reports
        self._checkpoints = checkpoints
        self._kill_deadline = self._kill_deadline_for(lease_deadline)
        self._child: ChildHandle | None = None
        self._terminating: ChildHandle | None = None  # has been asked to end, and may take its time
        self.kill_grace = 0.0
        self.on_started: Callable[[], None] | None = None  # called when a child has been told what to run

    @property
    def is_running(self) -> bool:
        """Whether a child has a body."""
        return self._child is not None

    def renew(self, lease_deadline: float) -> None:
        """The lease holds until then."""
        self._kill_deadline = self._kill_deadline_for(lease_deadline)
        for child in (self._child, self._terminating):
            if child is not None:
                child.set_limits(self._kill_deadline, self._settings.memory_bytes)

    def _kill_deadline_for(self, lease_deadline: float) -> float:
        """When bodies are killed whose lease ends then."""
        return lease_deadline - KILL_MARGIN * self._settings.lease

    async def run(self, target: str, spec: Mapping[str, Any], folder: Path, *, span: tuple[float, float]) -> dict[str, Any]:
        """The result of "module:function" called with `spec`; its progress fills the `span` of the job's.

        Raises `BodyFailed`, `LeaseRanOut` or `NurseryLost`. Cancelled, it waits until the body is dead, asked to end for `patience`
        seconds first.
        """
        child = self._child = await self._process_pool.acquire()
        output_task = asyncio.create_task(self._copy_output(child))
        try:
            if time.monotonic() >= self._kill_deadline:  # the worker stood still, and another may have begun
                raise LeaseExpired
            child.set_limits(self._kill_deadline, self._settings.memory_bytes)
            request = {"target": target, "spec": dict(spec), "folder": str(folder), "until": self._kill_deadline}
            await child.send_request({**request, "limits": self._limits(), "niceness": self._settings.niceness})
            if self.on_started is not None:
                self.on_started()
            try:
                response = await self._read_response(child, span)
            except BadFrame as error:
                raise BodyFailed(_not_retryable("BODY_FAILED", f"The body said something that cannot be understood: {error}")) from None
            if response is None:
                child_exit = await child.wait()
                telemetry.body_exited(child_exit.status, child_exit.reason)
                await _drain_output(output_task)
                raise self._exit_error(child_exit, child.tail)
            return self._result(response)
        finally:
            await self._await_exit(child, asyncio.create_task(self._terminate(child, output_task)))

    async def _read_response(self, child: ChildHandle, span: tuple[float, float]) -> dict[str, Any] | None:
        async for message in child.messages():
            if "report" not in message:
                return message
            try:
                self._handle_report(message["report"], span)
                await self._handle_resume(message["report"])
            except (TypeError, ValueError, AttributeError) as error:
                raise BadFrame(f"{type(error).__name__}: {error}") from error
            while self._reports.is_behind:  # noqa: ASYNC110 - a clock empties them, and says so to nobody. The pipe fills; the body waits.
                await asyncio.sleep(BACKPRESSURE_PAUSE)
        return None

    async def _await_exit(self, child: ChildHandle, termination: asyncio.Task[None]) -> None:
        """Nothing goes on before the body is dead. Told to hurry, it is killed without patience; and then nothing goes on at all."""
        is_cancelled = False
        while not termination.done():
            try:
                await asyncio.shield(termination)
            except asyncio.CancelledError:
                is_cancelled = True
                child.kill("stopped")
        if is_cancelled:  # a stop that comes when the body has just ended is meant for the rest of the task
            raise asyncio.CancelledError

    async def _terminate(self, child: ChildHandle, output_task: asyncio.Task[None]) -> None:
        self._child, self._terminating = None, child
        if not child.exited.done():
            child.kill("stopped", self.kill_grace)
        await child.wait(self.kill_grace)
        self._terminating = None
        await _drain_output(output_task)
        output_task.cancel()
        child.close()

    async def _copy_output(self, child: ChildHandle) -> None:
        decoder = LineDecoder()
        async for chunk in child.output_chunks():
            self._reports.log_text(decoder.feed(chunk))
            if self._reports.log_is_full:
                await asyncio.sleep(FULL_LOG_PAUSE)
        self._reports.log_text(decoder.finish())

    def _handle_report(self, report: dict[str, Any], span: tuple[float, float]) -> None:
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
            self._checkpoints.enqueue(str(name), int(position), dict(state), path, is_disposable=bool(is_disposable))

    async def _handle_resume(self, report: dict[str, Any]) -> None:
        """Before anything else is heard of the body: what was written past the place where it begins is removed."""
        if "resumed" in report:
            name, message = report["resumed"]
            await self._checkpoints.resume(name, str(message))
        if "restarted" in report:
            name, message = report["restarted"]
            await self._checkpoints.discard(name, str(message))

    def _limits(self) -> dict[str, int]:
        settings = self._settings
        return {"CPU": settings.cpu_seconds, "FSIZE": settings.file_bytes, "NOFILE": settings.open_files, "CORE": 0}

    def _result(self, response: dict[str, Any]) -> dict[str, Any]:
        if "result" in response:
            return response["result"]
        if "late" in response:
            raise LeaseExpired
        if "bad" in response:
            bad_input = response["bad"]
            raise BodyFailed(
                Failure(bad_input["code"], bad_input["message"], retryable=False, row=bad_input["row"], column=bad_input["column"])
            )
        if "memory" in response:
            raise BodyFailed(_not_retryable("OUT_OF_MEMORY", "The job needed more memory than there is. Give it fewer rows or columns."))
        error = response["error"]
        if error["code"] == "FILE_LIMIT":
            raise BodyFailed(self._file_limit(error["traceback"]))
        message = f"{_MESSAGE_PREFIXES.get(error['code'], '')}{error['message']}"
        raise BodyFailed(Failure(error["code"], message, error["retryable"], error["traceback"]))

    def _exit_error(self, child_exit: ChildExit, tail: bytes) -> Exception:
        if child_exit.reason == "lease":
            return LeaseExpired()
        if child_exit.reason == "nursery":
            return ForkserverUnavailable("The process that looks after it died.")
        if child_exit.reason == "processes":
            return BodyFailed(_not_retryable("PROCESS_LIMIT", "The job started more processes than it may. Give it fewer at a time."))
        if child_exit.reason == "memory" or (
            child_exit.status == -signal.SIGABRT and any(marker in tail for marker in _OUT_OF_MEMORY_OUTPUT)
        ):
            return BodyFailed(self._out_of_memory())
        if child_exit.reason == "machine memory":
            return BodyFailed(
                _not_retryable("OUT_OF_MEMORY", "The machine ran out of memory and ended the job. Give it fewer rows or columns.")
            )
        if child_exit.status == -signal.SIGXCPU:
            limit = self._settings.cpu_seconds
            return BodyFailed(_not_retryable("CPU_LIMIT", f"The job used more than the {limit} CPU seconds it may. Give it less to do."))
        if child_exit.status == -signal.SIGXFSZ:
            return BodyFailed(self._file_limit(None))
        output = tail.decode("utf-8", "replace")[-1_000:] or None
        if child_exit.status < 0:
            name = signal.Signals(-child_exit.status).name
            error_type = BodyTerminated if child_exit.status == -signal.SIGTERM and child_exit.reason is None else BodyFailed
            return error_type(
                Failure("BODY_KILLED", f"The job's process was ended by {name}.", retryable=True, traceback=output, retry_immediately=True)
            )
        return BodyFailed(Failure("BODY_EXITED", f"The job's process ended with {child_exit.status}.", retryable=True, traceback=output))

    def _file_limit(self, traceback: str | None) -> Failure:
        mib = self._settings.file_bytes // 1024**2
        message = f"The job wrote a file larger than the {mib} MiB it may. Give it fewer rows or columns."
        return Failure("FILE_LIMIT", message, retryable=False, traceback=traceback)

    def _out_of_memory(self) -> Failure:
        mib = self._settings.memory_bytes // 1024**2
        return _not_retryable("OUT_OF_MEMORY", f"The job needed more memory than the {mib} MiB it may use. Give it fewer rows or columns.")


async def _drain_output(output_task: asyncio.Task[None]) -> None:
    """What the dead printed last lies in the pipe, to be read at once; only a process that outlived them may keep it open.

    In many short waits: of a worker that stood still, one long wait would be over before it had looked at the pipe.
    """
    for _ in range(DRAIN_ROUNDS):
        if (await asyncio.wait([output_task], timeout=DRAIN_WAIT))[0]:
            break


def _not_retryable(code: str, message: str) -> Failure:
    return Failure(code, message, retryable=False)


def _percent(status: str, progress: float) -> int:
    return 100 if status == "completed" else max(0, min(100, int(progress)))
