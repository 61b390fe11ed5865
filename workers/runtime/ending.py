"""How an attempt ends in PostgreSQL: its last words, then the settle, both tried again while the database is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import structlog
from sqlalchemy import Row, select
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import Unavailable
from db.services import jobs, outputs
from db.services.jobs import Backoff, Claim, Failure
from db.services.outputs import StoredFile
from db.stores.objects import ObjectStore
from db.tables import Job
from db.tables.jobstates import TERMINAL, JobStatus
from workers.runtime import telemetry
from workers.runtime.failures import failure_of, passes
from workers.runtime.reports import Reports, Superseded
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()
T = TypeVar("T")

PERSIST = 60.0  # seconds for which last words and settle together are tried again while Postgres is away
AGAIN = 0.5
REMOVAL = 10.0  # seconds that removing objects may take; a store that hangs must not keep the slot
# The same of a worker that stops: a job that it cannot give back is lost to it within a lease, and an object that stays is collected.
LAST_WORDS = 5.0
LAST_REMOVAL = 2.0
_UNTOLD = Failure("UNAVAILABLE", "The database did not take in time what the job still had to tell.", retryable=True, away=True)


class Effects(Protocol):
    """Writes what the job made, in the transaction that settles it; answers with the keys of objects that are not needed after all."""

    def __call__(self, work: Work, job: Row[Any], /) -> Awaitable[Sequence[str]]: ...


class Ending:
    """Of one attempt. `log` is the file that the settle refers to; `in_haste` says that the worker stops; `status` is where the job went."""

    def __init__(self, database: Database, objects: ObjectStore, job: Row[Any], settings: WorkerSettings) -> None:
        self._database = database
        self._objects = objects
        self._job = job
        self._claim = Claim(job.id, job.attempt, job.worker_id)
        self._settings = settings
        self._give_up: float | None = None
        self.log: StoredFile | None = None
        self.in_haste = False
        self.status: JobStatus | None = None

    async def tell(self, reports: Reports) -> bool:
        """Write all that is still to be told; whether it was written. What the settle must not go without is tried as long as the settle is."""
        try:
            await self._insist(lambda: reports.flush(everything=True))
        except Superseded:  # the settle finds that out too, and knows what became of the job
            return True
        except Exception:  # of a failed attempt the reason is worth more than its last lines
            log.warning("last_reports_not_written", job=str(self._job.id), attempt=self._job.attempt, exc_info=True)
            return False
        return True

    async def complete(self, effects: Effects, *, is_told: bool) -> bool:
        """Whether the job is COMPLETED. What it told belongs to what it made: without the one there is not the other, and it runs again."""
        if not is_told:
            return await self.fail(_UNTOLD) is JobStatus.COMPLETED
        surplus: list[str] = []

        async def write(work: Work) -> Row[Any] | None:
            job = await jobs.complete(work, self._claim)
            if job is not None:
                surplus[:] = await effects(work, job)
            return job

        try:
            status = await self._settle(write)
        except Unavailable:
            raise  # perhaps it was committed, and what it refers to must stay
        except Exception as error:  # what it made cannot be written: a failure like any other, and not a worker that vanished
            log.warning("effects_not_written", job=str(self._job.id), attempt=self._job.attempt, exc_info=True)
            return await self.fail(failure_of(error, had_body=True)) is JobStatus.COMPLETED
        if status is JobStatus.COMPLETED:
            await self.remove(surplus)
        return status is JobStatus.COMPLETED

    async def fail(self, failure: Failure) -> JobStatus | None:
        """Where the job went; COMPLETED if an earlier settle had been committed after all.

        Words that Postgres refuses must not turn a failure into a worker that vanished, ten times over.
        """
        job = self._job
        log.info("attempt_failed", job=str(job.id), attempt=job.attempt, code=failure.code, error=failure.message)
        try:
            return await self._fail(failure)
        except DBAPIError as error:
            if passes(error):
                raise
            log.warning("failure_not_written", job=str(job.id), attempt=job.attempt, exc_info=True)
            plain = "The job failed, and the database refused the words that say why. The worker's own log has them."
            return await self._fail(replace(failure, message=plain, traceback=None, column=None))

    async def _fail(self, failure: Failure) -> JobStatus | None:
        job, settings = self._job, self._settings
        backoff = Backoff(settings.backoff_base, settings.backoff_factor, settings.backoff_jitter)
        if failure.away:
            return await self._settle(lambda work: jobs.postpone(work, self._claim, failure, job.postponements + 1, backoff))
        if failure.lost:
            return await self._settle(lambda work: jobs.lose(work, self._claim, failure, job.losses + 1, settings.max_losses, backoff))
        return await self._settle(lambda work: jobs.fail(work, self._claim, failure, job.tries + 1, job.max_tries, backoff))

    async def cancel(self) -> None:
        """The body of a job that was to be cancelled is dead."""
        await self._settle(lambda work: jobs.cancelled(work, self._claim))

    async def give_back(self) -> None:
        """The worker stops: no try is used."""
        await self._settle(lambda work: jobs.give_back(work, self._claim))

    async def _settle(self, write: Callable[[Work], Awaitable[Row[Any] | None]]) -> JobStatus | None:
        """Where the job went. A connection lost during the COMMIT leaves open whether it worked, so the row is asked.

        When the row says CANCELLING instead, that is what the attempt ends as: after an accepted cancel nothing completes.
        """
        rounds = 0

        async def settle() -> tuple[JobStatus | None, list[str]]:
            nonlocal rounds
            rounds += 1
            surplus: list[str] = []
            async with self._database.work(SYSTEM) as work:
                job = await write(work)
                if job is None:
                    job = await jobs.cancelled(work, self._claim)
                if job is not None and self.log is not None:
                    await outputs.add_artifact(work, job, self.log, surplus, self._claim.attempt)
                status = await self._found(work) if job is None else job.status
            if job is None and rounds == 1 and self.log is not None:
                surplus.append(self.log.key)
            return status, surplus

        self.status, surplus = await self._insist(settle)
        await self.remove(surplus)
        return self.status

    async def _insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Do it until it is done, or until what stands in its way does not pass; or raise what that was when the time is over."""
        if self._give_up is None:
            self._give_up = time.monotonic() + (LAST_WORDS if self.in_haste else PERSIST)
        while True:
            try:
                return await write()
            except Exception as error:
                if not passes(error) or time.monotonic() > self._give_up:
                    raise
                telemetry.SETTLED_AGAIN.inc()
                await asyncio.sleep(AGAIN)

    async def _found(self, work: Work) -> JobStatus | None:
        mine = select(Job.status).where(Job.id == self._claim.job_id, Job.attempt == self._claim.attempt)
        status = await work.scalar(mine)
        return status if status in TERMINAL else None

    async def remove(self, keys: Sequence[str]) -> None:
        """Best effort: what stays is referenced by nothing and collected later."""
        if keys:
            try:
                async with asyncio.timeout(LAST_REMOVAL if self.in_haste else REMOVAL):
                    await self._objects.delete(keys)
            except Exception:  # the attempt is over; a store that is away must not change how it ended
                log.warning("objects_not_removed", count=len(keys), exc_info=True)
