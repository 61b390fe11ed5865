"""One attempt at a job: run its task, write its reports, store its log, settle it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import uuid4, uuid5

import structlog
from sqlalchemy import Row

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Unavailable
from db.queries.artifacts import LOG
from db.services.jobs import Claim, Failure, NodeChange, nodes, spec_of
from db.services.jobs.transitions import lock_if_held
from db.services.outputs import StoredFile
from db.stores.objects import ObjectStore
from db.tables.jobs import JobNodeStatus
from db.tables.jobstates import TERMINAL, JobStatus
from workers.runtime import body_files, telemetry
from workers.runtime.body_runner import Answer, BodyRunner, BodyTerminated, LeaseExpired
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.failures import BodyFailed, failure_of
from workers.runtime.logs import LogFile
from workers.runtime.process_pool import ProcessPool
from workers.runtime.reports import Reports, Superseded
from workers.runtime.scratch import Scratch, log_path
from workers.runtime.settlement import Effects, Settlement
from workers.settings import WorkerSettings

__all__ = ["Attempt", "Effects", "StopReason", "Task", "WorkerResources"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TEXT_CONTENT_TYPE = "text/plain; charset=utf-8"
CONCURRENT_UPLOADS = 4  # files of one job that are uploaded at once; each takes up to one part (8 MiB) of memory
FLUSH_INTERVAL = 0.1  # seconds between flushes of reports
SHUTDOWN_SIGNAL_SKEW = 0.5  # seconds by which a body may receive SIGTERM before its worker does


class StopReason(IntEnum):
    """Why an attempt is stopped early. A reason replaces an earlier one only if its value is higher."""

    GIVE_BACK = 1
    CANCEL = 2
    LOST = 3


# Seconds that uploading the log may delay the settle. A stopping worker has little time, and a user who cancels waits for the result.
LOG_UPLOAD_TIMEOUTS = {None: 10.0, StopReason.CANCEL: 3.0, StopReason.GIVE_BACK: 1.0}
# The same for a checkpoint that is being uploaded, if another attempt follows.
CHECKPOINT_UPLOAD_TIMEOUTS = {None: 10.0, StopReason.GIVE_BACK: 3.0}


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """What the attempts of a worker share."""

    database: Database
    objects: ObjectStore
    process_pool: ProcessPool
    scratch: Scratch
    settings: WorkerSettings
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the worker receives a stop signal


Task = Callable[["Attempt"], Awaitable[Effects]]


class Attempt:
    """The interface of a task. All it writes before the settle has object keys and a folder of this attempt alone."""

    def __init__(self, resources: WorkerResources, job: Row[Any], lease_deadline: float, bodies_ended: Callable[[Attempt], None]) -> None:
        settings = resources.settings
        self._bodies_ended = bodies_ended
        self.job = job
        self.claim = Claim(job.id, job.attempt, job.worker_id)
        self.key = uuid5(job.id, str(job.attempt))  # names the attempt in object keys
        self.database = resources.database
        self.objects = resources.objects
        self.folder: Path
        self.lease_deadline = lease_deadline
        self._resources = resources
        self.memory_bytes = settings.memory_bytes
        self.checkpoint_interval = settings.checkpoint_interval
        self.checkpoint_min_bytes = settings.checkpoint_min_bytes
        self._body_started = self._has_ended_bodies = False
        self._timed_out = False
        self._written_keys: list[str] = []
        self._keys_deleted_on_failure: list[str] = []
        self._retained_keys: set[str] = set()
        self._stop_reason: StopReason | None = None
        self._settling = False
        self._running_task: asyncio.Task[Effects] | None = None
        self.reports = Reports(resources.database, self.claim, events_per_second=settings.events_per_second, log_events=settings.log_events)
        self.checkpoints = Checkpoints(resources.database, resources.objects, self.claim, self.reports)
        self._settlement = Settlement(resources.database, resources.objects, job, settings)
        self._body_runner = BodyRunner(resources.process_pool, settings, self.reports, self.checkpoints, lease_deadline)
        self._body_runner.on_started = self._on_body_started
        self._start_timer = telemetry.StartTimer(job)

    # Used by tasks

    def progress(self, percent: float, step: str) -> None:
        """Report `percent` of the whole job, 0 to 100, and the label of the current `step`."""
        self.reports.progress(percent, step)

    async def begin_nodes(self, node_steps: Sequence[tuple[str, str]], titles: Mapping[str, str]) -> None:
        """Insert the job's nodes in execution order: (key, step) each. Events name a node by the title of its step. Raises `Superseded`."""
        async with self.database.work(SYSTEM) as work:
            if not await lock_if_held(work, self.claim):
                raise Superseded
            await nodes.begin(work, self.claim, node_steps)
        self.reports.titles = {key: titles.get(step, step) for key, step in node_steps}

    @contextmanager
    def stage(self, key: str) -> Generator[dict[str, Any]]:
        """Report the node as running and, unless the block raises, as completed with the output that it fills in. The settle ends a node that failed."""
        output: dict[str, Any] = {}
        self.reports.node(NodeChange(key, JobNodeStatus.RUNNING, 0))
        yield output
        self.reports.node(NodeChange(key, JobNodeStatus.COMPLETED, 100, output))

    async def run_body(
        self, target: str, spec: Mapping[str, Any], *, span: tuple[float, float] = (0, 100), is_shared: bool = False, is_last: bool = True
    ) -> dict[str, Any]:
        """Run "module:function" in a child process, which `is_shared` by such bodies of the same account; see `BodyRunner.run`.

        After the body that `is_last`, the worker may start another job while this one stores its outputs. A body after that raises RuntimeError: it
        would run beside that of the other job, in one slot.
        """
        if self._has_ended_bodies:
            raise RuntimeError(f"{target} cannot run: the last body of the attempt has ended, and its slot is another job's.")
        result = await self._body_runner.run(target, spec, self.folder, span=span, shared_by=self.job.owner_id if is_shared else None)
        if is_last:
            self._has_ended_bodies = True
            self._bodies_ended(self)
        return result

    def answer(self, question: str, answer: Answer) -> None:
        """Answer this question of bodies that run from now on."""
        self._body_runner.answers[question] = answer

    def _timeout_seconds(self) -> float:
        settings = self._resources.settings
        default = settings.job_timeouts.get(self.job.kind.name, settings.job_timeout)
        return default if self.job.timeout_seconds is None else self.job.timeout_seconds

    def track_key(self, key: str) -> str:
        """Record that this key is written. The object is deleted unless the job completes."""
        self._written_keys.append(key)
        return key

    def delete_on_failure(self, key: str) -> None:
        """Delete this object, not written by the attempt, if the job is FAILED; otherwise another attempt or a retry may still read it."""
        self._keys_deleted_on_failure.append(key)

    async def save_checkpoint(self, name: str, file: StoredFile) -> None:
        """Make an uploaded file a checkpoint for later attempts. It is then not deleted with this attempt."""
        try:
            is_saved = await self.checkpoints.save_uploaded(name, 1, {}, file.key, file.size, file.sha256)
        except Unavailable:
            # The object is deleted with this attempt. If its row was committed after all, the next attempt finds no object and ignores the row.
            log.warning("checkpoint_not_written", job=str(self.job.id), name=name, exc_info=True)
        else:
            if is_saved:
                self._written_keys.remove(file.key)

    def retain_key(self, key: str) -> str:
        """Keep the object of a checkpoint if the job completes, because it is an output."""
        self._retained_keys.add(key)
        return key

    async def download(self, stored: Row[Any], path: Path, name: str, remedy: str) -> Path:
        """Download the object of a row with `object_key`, `size_bytes` and `sha256`; return its path.

        Raises `ObjectMissing`, and `BodyFailed` (OBJECT_DAMAGED) if it is not what was stored: with the `name` of the file, and a `remedy`.
        """
        size, sha256 = await self.objects.download(stored.object_key, path)
        if (size, sha256) != (stored.size_bytes, stored.sha256):
            message = (
                f"{name} is damaged in the store: it has {size:,} bytes with the SHA-256 {sha256}, and {stored.size_bytes:,} with"
                f" {stored.sha256} were stored. {remedy}"
            )
            raise BodyFailed(Failure("OBJECT_DAMAGED", message, retryable=False))
        return path

    async def upload(self, path: Path, prefix: str, role: str, filename: str, content_type: str) -> StoredFile:
        """Store a file of the attempt's folder under `prefix` plus a unique name."""
        key = self.track_key(f"{prefix}/{uuid4()}")
        with body_files.open_file(self.folder, path) as file:
            size, sha256 = await self.objects.upload(file, key, content_type)
        return StoredFile(key, size, sha256, role, filename, content_type)

    async def upload_all(self, files: Sequence[tuple[Path, str, str, str]], prefix: str) -> list[StoredFile]:
        """Store files, as (path, role, filename, content type) each, a few at a time. If one fails, the others are stopped and its error is raised."""
        slots = asyncio.Semaphore(CONCURRENT_UPLOADS)

        async def upload(path: Path, role: str, filename: str, content_type: str) -> StoredFile:
            async with slots:
                return await self.upload(path, prefix, role, filename, content_type)

        uploads = [asyncio.create_task(upload(*file)) for file in files]
        try:
            return await asyncio.gather(*uploads)
        finally:
            for task in uploads:
                task.cancel()
            await asyncio.wait(uploads)  # a request on its way could still create an object that was to be removed

    def _on_body_started(self) -> None:
        self._body_started = True
        self._start_timer.body_started()

    # Used by the engine

    def renew(self, lease_deadline: float) -> None:
        """Extend the lease to `lease_deadline`, on the monotonic clock."""
        self.lease_deadline = lease_deadline
        self._body_runner.renew(lease_deadline)

    def stop(self, reason: StopReason) -> None:
        """End the attempt early. No effect once the settle has begun: then the job's row decides."""
        if self._settling or (self._stop_reason is not None and reason <= self._stop_reason):
            return
        self._stop_reason = reason
        if self._body_runner.is_running:
            telemetry.BODIES_KILLED.labels(reason.name.lower()).inc()
        self._body_runner.kill_grace = self._resources.settings.cancel_grace if reason is StopReason.CANCEL else 0.0
        if self._running_task is not None:
            self._running_task.cancel()

    async def run(self, task: Task) -> None:
        """Run the job and settle it. Errors are logged, not raised."""
        report_task = asyncio.create_task(self._report_loop(), name=f"reports of {self.job.id}")
        try:
            with telemetry.attempt_span(self.job):
                completed = await self._run(task)
        except Exception:
            # The settle may have been committed and only its response lost, so no object is deleted.
            log.exception("attempt_not_settled", job=str(self.job.id), attempt=self.job.attempt)
        else:
            settlement = self._settlement
            if not completed:
                await settlement.remove(
                    self._written_keys + (self._keys_deleted_on_failure if settlement.status is JobStatus.FAILED else [])
                )
            if settlement.status in TERMINAL:
                await settlement.remove([key for key in self.checkpoints.keys if not (completed and key in self._retained_keys)])
        finally:
            report_task.cancel()
            telemetry.ATTEMPTS_ENDED.labels(self.job.kind.value, self._outcome()).inc()

    def _outcome(self) -> str:
        """The outcome as in the attempt's row; "lost" if this attempt did not write it."""
        status = self._settlement.status
        if status is None:
            return "lost"
        if status is JobStatus.PENDING:
            return "given_back" if self._stop_reason is StopReason.GIVE_BACK else "retrying"
        return status.value

    async def _run(self, task: Task) -> bool:
        """Run the task and settle. Return whether the job is COMPLETED."""
        settlement = self._settlement
        async with AsyncExitStack() as stack:
            try:
                self.folder = await stack.enter_async_context(self._resources.scratch.folder())
            except OSError as error:
                await settlement.fail(failure_of(error, body_started=False))
                return False
            self.checkpoints.folder = self.folder
            log_file = LogFile(log_path(self.folder), self._resources.settings.log_bytes)
            self.reports.attach_log(log_file)
            self._running_task = running_task = asyncio.ensure_future(task(self))
            if self._stop_reason is not None:
                running_task.cancel()
            await self._wait_or_time_out(running_task)
            failure = await self._task_failure(running_task)
            error = None if running_task.cancelled() else running_task.exception()
            is_superseded = isinstance(error, (LeaseExpired, Superseded))
            await self.checkpoints.close(timeout=0.0 if is_superseded else self._checkpoint_timeout(failure))
            self._settling = True
            settlement.is_stopping = self._stop_reason is StopReason.GIVE_BACK
            if is_superseded or self._stop_reason is StopReason.LOST:
                log_file.close()
            else:
                settlement.log = await self._store_log(log_file, failure)
            reports_written = not is_superseded and await settlement.write_reports(self.reports)
        if is_superseded:
            return False
        if failure is not None:
            await settlement.fail(failure)
        elif error is None and not running_task.cancelled():
            return await settlement.complete(running_task.result(), reports_written=reports_written)
        elif self._stop_reason is StopReason.CANCEL:
            await settlement.cancel()
        elif self._stop_reason is StopReason.GIVE_BACK:
            await settlement.give_back()
        return False

    async def _wait_or_time_out(self, running_task: asyncio.Task[Effects]) -> None:
        """Wait for the task; cancel it at the job's timeout, which includes downloads, uploads and the wait for a child process."""
        if (await asyncio.wait([running_task], timeout=self._timeout_seconds()))[1]:
            self._timed_out = True
            if self._body_runner.is_running:
                telemetry.BODIES_KILLED.labels("timeout").inc()
            running_task.cancel()
            await asyncio.wait([running_task])

    async def _task_failure(self, running_task: asyncio.Task[Effects]) -> Failure | None:
        """Return why the task failed; None if it succeeded or was stopped."""
        if running_task.cancelled():
            if self._stop_reason is not None or not self._timed_out:
                return None
            message = f"The job exceeded its timeout of {self._timeout_seconds():g} s. Give it less to do or a higher timeout."
            return Failure("TIMEOUT", message, retryable=False)
        error = running_task.exception()
        if isinstance(error, BodyTerminated) and await self._worker_is_stopping():
            self._stop_reason = self._stop_reason or StopReason.GIVE_BACK
            return None
        return None if error is None else failure_of(error, body_started=self._body_started)

    async def _worker_is_stopping(self) -> bool:
        """Wait a moment for a stop signal: a service manager signals all processes at once, and the body may receive SIGTERM first."""
        try:
            async with asyncio.timeout(SHUTDOWN_SIGNAL_SKEW):
                return await self._resources.stopping.wait()
        except TimeoutError:
            return False

    def _checkpoint_timeout(self, failure: Failure | None) -> float:
        """Seconds to wait for a checkpoint upload; 0 unless another attempt can resume from it."""
        another_attempt_follows = self._stop_reason is StopReason.GIVE_BACK
        if failure is not None:
            another_attempt_follows = (
                failure.service_unavailable or failure.worker_lost or (failure.retryable and self.job.tries + 1 < self.job.max_tries)
            )
        return CHECKPOINT_UPLOAD_TIMEOUTS.get(self._stop_reason, 0.0) if another_attempt_follows else 0.0

    async def _store_log(self, log_file: LogFile, failure: Failure | None) -> StoredFile | None:
        """Upload the attempt's log for the settle to refer to. An unavailable object store costs the log, not the job."""
        if log_file.is_empty:
            return None
        if failure is not None:
            log_file.add(f"{failure.code}: {failure.message}\n" + (f"{failure.traceback.rstrip()}\n" if failure.traceback else ""))
        log_file.close()
        job = self.job
        key = f"jobs/{job.owner_id}/{job.id}/{self.key}/logs/{uuid4()}"
        filename = f"{spec_of(job.kind).title}-{job.id.hex[-8:]}-attempt-{job.attempt}.log"
        try:
            async with asyncio.timeout(LOG_UPLOAD_TIMEOUTS.get(self._stop_reason, LOG_UPLOAD_TIMEOUTS[StopReason.GIVE_BACK])):
                with log_file.path.open("rb") as file:
                    size, sha256 = await self.objects.upload(file, key, TEXT_CONTENT_TYPE)
        except Exception:  # the job settles without its log
            log.warning("log_not_stored", job=str(job.id), attempt=job.attempt, exc_info=True)
            self.track_key(key)  # the upload may have succeeded after all
            self.reports.log_line("The log of this attempt could not be stored: the object storage did not accept it in time.")
            return None
        return StoredFile(key, size, sha256, LOG, filename, TEXT_CONTENT_TYPE)

    async def _report_loop(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            try:
                await self.reports.flush()
            except Superseded:
                self.stop(StopReason.LOST)
            except Exception:  # what was not written stays pending for the next flush; the body must not fail
                log.warning("reports_not_written", job=str(self.job.id), exc_info=True)
                await asyncio.sleep(1.0)
