"""Settles an attempt in PostgreSQL: writes its final reports, then the job's new status, and retries both while the database is down."""

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
from db.errors import QuotaExceeded, Unavailable
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

RETRY_TIMEOUT = 60.0  # seconds for which the final reports and the settle together are retried while PostgreSQL is down
RETRY_INTERVAL = 0.5  # seconds
REMOVAL_TIMEOUT = 10.0  # seconds that deleting objects may take; a hanging object store must not keep the slot
# The same for a stopping worker: a job that it cannot give back is reaped when its lease expires, and a left object is an orphan.
STOPPING_RETRY_TIMEOUT = 5.0
STOPPING_REMOVAL_TIMEOUT = 2.0
_REPORTS_NOT_WRITTEN = Failure(
    "UNAVAILABLE", "The database did not accept the job's final reports in time.", retryable=True, service_unavailable=True
)


def _outputs_too_large(error: QuotaExceeded) -> Failure:
    message = (
        f"The outputs were not kept: with them, {error.used:,} {error.resource} would be used, and the limit is {error.limit:,}."
        " Ask whoever runs this Trellis for a higher limit, then retry the job."
    )
    return Failure("QUOTA_EXCEEDED", message, retryable=False)


class Effects(Protocol):
    """Writes the job's outputs in the transaction that settles it. Returns the keys of objects that are not needed after all."""

    def __call__(self, work: Work, job: Row[Any], /) -> Awaitable[Sequence[str]]: ...


class Settlement:
    """The settlement of one attempt. `log` is the stored log file, `is_stopping` shortens retries, `status` is the job's status afterwards."""

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
        """Write all pending reports, with the same retries as the settle. Return whether they were written."""
        try:
            await self._retry(lambda: reports.flush(everything=True))
        except Superseded:  # the settle finds out too, and what became of the job
            return True
        except Exception:  # the failure of an attempt must be settled even without its last lines
            log.warning("final_reports_not_written", job=str(self._job.id), attempt=self._job.attempt, exc_info=True)
            return False
        return True

    async def complete(self, effects: Effects, *, reports_written: bool) -> bool:
        """Settle as COMPLETED; return whether the job is. Without its final reports it fails and is retried, since outputs need them.

        A job with outputs fails as well if with them its owner would store more than the quota allows.
        """
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
            raise  # the transaction may have been committed, so its objects must stay
        except QuotaExceeded as error:
            return await self.fail(_outputs_too_large(error)) is JobStatus.COMPLETED
        except Exception as error:  # settle as a failure: otherwise the lease would expire and count as a lost worker
            log.warning("effects_not_written", job=str(self._job.id), attempt=self._job.attempt, exc_info=True)
            return await self.fail(failure_of(error, body_started=True)) is JobStatus.COMPLETED
        if status is JobStatus.COMPLETED:
            await self.remove(surplus)
        return status is JobStatus.COMPLETED

    async def fail(self, failure: Failure) -> JobStatus | None:
        """Settle as failed. Return the job's new status; COMPLETED if an earlier settle was committed after all.

        If PostgreSQL rejects the failure's texts, a generic message replaces them: otherwise the attempt would count as a loss, ten times over.
        """
        job = self._job
        log.info("attempt_failed", job=str(job.id), attempt=job.attempt, code=failure.code, error=failure.message)
        try:
            return await self._fail(failure)
        except DBAPIError as error:
            if is_transient(error):
                raise
            log.warning("failure_not_written", job=str(job.id), attempt=job.attempt, exc_info=True)
            message = "The job failed, and the database rejected the error message. See the log of the worker."
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
        """Settle as CANCELLED, after the body has died."""
        await self._settle(lambda work: jobs.settle_cancelled(work, self._claim))

    async def give_back(self) -> None:
        """Give the job back because the worker stops; no try is used."""
        await self._settle(lambda work: jobs.give_back(work, self._claim))

    async def _settle(self, write: Callable[[Work], Awaitable[Row[Any] | None]]) -> JobStatus | None:
        """Settle with `write` and return the job's new status. If the COMMIT's response was lost, a retry reads the status from the row.

        If the row is CANCELLING, the attempt is settled as cancelled: after an accepted cancel no job completes.
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
        """Call `write` until it succeeds; raise permanent errors at once, transient ones after the retry timeout."""
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
        """Delete objects, best effort: no row refers to those that stay, and the orphan collector deletes them."""
        if keys:
            try:
                async with asyncio.timeout(STOPPING_REMOVAL_TIMEOUT if self.is_stopping else REMOVAL_TIMEOUT):
                    await self._objects.delete(keys)
            except Exception:  # an unavailable object store must not change the outcome
                log.warning("objects_not_removed", count=len(keys), exc_info=True)
