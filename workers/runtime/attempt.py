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
from db.services.jobs.transitions import hold
from db.services.outputs import StoredFile
from db.stores.objects import ObjectStore
from db.tables.jobstates import TERMINAL, JobStatus
from workers.runtime import telemetry
from workers.runtime.bodies import Bodies, LeaseRanOut, Terminated
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.child import Nursery
from workers.runtime.ending import Effects, Ending
from workers.runtime.failures import failure_of
from workers.runtime.logs import LogFile
from workers.runtime.reports import Reports, Superseded
from workers.runtime.scratch import Scratch, log_of
from workers.settings import WorkerSettings

__all__ = ["Attempt", "Effects", "Stop", "Task", "Tools"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TEXT = "text/plain; charset=utf-8"
FLUSH = 0.1  # seconds between looks at what is to be reported
HEARSAY = 0.5  # seconds by which a body may learn before its worker that both are to stop


class Stop(IntEnum):
    """Why an attempt is to end before its time; a later reason counts only if it is a higher one."""

    GIVE_BACK = 1
    CANCEL = 2
    LOST = 3


# Seconds that storing the log may keep the settle waiting. A worker that stops has little time, and who cancels wants to see it done.
LOG_PATIENCE = {None: 10.0, Stop.CANCEL: 3.0, Stop.GIVE_BACK: 1.0}
CHECKPOINT_PATIENCE = {None: 10.0, Stop.GIVE_BACK: 3.0}  # the same for the checkpoint that was being stored, where another attempt follows


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker lends to its attempts."""

    database: Database
    objects: ObjectStore
    nursery: Nursery
    scratch: Scratch
    settings: WorkerSettings
    stopping: asyncio.Event = field(default_factory=asyncio.Event)  # set when the worker is told to stop


Task = Callable[["Attempt"], Awaitable[Effects]]


class Attempt:
    """What a task works with. Everything it writes before the settle is under this attempt's own keys and in its own folder."""

    def __init__(self, tools: Tools, job: Row[Any], until: float) -> None:
        settings = tools.settings
        self.job = job
        self.claim = Claim(job.id, job.attempt, job.worker_id)
        self.key = uuid5(job.id, str(job.attempt))  # names the attempt in object keys
        self.database = tools.database
        self.objects = tools.objects
        self.folder: Path
        self.until = until
        self._tools = tools
        self.memory_bytes = settings.memory_bytes
        self.checkpoint_every = settings.checkpoint_every
        self.checkpoint_bytes = settings.checkpoint_bytes
        self._had_body = False
        self._is_late = False
        self._uploaded: list[str] = []
        self._forsaken: list[str] = []
        self._taken_over: set[str] = set()
        self._stop: Stop | None = None
        self._settling = False
        self._inner: asyncio.Task[Effects] | None = None
        self.reports = Reports(tools.database, self.claim, events_per_second=settings.events_per_second, log_events=settings.log_events)
        self.checkpoints = Checkpoints(tools.database, tools.objects, self.claim, self.reports)
        self._ending = Ending(tools.database, tools.objects, job, settings)
        self._bodies = Bodies(tools.nursery, settings, self.reports, self.checkpoints, until)
        self._bodies.ordered = self._ordered
        self._start = telemetry.Start(job)

    # What tasks use

    def progress(self, percent: float, step: str) -> None:
        """`percent` of the whole job, 0 to 100; `step` in words."""
        self.reports.progress(percent, step)

    async def begin_nodes(self, parts: Sequence[tuple[str, str]]) -> None:
        """Say what is to be done, in order: (key, step) each."""
        async with self.database.work(SYSTEM) as work:
            if not await hold(work, self.claim):
                raise Superseded
            await nodes.begin(work, self.claim, parts)

    async def body(self, target: str, spec: Mapping[str, Any], *, span: tuple[float, float] = (0, 100)) -> dict[str, Any]:
        """Run "module:function" in a child; see `Bodies.run`."""
        return await self._bodies.run(target, spec, self.folder, span=span)

    def _seconds(self) -> float:
        settings = self._tools.settings
        usual = settings.job_timeouts.get(self.job.kind.name, settings.job_timeout)
        return usual if self.job.timeout_seconds is None else self.job.timeout_seconds

    def write_key(self, key: str) -> str:
        """Note that this key is written; unless the job completes, it is removed again."""
        self._uploaded.append(key)
        return key

    def forsake(self, key: str) -> None:
        """This object, written by somebody else, goes if the job fails; not if another attempt or a retry may still read it."""
        self._forsaken.append(key)

    async def keep(self, name: str, file: StoredFile) -> None:
        """A file that was written for this job and that another attempt can use: it becomes a checkpoint, and is not removed with this attempt."""
        try:
            is_kept = await self.checkpoints.keep(name, 1, {}, file.key, file.size, file.sha256)
        except Unavailable:
            # It is removed with this attempt. Should a row name it all the same, the next attempt finds out and does without.
            log.warning("checkpoint_not_written", job=str(self.job.id), name=name, exc_info=True)
        else:
            if is_kept:
                self._uploaded.remove(file.key)

    def take_over(self, key: str) -> str:
        """The object of a checkpoint is an output of the job: it stays if the job completes."""
        self._taken_over.add(key)
        return key

    async def upload(self, path: Path, prefix: str, role: str, filename: str, content_type: str) -> StoredFile:
        """Store a file under `prefix` plus a name of its own."""
        key = self.write_key(f"{prefix}/{uuid4()}")
        size, sha256 = await self.objects.upload(path, key, content_type)
        return StoredFile(key, size, sha256, role, filename, content_type)

    def _ordered(self) -> None:
        self._had_body = True
        self._start.ordered()

    # What the engine uses

    def renew(self, until: float) -> None:
        """The lease holds until then, on the monotonic clock."""
        self.until = until
        self._bodies.renew(until)

    def stop(self, why: Stop) -> None:
        """End early. Once the settle has begun, the row decides."""
        if self._settling or (self._stop is not None and why <= self._stop):
            return
        self._stop = why
        if self._bodies.is_running:
            telemetry.KILLED.labels(why.name.lower()).inc()
        self._bodies.patience = self._tools.settings.cancel_patience if why is Stop.CANCEL else 0.0
        if self._inner is not None:
            self._inner.cancel()

    async def run(self, task: Task) -> None:
        """Do the job and settle it; whatever happens, this returns when the attempt is over."""
        reporting = asyncio.create_task(self._keep_reporting(), name=f"reports of {self.job.id}")
        try:
            with telemetry.attempt_span(self.job):
                completed = await self._run(task)
        except Exception:
            # Perhaps it was committed and only the answer was lost, so nothing is removed here.
            log.exception("attempt_not_settled", job=str(self.job.id), attempt=self.job.attempt)
        else:
            ending = self._ending
            if not completed:
                await ending.remove(self._uploaded + (self._forsaken if ending.status is JobStatus.FAILED else []))
            if ending.status in TERMINAL:
                await ending.remove([key for key in self.checkpoints.keys if not (completed and key in self._taken_over)])
        finally:
            reporting.cancel()
            telemetry.ENDED.labels(self.job.kind.value, self._outcome()).inc()

    def _outcome(self) -> str:
        """As the attempt's record names it, if this attempt wrote it."""
        status = self._ending.status
        if status is None:
            return "lost"
        if status is JobStatus.PENDING:
            return "given_back" if self._stop is Stop.GIVE_BACK else "retrying"
        return status.value

    async def _run(self, task: Task) -> bool:
        """Whether the job is COMPLETED."""
        ending = self._ending
        async with AsyncExitStack() as stack:
            try:
                self.folder = await stack.enter_async_context(self._tools.scratch.folder())
            except OSError as error:
                await ending.fail(failure_of(error, had_body=False))
                return False
            said = LogFile(log_of(self.folder), self._tools.settings.log_bytes)
            self.reports.keep_log(said)
            self._inner = inner = asyncio.ensure_future(task(self))
            if self._stop is not None:
                inner.cancel()
            await self._done_or_late(inner)
            failure = await self._judge(inner)
            error = None if inner.cancelled() else inner.exception()
            is_anothers = isinstance(error, (LeaseRanOut, Superseded))
            await self.checkpoints.close(patience=0.0 if is_anothers else self._patience_with_checkpoints(failure))
            self._settling = True
            ending.in_haste = self._stop is Stop.GIVE_BACK
            if is_anothers or self._stop is Stop.LOST:
                said.close()
            else:
                ending.log = await self._store_log(said, failure)
            is_told = not is_anothers and await ending.tell(self.reports)
        if is_anothers:
            return False
        if failure is not None:
            await ending.fail(failure)
        elif error is None and not inner.cancelled():
            return await ending.complete(inner.result(), is_told=is_told)
        elif self._stop is Stop.CANCEL:
            await ending.cancel()
        elif self._stop is Stop.GIVE_BACK:
            await ending.give_back()
        return False

    async def _done_or_late(self, inner: asyncio.Task[Effects]) -> None:
        """The job's seconds are for all of it: what is fetched before the body and stored after it counts, and so does waiting for a child."""
        if (await asyncio.wait([inner], timeout=self._seconds()))[1]:
            self._is_late = True
            if self._bodies.is_running:
                telemetry.KILLED.labels("timeout").inc()
            inner.cancel()
            await asyncio.wait([inner])

    async def _judge(self, inner: asyncio.Task[Effects]) -> Failure | None:
        """Why it failed; None if it did not, or was stopped by somebody."""
        if inner.cancelled():
            if self._stop is not None or not self._is_late:
                return None
            message = f"The job ran longer than the {self._seconds():g} s it may. Give it less to do."
            return Failure("TIMEOUT", message, retryable=False)
        error = inner.exception()
        if isinstance(error, Terminated) and await self._worker_stops():
            self._stop = self._stop or Stop.GIVE_BACK
            return None
        return None if error is None else failure_of(error, had_body=self._had_body)

    async def _worker_stops(self) -> bool:
        """Whoever stops a machine's services may tell all their processes at once, and the body may hear of it before its worker does."""
        try:
            async with asyncio.timeout(HEARSAY):
                return await self._tools.stopping.wait()
        except TimeoutError:
            return False

    def _patience_with_checkpoints(self, failure: Failure | None) -> float:
        """What is being stored is waited for only where another attempt will go on with it."""
        follows = self._stop is Stop.GIVE_BACK
        if failure is not None:
            follows = failure.away or failure.lost or (failure.retryable and self.job.tries + 1 < self.job.max_tries)
        return CHECKPOINT_PATIENCE.get(self._stop, 0.0) if follows else 0.0

    async def _store_log(self, said: LogFile, failure: Failure | None) -> StoredFile | None:
        """What the body said becomes an object, to be referred to by the settle; a store that is away costs the log, not the job."""
        if said.is_empty:
            return None
        if failure is not None:
            said.add(f"{failure.code}: {failure.message}\n" + (f"{failure.traceback.rstrip()}\n" if failure.traceback else ""))
        said.close()
        job = self.job
        key = f"jobs/{job.owner_id}/{job.id}/{self.key}/logs/{uuid4()}"
        filename = f"{job.kind.value}-{job.id.hex[-8:]}-attempt-{job.attempt}.log"
        try:
            async with asyncio.timeout(LOG_PATIENCE.get(self._stop, LOG_PATIENCE[Stop.GIVE_BACK])):
                size, sha256 = await self.objects.upload(said.path, key, TEXT)
        except Exception:  # whatever it is, the job goes on without its log
            log.warning("log_not_stored", job=str(job.id), attempt=job.attempt, exc_info=True)
            self.write_key(key)  # perhaps it arrived all the same
            self.reports.line("The log of this attempt could not be stored: the object storage did not take it in time.")
            return None
        return StoredFile(key, size, sha256, LOG, filename, TEXT)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(FLUSH)
            try:
                await self.reports.flush()
            except Superseded:
                self.stop(Stop.LOST)
            except Exception:  # what was not written now is written with the next round; the body must not suffer
                log.warning("reports_not_written", job=str(self.job.id), exc_info=True)
                await asyncio.sleep(1.0)
