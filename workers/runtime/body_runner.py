"""Runs a body in a child process and turns the way it ended into a result or a failure."""

from __future__ import annotations

import asyncio
import secrets
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from db.services.jobs import Failure, NodeChange, Point
from db.tables.jobs import JobNodeStatus
from workers.runtime import body_files, telemetry
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.failures import BodyFailed
from workers.runtime.frames import BadFrame
from workers.runtime.logs import LineDecoder
from workers.runtime.process_pool import ChildExit, ChildHandle, ForkserverUnavailable, ProcessPool
from workers.runtime.reports import Reports
from workers.settings import WorkerSettings

# Seconds between reads of a body's output once its log is full: limits it to some 100 MB/s and a few per cent of the worker's time.
FULL_LOG_PAUSE = 0.001
BACKPRESSURE_PAUSE = 0.05
KILL_MARGIN = 0.1  # share of the lease reserved for dying: SIGKILL takes a moment on a busy machine, or if the body has gigabytes
DRAIN_ROUNDS, DRAIN_WAIT = 20, 0.05
END_OF_OUTPUT_TIMEOUT = 5.0  # seconds in which the output of a body is read that has sent its response
_OUT_OF_MEMORY_OUTPUT = (b"memory allocation of", b"out of memory", b"bad_alloc", b"Cannot allocate memory")
_MESSAGE_PREFIXES = {
    "DISK_FULL": "The worker had no disk space left for the files of the job. Free some, or give the job less to write. ",
    "BODY_EXITED": "The job's process exited. ",
}


Answer = Callable[[dict[str, Any]], Awaitable[Any]]
"""Answers a question with JSON. It is cancelled if the body dies or the attempt is stopped."""


class BodyTerminated(BodyFailed):
    """The body died of a SIGTERM that its worker did not send; the worker may be about to receive one too."""


class LeaseExpired(Exception):
    """The body was killed because its deadline was not renewed."""


class BodyRunner:
    """Runs the bodies of one attempt in child processes.

    `answers` has a function for each question that they may ask, by its name. `lease_deadline` is on the monotonic clock; each heartbeat extends it. The
    child processes are dead by then.
    """

    def __init__(
        self, process_pool: ProcessPool, settings: WorkerSettings, reports: Reports, checkpoints: Checkpoints, lease_deadline: float
    ) -> None:
        self._process_pool = process_pool
        self._settings = settings
        self._reports = reports
        self._checkpoints = checkpoints
        self._kill_deadline = self._kill_deadline_for(lease_deadline)
        self._child: ChildHandle | None = None
        self._terminating: ChildHandle | None = None  # has received SIGTERM and is in its grace period
        self.kill_grace = 0.0
        self.on_started: Callable[[], None] | None = None  # called when a child has been sent its request
        self.answers: dict[str, Answer] = {}

    @property
    def is_running(self) -> bool:
        """Whether a child process runs a body."""
        return self._child is not None

    def renew(self, lease_deadline: float) -> None:
        """Extend the lease to `lease_deadline`."""
        self._kill_deadline = self._kill_deadline_for(lease_deadline)
        for child in (self._child, self._terminating):
            if child is not None:
                child.set_limits(self._kill_deadline, self._settings.memory_bytes)

    def _kill_deadline_for(self, lease_deadline: float) -> float:
        """When to kill bodies so that they are dead by `lease_deadline`."""
        return lease_deadline - KILL_MARGIN * self._settings.lease

    async def run(
        self, target: str, spec: Mapping[str, Any], folder: Path, *, span: tuple[float, float], shared_by: Hashable = None
    ) -> dict[str, Any]:
        """Return the result of "module:function" called with `spec`; its progress is scaled to the `span` of the job's progress.

        With `shared_by`, the process may have run the same function for the same value before, and may do so again.

        Raises `BodyFailed`, `LeaseExpired` or `ForkserverUnavailable`. When cancelled, sends SIGTERM, after `kill_grace` seconds SIGKILL,
        and waits until the body is dead.
        """
        key = None if shared_by is None else (target, shared_by)
        kept = None if key is None else self._process_pool.acquire_kept(key)
        child = self._child = kept or await self._process_pool.acquire()
        output_task: asyncio.Task[None] | None = None
        is_kept = False
        try:
            if key is not None and kept is None:
                child.home = Path(tempfile.mkdtemp(dir=folder.parent))
            with body_files.lent(folder, child.home):
                end_of_output = f"\x1eend of {secrets.token_hex(16)}\n"
                output_task = asyncio.create_task(self._copy_output(child, end_of_output.encode()))
                request = {
                    "target": target,
                    "spec": dict(spec),
                    "folder": str(folder),
                    "deadline": self._kill_deadline,
                    "limits": self._limits(),
                    "niceness": self._settings.niceness,
                    "paths": [str(path) for path in (child.home or folder, *self._settings.body_paths)],
                    "is_shared": key is not None,
                    "end_of_output": end_of_output,
                }
                try:
                    response = await self._send(child, request, span)
                    if response is None:
                        raise await self._no_response(child, output_task, is_new=kept is None)
                    if key is not None and response.get("is_reusable") is True:
                        is_kept = bool((await asyncio.wait([output_task], timeout=END_OF_OUTPUT_TIMEOUT))[0])
                finally:
                    if not is_kept:
                        await self._await_exit(child, asyncio.create_task(self._terminate(child, output_task)))
        except BaseException:
            if is_kept or output_task is None:  # it lives: the folder could not be lent, or not be taken back
                self._child = None
                self._process_pool.drop(child)
            else:
                child.remove_home()
            raise
        if is_kept:
            self._child = None
            self._process_pool.keep(child, key)
        else:
            child.remove_home()
        return self._result(response)

    async def _send(self, child: ChildHandle, request: dict[str, Any], span: tuple[float, float]) -> dict[str, Any] | None:
        """Return the response of the child, None if it has closed its socket without one."""
        if time.monotonic() >= self._kill_deadline:  # the worker was frozen, and another may have started the job
            raise LeaseExpired
        child.set_limits(self._kill_deadline, self._settings.memory_bytes)
        await child.send_request(request)
        if self.on_started is not None:
            self.on_started()
        try:
            return await self._read_response(child, span)
        except BadFrame as error:
            raise BodyFailed(_not_retryable("BODY_FAILED", f"The job's process sent an invalid message: {error}")) from None

    async def _no_response(self, child: ChildHandle, output_task: asyncio.Task[None], *, is_new: bool) -> Exception:
        child_exit = await child.wait()
        telemetry.body_exited(child_exit.status, child_exit.reason)
        await _drain_output(output_task)
        if not is_new and not child.has_sent and time.monotonic() < self._kill_deadline:
            return ForkserverUnavailable("It died before it began.")
        return self._exit_error(child_exit, child.tail)

    async def _read_response(self, child: ChildHandle, span: tuple[float, float]) -> dict[str, Any] | None:
        async for message in child.messages():
            if "question" in message:
                await self._answer(child, message["question"])
                continue
            if "report" not in message:
                return message
            try:
                self._handle_report(message["report"], span)
                await self._handle_resume(message["report"])
            except (TypeError, ValueError, AttributeError) as error:
                raise BadFrame(f"{type(error).__name__}: {error}") from error
            while self._reports.is_behind:  # noqa: ASYNC110 - a timer flushes them without an event. Meanwhile the pipe fills and the body blocks.
                await asyncio.sleep(BACKPRESSURE_PAUSE)
        return None

    async def _answer(self, child: ChildHandle, question: Any) -> None:
        """Answer a question of the body, which waits for it. An error of the answer ends the attempt; so does the body's death, which is seen when
        its next message is read."""
        name, arguments = question if isinstance(question, list) and len(question) == 2 else (None, None)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - JSON
        answer = self.answers.get(name) if isinstance(name, str) else None
        if answer is None or not isinstance(arguments, dict):
            raise BadFrame(f"Nothing answers {question!r:.200}.")
        answering = asyncio.ensure_future(answer(arguments))  # pyright: ignore[reportUnknownArgumentType] - JSON
        try:
            await asyncio.wait([answering, child.exited], return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                await child.send({"answer": answering.result()})
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    async def _await_exit(self, child: ChildHandle, termination: asyncio.Task[None]) -> None:
        """Wait until the body is dead. A cancellation meanwhile skips the grace period and is raised afterwards."""
        is_cancelled = False
        while not termination.done():
            try:
                await asyncio.shield(termination)
            except asyncio.CancelledError:
                is_cancelled = True
                child.kill("stopped")
        if is_cancelled:  # also if the body has just ended: the rest of the task is to stop
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

    async def _copy_output(self, child: ChildHandle, end: bytes) -> None:
        decoder = LineDecoder()
        async for chunk in child.output_chunks(end):
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
        for key, step, value, part, at in report.get("points", ()):
            point = Point(str(key), int(step), float(value), datetime.fromtimestamp(at, UTC))
            self._reports.point(point, None if part is None else str(part))
        for name, position, state, file, is_disposable in report.get("checkpoints", ()):
            path = None if file is None else Path(file)
            self._checkpoints.enqueue(str(name), int(position), dict(state), path, is_disposable=bool(is_disposable))

    async def _handle_resume(self, report: dict[str, Any]) -> None:
        """Remove what was written past the point where the body starts, before its next message is read."""
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
        if "expired" in response:
            raise LeaseExpired
        if "bad_input" in response:
            bad_input = response["bad_input"]
            raise BodyFailed(
                Failure(bad_input["code"], bad_input["message"], retryable=False, row=bad_input["row"], column=bad_input["column"])
            )
        if "out_of_memory" in response:
            raise BodyFailed(
                _not_retryable("OUT_OF_MEMORY", "The job needed more memory than is available. Give it fewer rows or columns.")
            )
        error = response["error"]
        if error["code"] == "FILE_LIMIT":
            raise BodyFailed(self._file_limit(error["traceback"]))
        message = f"{_MESSAGE_PREFIXES.get(error['code'], '')}{error['message']}"
        raise BodyFailed(Failure(error["code"], message, error["retryable"], error["traceback"]))

    def _exit_error(self, child_exit: ChildExit, tail: bytes) -> Exception:
        if child_exit.reason == "lease":
            return LeaseExpired()
        if child_exit.reason == "forkserver":
            return ForkserverUnavailable("Its forkserver died.")
        if child_exit.reason == "processes":
            return BodyFailed(_not_retryable("PROCESS_LIMIT", "The job started too many processes. Use fewer at a time."))
        if child_exit.reason == "memory" or (
            child_exit.status == -signal.SIGABRT and any(marker in tail for marker in _OUT_OF_MEMORY_OUTPUT)
        ):
            return BodyFailed(self._out_of_memory())
        if child_exit.reason == "machine memory":
            return BodyFailed(
                _not_retryable("OUT_OF_MEMORY", "The machine ran out of memory and killed the job. Give it fewer rows or columns.")
            )
        if child_exit.status == -signal.SIGXCPU:
            limit = self._settings.cpu_seconds
            return BodyFailed(_not_retryable("CPU_LIMIT", f"The job exceeded its limit of {limit} CPU seconds. Give it less to do."))
        if child_exit.status == -signal.SIGXFSZ:
            return BodyFailed(self._file_limit(None))
        output = tail.decode("utf-8", "replace")[-1_000:] or None
        if child_exit.status < 0:
            name = signal.Signals(-child_exit.status).name
            error_type = BodyTerminated if child_exit.status == -signal.SIGTERM and child_exit.reason is None else BodyFailed
            return error_type(
                Failure("BODY_KILLED", f"The job's process was killed by {name}.", retryable=True, traceback=output, retry_immediately=True)
            )
        return BodyFailed(
            Failure("BODY_EXITED", f"The job's process exited with status {child_exit.status}.", retryable=True, traceback=output)
        )

    def _file_limit(self, traceback: str | None) -> Failure:
        mib = self._settings.file_bytes // 1024**2
        message = f"The job wrote a file larger than its limit of {mib} MiB. Give it fewer rows or columns."
        return Failure("FILE_LIMIT", message, retryable=False, traceback=traceback)

    def _out_of_memory(self) -> Failure:
        mib = self._settings.memory_bytes // 1024**2
        return _not_retryable("OUT_OF_MEMORY", f"The job needed more memory than its limit of {mib} MiB. Give it fewer rows or columns.")


async def _drain_output(output_task: asyncio.Task[None]) -> None:
    """Read the last output of dead processes from the pipe, which only a process that outlived them can keep open.

    Many short waits instead of a long one, which would time out in a worker that was frozen before the pipe is read.
    """
    for _ in range(DRAIN_ROUNDS):
        if (await asyncio.wait([output_task], timeout=DRAIN_WAIT))[0]:
            break


def _not_retryable(code: str, message: str) -> Failure:
    return Failure(code, message, retryable=False)


def _percent(status: str, progress: float) -> int:
    return 100 if status == "completed" else max(0, min(100, int(progress)))
