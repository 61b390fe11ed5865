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
from workers.runtime.failures import failure_of, is_transient
from workers.runtime.reports import Reports, Superseded
from workers.settings import WorkerSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()
T = TypeVar("T")

RETRY_TIMEOUT = 60.0  # seconds for which last words and settle together are tried again while Postgres is away
RETRY_INTERVAL = 0.5
REMOVAL_TIMEOUT = 10.0  # seconds that removing objects may take; a store that hangs must not keep the slot
# The same of a worker that stops: a job that it cannot give back is lost to it within a lease, and an object that stays is collected.
STOPPING_RETRY_TIMEOUT = 5.0
STOPPING_REMOVAL_TIMEOUT = 2.0
_REPORTS_NOT_WRITTEN = Failure(
    "UNAVAILABLE", "The database did not take in time what the job still had to tell.", retryable=True, service_unavailable=True
)


class Effects(Protocol):
    """Writes what the job made, in the transaction that settles it; answers with the keys of objects that are not needed after all."""

    def __call__(self, work: Work, job: Row[Any], /) -> Awaitable[Sequence[str]]: ...


class Settlement:
    """Of one attempt. `log` is the file that the settle refers to; `in_haste` says that the worker stops; `status` is where the job went."""

    def __init__(self, database: Database, objects: ObjectStore, job: Row[Any], settings: WorkerSettings) -> None:
        self._database = database
        self._objects = objects
        self._job = job
        self._claim = Claim(job.id, job.attempt, job.worker_id)
        self._settings = settings
        self._retry_until: float | None = None
        self.log: StoredFile | None = None
        self.is_stopping = False
        self.status: JobStatus | None = None

    async def write_reports(self, reports: Reports) -> bool:
        """Write all that is still to be told; whether it was written. What the settle must not go without is tried as long as the settle is."""
        try:
            await self._retry(lambda: reports.flush(everything=True))
        except Superseded:  # the settle finds that out too, and knows what became of the job
            return True
        except Exception:  # of a failed attempt the reason is worth more than its last lines
            log.warning("last_reports_not_written", job=str(self._job.id), attempt=self._job.attempt, exc_info=True)
            return False
        return True

    async def complete(self, effects: Effects, *, reports_written: bool) -> bool:
        """Whether the job is COMPLETED. What it told belongs to what it made: without the one there is not the other, and it runs again."""
        if not reports_written:
            return await self.fail(_REPORTS_NOT_WRITTEN) is JobStatus.COMPLETED
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
            return await self.fail(failure_of(error, body_started=True)) is JobStatus.COMPLETED
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
            if is_transient(error):
                raise
            log.warning("failure_not_written", job=str(job.id), attempt=job.attempt, exc_info=True)
            message = "The job failed, and the database refused the words that say why. The worker's own log has them."
            return await self._fail(replace(failure, message=message, traceback=None, column=None))

    async def _fail(self, failure: Failure) -> JobStatus | None:
        job, settings = self._job, self._settings
        backoff = Backoff(settings.backoff_base, settings.backoff_factor, settings.backoff_jitter)
        if failure.service_unavailable:
            return await self._settle(lambda work: jobs.postpone(work, self._claim, failure, job.postponements + 1, backoff))
        if failure.worker_lost:
            return await self._settle(
                lambda work: jobs.record_loss(work, self._claim, failure, job.losses + 1, settings.max_losses, backoff)
            )
        return await self._settle(lambda work: jobs.fail(work, self._claim, failure, job.tries + 1, job.max_tries, backoff))

    async def cancel(self) -> None:
        """The body of a job that was to be cancelled is dead."""
        await self._settle(lambda work: jobs.settle_cancelled(work, self._claim))

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
                    job = await jobs.settle_cancelled(work, self._claim)
                if job is not None and self.log is not None:
                    await outputs.add_artifact(work, job, self.log, surplus, self._claim.attempt)
                status = await self._terminal_status(work) if job is None else job.status
            if job is None and rounds == 1 and self.log is not None:
                surplus.append(self.log.key)
            return status, surplus

        self.status, surplus = await self._retry(settle)
        await self.remove(surplus)
        return self.status

    async def _retry(self, write: Callable[[], Awaitable[T]]) -> T:
        """Do it until it is done, or until what stands in its way does not pass; or raise what that was when the time is over."""
        if self._retry_until is None:
            self._retry_until = time.monotonic() + (STOPPING_RETRY_TIMEOUT if self.is_stopping else RETRY_TIMEOUT)
        while True:
            try:
                return await write()
            except Exception as error:
                if not is_transient(error) or time.monotonic() > self._retry_until:
                    raise
                telemetry.SETTLE_RETRIES.inc()
                await asyncio.sleep(RETRY_INTERVAL)

    async def _terminal_status(self, work: Work) -> JobStatus | None:
        statement = select(Job.status).where(Job.id == self._claim.job_id, Job.attempt == self._claim.attempt)
        status = await work.scalar(statement)
        return status if status in TERMINAL else None

    async def remove(self, keys: Sequence[str]) -> None:
        """Best effort: what stays is referenced by nothing and collected later."""
        if keys:
            try:
                async with asyncio.timeout(STOPPING_REMOVAL_TIMEOUT if self.is_stopping else REMOVAL_TIMEOUT):
                    await self._objects.delete(keys)
            except Exception:  # the attempt is over; a store that is away must not change how it ended
                log.warning("objects_not_removed", count=len(keys), exc_info=True)
