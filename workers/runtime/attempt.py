"""One claim of one job, from the first byte read to the settle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
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
from db.services.jobs import Claim, Failure, nodes
from db.services.jobs.transitions import lock_if_held
from db.services.outputs import StoredFile
from db.stores.objects import ObjectStore
from db.tables.jobstates import TERMINAL, JobStatus
from workers.runtime import telemetry
from workers.runtime.body_runner import BodyRunner, BodyTerminated, LeaseExpired
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.failures import failure_of
from workers.runtime.logs import LogFile
from workers.runtime.process_pool import ProcessPool
from workers.runtime.reports import Reports, Superseded
from workers.runtime.scratch import Scratch, log_path
from workers.runtime.settlement import Effects, Settlement
from workers.settings import WorkerSettings

__all__ = ["Attempt", "Effects", "StopReason", "Task", "WorkerResources"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TEXT_CONTENT_TYPE = "text/plain; charset=utf-8"
FLUSH_INTERVAL = 0.1  # seconds between looks at what is to be reported
SHUTDOWN_SIGNAL_SKEW = 0.5  # seconds by which a body may learn before its worker that both are to stop


class StopReason(IntEnum):
    """Why an attempt is to end before its time; a later reason counts only if it is a higher one."""

    GIVE_BACK = 1
    CANCEL = 2
    LOST = 3


# Seconds that storing the log may keep the settle waiting. A worker that stops has little time, and who cancels wants to see it done.
LOG_UPLOAD_TIMEOUTS = {None: 10.0, StopReason.CANCEL: 3.0, StopReason.GIVE_BACK: 1.0}
CHECKPOINT_UPLOAD_TIMEOUTS = {
    None: 10.0,
    StopReason.GIVE_BACK: 3.0,
}  # the same for the checkpoint that was being stored, where another attempt follows


@dataclass(frozen=True, slots=True)
class WorkerResources:
    """What a worker lends to its attempts."""

    database: Database
    objects: ObjectStore
    process_pool: ProcessPool
    scratch: Scratch
    settings: WorkerSettings
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the worker is told to stop


Task = Callable[["Attempt"], Awaitable[Effects]]


class Attempt:
    """What a task works with. Everything it writes before the settle is under this attempt's own keys and in its own folder."""

    def __init__(self, resources: WorkerResources, job: Row[Any], lease_deadline: float) -> None:
        settings = resources.settings
        self.job = job
        self.claim = Claim(job.id, job.attempt, job.worker_id)
        self.key = uuid5(job.id, str(job.attempt))  # names the attempt in object keys
        self.database = resources.database
        self.objects = resources.objects
        self.folder: Path
        self.lease_deadline = lease_deadline
        self._resources = resources
        self.memory_bytes = settings.memory_bytes
        self.checkpoint_every = settings.checkpoint_every
        self.checkpoint_bytes = settings.checkpoint_bytes
        self._body_started = False
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

    # What tasks use

    def progress(self, percent: float, step: str) -> None:
        """`percent` of the whole job, 0 to 100; `step` in words."""
        self.reports.progress(percent, step)

    async def begin_nodes(self, node_steps: Sequence[tuple[str, str]]) -> None:
        """Say what is to be done, in order: (key, step) each."""
        async with self.database.work(SYSTEM) as work:
            if not await lock_if_held(work, self.claim):
                raise Superseded
            await nodes.begin(work, self.claim, node_steps)

    async def run_body(self, target: str, spec: Mapping[str, Any], *, span: tuple[float, float] = (0, 100)) -> dict[str, Any]:
        """Run "module:function" in a child; see `Bodies.run`."""
        return await self._body_runner.run(target, spec, self.folder, span=span)

    def _timeout_seconds(self) -> float:
        settings = self._resources.settings
        default = settings.job_timeouts.get(self.job.kind.name, settings.job_timeout)
        return default if self.job.timeout_seconds is None else self.job.timeout_seconds

    def track_key(self, key: str) -> str:
        """Note that this key is written; unless the job completes, it is removed again."""
        self._written_keys.append(key)
        return key

    def delete_on_failure(self, key: str) -> None:
        """This object, written by somebody else, goes if the job fails; not if another attempt or a retry may still read it."""
        self._keys_deleted_on_failure.append(key)

    async def save_checkpoint(self, name: str, file: StoredFile) -> None:
        """A file that was written for this job and that another attempt can use: it becomes a checkpoint, and is not removed with this attempt."""
        try:
            is_saved = await self.checkpoints.save_uploaded(name, 1, {}, file.key, file.size, file.sha256)
        except Unavailable:
            # It is removed with this attempt. Should a row name it all the same, the next attempt finds out and does without.
            log.warning("checkpoint_not_written", job=str(self.job.id), name=name, exc_info=True)
        else:
            if is_saved:
                self._written_keys.remove(file.key)

    def retain_key(self, key: str) -> str:
        """The object of a checkpoint is an output of the job: it stays if the job completes."""
        self._retained_keys.add(key)
        return key

    async def upload(self, path: Path, prefix: str, role: str, filename: str, content_type: str) -> StoredFile:
        """Store a file under `prefix` plus a name of its own."""
        key = self.track_key(f"{prefix}/{uuid4()}")
        size, sha256 = await self.objects.upload(path, key, content_type)
        return StoredFile(key, size, sha256, role, filename, content_type)

    def _on_body_started(self) -> None:
        self._body_started = True
        self._start_timer.body_started()

    # What the engine uses

    def renew(self, lease_deadline: float) -> None:
        """The lease holds until then, on the monotonic clock."""
        self.lease_deadline = lease_deadline
        self._body_runner.renew(lease_deadline)

    def stop(self, reason: StopReason) -> None:
        """End early. Once the settle has begun, the row decides."""
        if self._settling or (self._stop_reason is not None and reason <= self._stop_reason):
            return
        self._stop_reason = reason
        if self._body_runner.is_running:
            telemetry.BODIES_KILLED.labels(reason.name.lower()).inc()
        self._body_runner.kill_grace = self._resources.settings.cancel_patience if reason is StopReason.CANCEL else 0.0
        if self._running_task is not None:
            self._running_task.cancel()

    async def run(self, task: Task) -> None:
        """Do the job and settle it; whatever happens, this returns when the attempt is over."""
        report_task = asyncio.create_task(self._report_loop(), name=f"reports of {self.job.id}")
        try:
            with telemetry.attempt_span(self.job):
                completed = await self._run(task)
        except Exception:
            # Perhaps it was committed and only the answer was lost, so nothing is removed here.
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
        """As the attempt's record names it, if this attempt wrote it."""
        status = self._settlement.status
        if status is None:
            return "lost"
        if status is JobStatus.PENDING:
            return "given_back" if self._stop_reason is StopReason.GIVE_BACK else "retrying"
        return status.value

    async def _run(self, task: Task) -> bool:
        """Whether the job is COMPLETED."""
        settlement = self._settlement
        async with AsyncExitStack() as stack:
            try:
                self.folder = await stack.enter_async_context(self._resources.scratch.folder())
            except OSError as error:
                await settlement.fail(failure_of(error, body_started=False))
                return False
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
        """The job's seconds are for all of it: what is fetched before the body and stored after it counts, and so does waiting for a child."""
        if (await asyncio.wait([running_task], timeout=self._timeout_seconds()))[1]:
            self._timed_out = True
            if self._body_runner.is_running:
                telemetry.BODIES_KILLED.labels("timeout").inc()
            running_task.cancel()
            await asyncio.wait([running_task])

    async def _task_failure(self, running_task: asyncio.Task[Effects]) -> Failure | None:
        """Why it failed; None if it did not, or was stopped by somebody."""
        if running_task.cancelled():
            if self._stop_reason is not None or not self._timed_out:
                return None
            message = f"The job ran longer than the {self._timeout_seconds():g} s it may. Give it less to do."
            return Failure("TIMEOUT", message, retryable=False)
        error = running_task.exception()
        if isinstance(error, BodyTerminated) and await self._worker_is_stopping():
            self._stop_reason = self._stop_reason or StopReason.GIVE_BACK
            return None
        return None if error is None else failure_of(error, body_started=self._body_started)

    async def _worker_is_stopping(self) -> bool:
        """Whoever stops a machine's services may tell all their processes at once, and the body may hear of it before its worker does."""
        try:
            async with asyncio.timeout(SHUTDOWN_SIGNAL_SKEW):
                return await self._resources.stopping.wait()
        except TimeoutError:
            return False

    def _checkpoint_timeout(self, failure: Failure | None) -> float:
        """What is being stored is waited for only where another attempt will go on with it."""
        another_attempt_follows = self._stop_reason is StopReason.GIVE_BACK
        if failure is not None:
            another_attempt_follows = (
                failure.service_unavailable or failure.worker_lost or (failure.retryable and self.job.tries + 1 < self.job.max_tries)
            )
        return CHECKPOINT_UPLOAD_TIMEOUTS.get(self._stop_reason, 0.0) if another_attempt_follows else 0.0

    async def _store_log(self, log_file: LogFile, failure: Failure | None) -> StoredFile | None:
        """What the body said becomes an object, to be referred to by the settle; a store that is away costs the log, not the job."""
        if log_file.is_empty:
            return None
        if failure is not None:
            log_file.add(f"{failure.code}: {failure.message}\n" + (f"{failure.traceback.rstrip()}\n" if failure.traceback else ""))
        log_file.close()
        job = self.job
        key = f"jobs/{job.owner_id}/{job.id}/{self.key}/logs/{uuid4()}"
        filename = f"{job.kind.value}-{job.id.hex[-8:]}-attempt-{job.attempt}.log"
        try:
            async with asyncio.timeout(LOG_UPLOAD_TIMEOUTS.get(self._stop_reason, LOG_UPLOAD_TIMEOUTS[StopReason.GIVE_BACK])):
                size, sha256 = await self.objects.upload(log_file.path, key, TEXT_CONTENT_TYPE)
        except Exception:  # whatever it is, the job goes on without its log
            log.warning("log_not_stored", job=str(job.id), attempt=job.attempt, exc_info=True)
            self.track_key(key)  # perhaps it arrived all the same
            self.reports.log_line("The log of this attempt could not be stored: the object storage did not take it in time.")
            return None
        return StoredFile(key, size, sha256, LOG, filename, TEXT_CONTENT_TYPE)

    async def _report_loop(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL)
            try:
                await self.reports.flush()
            except Superseded:
                self.stop(StopReason.LOST)
            except Exception:  # what was not written now is written with the next round; the body must not suffer
                log.warning("reports_not_written", job=str(self.job.id), exc_info=True)
                await asyncio.sleep(1.0)
