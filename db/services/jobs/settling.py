"""How an attempt ends, decided by the worker that holds it. None back means: it holds it no longer, and nothing was written."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from db.core.work import Work
from db.services.jobs import attempts
from db.services.jobs.transitions import Claim, Says, clock, move_one, seconds
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a body did not make it. `at_once` leaves the pause before the next try out: the body itself was not at fault."""

    code: str
    message: str
    retryable: bool
    traceback: str | None = None
    row: int | None = None
    column: str | None = None
    at_once: bool = False

    def document(self) -> dict[str, Any]:
        """As the columns called `error` keep it."""
        found = {"code": self.code, "message": self.message, "retryable": self.retryable, "traceback": self.traceback}
        return {**found, "row": self.row, "column": self.column}


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before try n+1 is base · factorⁿ⁻¹ seconds, more or less by the jitter, and never above the limit."""

    base: float = 2.0
    factor: float = 4.0
    jitter: float = 0.25
    limit: float = 600.0

    def after(self, tries: int) -> float:
        spread = random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - spreads load, guards nothing
        return min(self.base * self.factor ** (tries - 1), self.limit) * spread


async def complete(work: Work, claim: Claim) -> Row[Any] | None:
    """COMPLETED; what the job made is to be written in the same work, after this, so that a superseded attempt writes none of it."""
    job = await move_one(work, JobStatus.COMPLETED, "settle", Says(JobEventType.COMPLETED), *claim.conditions(), error=None)
    if job is not None:
        await attempts.end(work, job, "completed")
    return job


async def fail(work: Work, claim: Claim, failure: Failure, tries: int, max_tries: int, backoff: Backoff) -> Row[Any] | None:
    """Use a try (`tries` counts it) and wait for the next, or end as FAILED when there is none left or another would change nothing."""
    error = failure.document()
    if failure.retryable and tries < max_tries:
        pause = 0.0 if failure.at_once else backoff.after(tries)
        says = Says(
            JobEventType.RETRYING,
            f"{failure.message} Try {tries} of {max_tries} failed; the next one starts in {pause:.0f} s.",
            {"reason": "failed", "error": {"code": failure.code, "message": failure.message}},
        )
        job = await move_one(
            work, JobStatus.PENDING, "give back", says, *claim.conditions(), tries=tries, run_after=clock() + seconds(pause), error=error
        )
        outcome = "retrying"
    else:
        says = Says(JobEventType.FAILED, failure.message, {"error": {"code": failure.code, "message": failure.message}})
        job = await move_one(work, JobStatus.FAILED, "settle", says, *claim.conditions(), tries=tries, error=error)
        outcome = "failed"
    if job is not None:
        await attempts.end(work, job, outcome, error)
    return job


async def give_back(work: Work, claim: Claim) -> Row[Any] | None:
    """The worker stops: the job waits again, no try used."""
    says = Says(JobEventType.RETRYING, "The worker stopped and gave the job back.", {"reason": "given_back"})
    job = await move_one(work, JobStatus.PENDING, "give back", says, *claim.conditions(), run_after=None)
    if job is not None:
        await attempts.end(work, job, "given_back")
    return job


async def cancelled(work: Work, claim: Claim) -> Row[Any] | None:
    """The body of a job that was to be cancelled is dead."""
    says = Says(JobEventType.CANCELLED)
    job = await move_one(work, JobStatus.CANCELLED, "settle", says, *claim.conditions())
    if job is not None:
        await attempts.end(work, job, "cancelled")
    return job
