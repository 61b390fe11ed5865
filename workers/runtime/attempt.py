"""One claim of one job, from the first byte read to the settle."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4, uuid5

import structlog
from sqlalchemy import Row, select

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import StateError, Unavailable
from db.services import jobs
from db.services.jobs import Backoff, Claim, Failure, nodes
from db.services.outputs import StoredFile
from db.stores.objects import ObjectMissing, ObjectStore
from db.tables import Job
from db.tables.jobstates import TERMINAL, JobStatus
from workers.runtime.bodies import Bodies, BodyFailed, LeaseRanOut
from workers.runtime.child import Nursery, NurseryLost
from workers.runtime.reports import Reports, Superseded
from workers.runtime.scratch import Scratch
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FLUSH = 0.1  # seconds between looks at what is to be reported
PERSIST = 60.0  # seconds for which a settle is tried again while Postgres is away


class Stop(IntEnum):
    """Why an attempt is to end before its time; a later reason counts only if it is a higher one."""

    GIVE_BACK = 1
    CANCEL = 2
    LOST = 3


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
        self._uploaded: list[str] = []
        self._stop: Stop | None = None
        self._settling = False
        self._inner: asyncio.Task[Effects] | None = None
        self.reports = Reports(tools.database, self.claim, events_per_second=settings.events_per_second, log_events=settings.log_events)
        self._bodies = Bodies(tools.nursery, settings, self.reports, until)

    # What tasks use

    def progress(self, percent: float, step: str) -> None:
        """`percent` of the whole job, 0 to 100; `step` in words."""
        self.reports.progress(percent, step)

    async def begin_nodes(self, parts: Sequence[tuple[str, str]]) -> None:
        """Say what is to be done, in order: (key, step) each."""
        async with self.database.work(SYSTEM) as work:
            await nodes.begin(work, self.claim, parts)

    async def body(self, target: str, spec: Mapping[str, Any], *, span: tuple[float, float] = (0, 100)) -> dict[str, Any]:
        """Run "module:function" in a child; see `Bodies.run`."""
        return await self._bodies.run(target, spec, self.folder, seconds=self.job.timeout_seconds, span=span)

    def write_key(self, key: str) -> str:
        """Note that this key is written; unless the job completes, it is removed again."""
        self._uploaded.append(key)
        return key

    def forsake(self, key: str) -> None:
        """This object, written by somebody else, goes too unless the job completes."""
        self._uploaded.append(key)

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
        self._bodies.patience = self._tools.settings.cancel_patience if why is Stop.CANCEL else 0.0
        if self._inner is not None:
            self._inner.cancel()

    async def run(self, task: Task) -> None:
        """Do the job and settle it; whatever happens, this returns when the attempt is over."""
        reporting = asyncio.create_task(self._keep_reporting(), name=f"reports of {self.job.id}")
        try:
            completed = await self._run(task)
        except Exception:
            # Perhaps it was committed and only the answer was lost, so nothing is removed here.
            log.exception("attempt_not_settled", job=str(self.job.id), attempt=self.job.attempt)
        else:
            if not completed:
                await self._remove(self._uploaded)
        finally:
            reporting.cancel()

    async def _run(self, task: Task) -> bool:
        with self._tools.scratch.folder() as self.folder:
            self._inner = asyncio.ensure_future(task(self))
            if self._stop is not None:
                self._inner.cancel()
            await asyncio.wait([self._inner])
        self._settling = True
        if self._stop is not Stop.LOST:
            await self._tell_the_rest()
        if self._inner.cancelled():
            await self._end_early()
            return False
        error = self._inner.exception()
        if error is None:
            return await self._complete(self._inner.result())
        if not isinstance(error, (LeaseRanOut, Superseded)):
            await self._fail(_failure(error))
        return False

    async def _tell_the_rest(self) -> None:
        """Points, nodes and logs stay even of an attempt that failed; if they cannot be written, the settle will find out why."""
        try:
            await self.reports.flush(everything=True)
        except (Superseded, Unavailable):
            log.info("last_reports_not_written", job=str(self.job.id), attempt=self.job.attempt)

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
        except StateError as error:
            await self._fail(_failure(error))
            return False
        if status is JobStatus.COMPLETED:
            await self._remove(surplus)
        return status is JobStatus.COMPLETED

    async def _fail(self, failure: Failure) -> None:
        job, settings = self.job, self._tools.settings
        backoff = Backoff(settings.backoff_base, settings.backoff_factor)
        log.info("attempt_failed", job=str(job.id), attempt=job.attempt, code=failure.code, error=failure.message)
        await self._settle(lambda work: jobs.fail(work, self.claim, failure, job.tries + 1, job.max_tries, backoff))

    async def _end_early(self) -> None:
        if self._stop is Stop.CANCEL:
            await self._settle(lambda work: jobs.cancelled(work, self.claim))
        elif self._stop is Stop.GIVE_BACK:
            await self._settle(lambda work: jobs.give_back(work, self.claim))

    async def _settle(self, write: Callable[[Work], Awaitable[Row[Any] | None]]) -> JobStatus | None:
        """Where the job went. A connection lost during the COMMIT leaves open whether it worked, so the row is asked.

        When the row says CANCELLING instead, that is what the attempt ends as: after an accepted cancel nothing completes.
        """
        give_up = time.monotonic() + PERSIST
        while True:
            try:
                async with self.database.work(SYSTEM) as work:
                    job = await write(work)
                    if job is None:
                        job = await jobs.cancelled(work, self.claim)
                    if job is not None:
                        return job.status
                    return await self._found(work)
            except Unavailable:
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(0.5)

    async def _found(self, work: Work) -> JobStatus | None:
        mine = select(Job.status).where(Job.id == self.claim.job_id, Job.attempt == self.claim.attempt)
        status = await work.scalar(mine)
        return status if status in TERMINAL else None

    async def _remove(self, keys: Sequence[str]) -> None:
        """Best effort: what stays is referenced by nothing and collected later."""
        if keys:
            try:
                await self.objects.delete(keys)
            except Exception:  # the attempt is over; a store that is away must not change how it ended
                log.warning("objects_not_removed", count=len(keys), exc_info=True)


def _failure(error: BaseException) -> Failure:
    """What a job's error says of something that went wrong in the worker rather than in the body."""
    if isinstance(error, BodyFailed):
        return error.failure
    if isinstance(error, ObjectMissing):
        return Failure("OBJECT_MISSING", "A file that the job needs is gone from the store. Upload it again.", retryable=False)
    told = "".join(traceback.format_exception(error))[-20_000:]
    if isinstance(error, Unavailable):
        return Failure("UNAVAILABLE", error.message, retryable=True, traceback=told)
    if isinstance(error, NurseryLost):
        return Failure("BODY_KILLED", "The process that starts bodies ended.", retryable=True, traceback=told, at_once=True)
    return Failure("WORKER_ERROR", f"{type(error).__name__}: {error}"[:2_000], retryable=True, traceback=told)
