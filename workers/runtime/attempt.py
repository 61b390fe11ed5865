"""One claim of one job, from the first byte read to the settle."""

from __future__ import annotations

import asyncio
import errno
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4, uuid5

import structlog
from sqlalchemy import Row, select
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import Unavailable
from db.queries.artifacts import LOG
from db.services import jobs, outputs
from db.services.jobs import Backoff, Claim, Failure, nodes
from db.services.jobs.transitions import hold
from db.services.outputs import StoredFile
from db.stores.objects import ObjectMissing, ObjectStore
from db.tables import Job
from db.tables.jobstates import TERMINAL, JobStatus
from workers.runtime import telemetry
from workers.runtime.bodies import Bodies, BodyFailed, LeaseRanOut
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.child import Nursery, NurseryLost
from workers.runtime.logs import LogFile
from workers.runtime.reports import Reports, Superseded
from workers.runtime.scratch import Scratch, log_of
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TEXT = "text/plain; charset=utf-8"
FLUSH = 0.1  # seconds between looks at what is to be reported
PERSIST = 60.0  # seconds for which a settle is tried again while Postgres is away
REMOVAL = 10.0  # seconds that removing objects may take; a store that hangs must not keep the slot
# The same of a worker that stops: a job that it cannot give back is lost to it within a lease, and an object that stays is collected.
LAST_WORDS = 5.0
LAST_REMOVAL = 2.0
# What Postgres says when it broke a transaction off that may pass the next time: deadlock, serialization, a statement or a lock too late.
_BROKEN_OFF = frozenset({"40P01", "40001", "57014", "55P03"})


class Stop(IntEnum):
    """Why an attempt is to end before its time; a later reason counts only if it is a higher one."""

    GIVE_BACK = 1
    CANCEL = 2
    LOST = 3


# Seconds that storing the log may keep the settle waiting. A worker that stops has little time, and who cancels wants to see it done.
LOG_PATIENCE = {None: 10.0, Stop.CANCEL: 3.0, Stop.GIVE_BACK: 1.0}
CHECKPOINT_PATIENCE = {None: 10.0, Stop.GIVE_BACK: 3.0}  # the same for the checkpoint that was being stored; else no attempt may come


@dataclass(frozen=True, slots=True)
class Tools:
    """What a worker lends to its attempts."""

    database: Database
    objects: ObjectStore
    nursery: Nursery
    scratch: Scratch
    settings: WorkerSettings


class Effects(Protocol):
    """Writes what the job made, in the transaction that settles it; answers with the keys of objects that are not needed after all."""

    def __call__(self, work: Work, job: Row[Any], /) -> Awaitable[Sequence[str]]: ...


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
        self._uploaded: list[str] = []
        self._forsaken: list[str] = []
        self._taken_over: set[str] = set()
        self._stop: Stop | None = None
        self._settling = False
        self._log: StoredFile | None = None
        self._inner: asyncio.Task[Effects] | None = None
        self.reports = Reports(tools.database, self.claim, events_per_second=settings.events_per_second, log_events=settings.log_events)
        self.checkpoints = Checkpoints(tools.database, tools.objects, self.claim, self.reports)
        self._ended_as: JobStatus | None = None
        self._bodies = Bodies(tools.nursery, settings, self.reports, self.checkpoints, until)
        self._bodies.ordered = telemetry.Start(job).ordered

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
        return await self._bodies.run(target, spec, self.folder, seconds=self._seconds(), span=span)

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
            if not completed:
                await self._remove(self._uploaded + (self._forsaken if self._ended_as is JobStatus.FAILED else []))
            if self._ended_as in TERMINAL:
                await self._remove([key for key in self.checkpoints.keys if not (completed and key in self._taken_over)])
        finally:
            reporting.cancel()
            telemetry.ENDED.labels(self.job.kind.value, self._outcome()).inc()

    def _outcome(self) -> str:
        """As the attempt's record names it, if this attempt wrote it."""
        if self._ended_as is None:
            return "lost"
        if self._ended_as is JobStatus.PENDING:
            return "given_back" if self._stop is Stop.GIVE_BACK else "retrying"
        return self._ended_as.value

    async def _run(self, task: Task) -> bool:
        async with AsyncExitStack() as stack:
            try:
                self.folder = await stack.enter_async_context(self._tools.scratch.folder())
            except OSError as error:
                await self._fail(_failure(error))
                return False
            said = LogFile(log_of(self.folder), self._tools.settings.log_bytes)
            self.reports.keep_log(said)
            self._inner = asyncio.ensure_future(task(self))
            if self._stop is not None:
                self._inner.cancel()
            await asyncio.wait([self._inner])
            await self.checkpoints.close(patience=CHECKPOINT_PATIENCE.get(self._stop, 0.0))
            self._settling = True
            error = None if self._inner.cancelled() else self._inner.exception()
            failure = None if error is None else _failure(error)
            if isinstance(error, (LeaseRanOut, Superseded)) or self._stop is Stop.LOST:
                said.close()
            else:
                await self._store_log(said, failure)
                await self._tell_the_rest()
        if self._inner.cancelled():
            await self._end_early()
            return False
        if failure is None:
            return await self._complete(self._inner.result())
        if not isinstance(error, (LeaseRanOut, Superseded)):
            await self._fail(failure)
        return False

    async def _store_log(self, said: LogFile, failure: Failure | None) -> None:
        """What the body said becomes an object, to be referred to by the settle; a store that is away costs the log, not the job."""
        if said.is_empty:
            return
        if failure is not None:
            said.add(f"{failure.code}: {failure.message}\n" + (f"{failure.traceback.rstrip()}\n" if failure.traceback else ""))
        said.close()
        job = self.job
        key = f"jobs/{job.owner_id}/{job.id}/{self.key}/logs/{uuid4()}"
        filename = f"{job.kind.value}-{job.id.hex[-8:]}-attempt-{job.attempt}.log"
        try:
            async with asyncio.timeout(LOG_PATIENCE[self._stop]):
                size, sha256 = await self.objects.upload(said.path, key, TEXT)
        except Exception:  # whatever it is, the job goes on without its log
            log.warning("log_not_stored", job=str(job.id), attempt=job.attempt, exc_info=True)
            self.write_key(key)  # perhaps it arrived all the same
            self.reports.line("The log of this attempt could not be stored: the object storage did not take it in time.")
        else:
            self._log = StoredFile(key, size, sha256, LOG, filename, TEXT)

    async def _tell_the_rest(self) -> None:
        """Points, nodes and logs stay even of an attempt that failed; if they cannot be written, the settle will find out why."""
        try:
            await self.reports.flush(everything=True)
        except (Superseded, Unavailable):
            log.info("last_reports_not_written", job=str(self.job.id), attempt=self.job.attempt)
        except Exception:  # of something that cannot be written at all, the job must not run again and again
            log.exception("last_reports_not_written", job=str(self.job.id), attempt=self.job.attempt)

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

    # How it ends

    async def _complete(self, effects: Effects) -> bool:
        surplus: list[str] = []

        async def write(work: Work) -> Row[Any] | None:
            job = await jobs.complete(work, self.claim)
            if job is not None:
                surplus[:] = await effects(work, job)
            return job

        try:
            status = await self._settle(write)
        except Unavailable:
            raise  # perhaps it was committed, and what it refers to must stay
        except Exception as error:  # what it made cannot be written: a failure like any other, and not a worker that vanished
            log.warning("effects_not_written", job=str(self.job.id), attempt=self.job.attempt, exc_info=True)
            return await self._fail(_failure(error)) is JobStatus.COMPLETED
        if status is JobStatus.COMPLETED:
            await self._remove(surplus)
        return status is JobStatus.COMPLETED

    async def _fail(self, failure: Failure) -> JobStatus | None:
        """Where the job went; COMPLETED if an earlier settle had been committed after all."""
        job, settings = self.job, self._tools.settings
        backoff = Backoff(settings.backoff_base, settings.backoff_factor, settings.backoff_jitter)
        log.info("attempt_failed", job=str(job.id), attempt=job.attempt, code=failure.code, error=failure.message)
        if failure.away:
            return await self._settle(lambda work: jobs.postpone(work, self.claim, failure, job.postponements + 1, backoff))
        return await self._settle(lambda work: jobs.fail(work, self.claim, failure, job.tries + 1, job.max_tries, backoff))

    async def _end_early(self) -> None:
        if self._stop is Stop.CANCEL:
            await self._settle(lambda work: jobs.cancelled(work, self.claim))
        elif self._stop is Stop.GIVE_BACK:
            await self._settle(lambda work: jobs.give_back(work, self.claim))

    async def _settle(self, write: Callable[[Work], Awaitable[Row[Any] | None]]) -> JobStatus | None:
        """Where the job went. A connection lost during the COMMIT leaves open whether it worked, so the row is asked.

        When the row says CANCELLING instead, that is what the attempt ends as: after an accepted cancel nothing completes.
        """
        give_up = time.monotonic() + (LAST_WORDS if self._stop is Stop.GIVE_BACK else PERSIST)
        is_first = True
        while True:
            surplus: list[str] = []
            try:
                async with self.database.work(SYSTEM) as work:
                    job = await write(work)
                    if job is None:
                        job = await jobs.cancelled(work, self.claim)
                    if job is not None and self._log is not None:
                        await outputs.add_artifact(work, job, self._log, surplus, self.claim.attempt)
                    status = await self._found(work) if job is None else job.status
            except (Unavailable, DBAPIError) as error:
                if isinstance(error, DBAPIError) and _sqlstate(error) not in _BROKEN_OFF:
                    raise
                if time.monotonic() > give_up:
                    raise
                telemetry.SETTLED_AGAIN.inc()
                is_first = False
                await asyncio.sleep(0.5)
            else:
                if job is None and is_first and self._log is not None:
                    surplus.append(self._log.key)
                await self._remove(surplus)
                self._ended_as = status
                return status

    async def _found(self, work: Work) -> JobStatus | None:
        mine = select(Job.status).where(Job.id == self.claim.job_id, Job.attempt == self.claim.attempt)
        status = await work.scalar(mine)
        return status if status in TERMINAL else None

    async def _remove(self, keys: Sequence[str]) -> None:
        """Best effort: what stays is referenced by nothing and collected later."""
        if keys:
            try:
                async with asyncio.timeout(LAST_REMOVAL if self._stop is Stop.GIVE_BACK else REMOVAL):
                    await self.objects.delete(keys)
            except Exception:  # the attempt is over; a store that is away must not change how it ended
                log.warning("objects_not_removed", count=len(keys), exc_info=True)


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _failure(error: BaseException) -> Failure:
    """What a job's error says of something that went wrong in the worker rather than in the body."""
    if isinstance(error, BodyFailed):
        return error.failure
    if isinstance(error, ObjectMissing):
        return Failure("OBJECT_MISSING", "A file that the job needs is gone from the store. Upload it again.", retryable=False)
    told = "".join(traceback.format_exception(error))[-20_000:]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The worker has no disk space left for the files of the job. Free some, or start a worker with more."
        return Failure("DISK_FULL", message, retryable=True, traceback=told)
    if isinstance(error, Unavailable):
        return Failure("UNAVAILABLE", error.message, retryable=True, traceback=told, away=True)
    if isinstance(error, NurseryLost):
        return Failure("BODY_KILLED", "The process that starts bodies ended.", retryable=True, traceback=told, at_once=True)
    return Failure("WORKER_ERROR", f"{type(error).__name__}: {error}"[:2_000], retryable=True, traceback=told)
