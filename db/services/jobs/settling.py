"""How an attempt ends, decided by the worker that holds it. None back means: it holds it no longer, and nothing was written."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, bindparam
from sqlalchemy.dialects.postgresql import JSONB

from db.core.work import Work
from db.services.jobs import attempts
from db.services.jobs.transitions import HELD, Claim, TransitionStatement, clock, interval
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus

MAX_POSTPONEMENT = 30.0  # seconds before a job asks again for a service that was away, which may be back at any moment


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a body did not make it. `at_once` leaves the pause before the next try out: the body itself was not at fault.

    `away` says that a service did not answer that the job needs, which is no try and no loss either; `lost` that the worker had troubles
    of its own, which is a loss.
    """

    code: str
    message: str
    retryable: bool
    traceback: str | None = None
    row: int | None = None
    column: str | None = None
    retry_immediately: bool = False
    service_unavailable: bool = False
    worker_lost: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As the columns called `error` keep it."""
        values = {"code": self.code, "message": self.message, "retryable": self.retryable, "traceback": self.traceback}
        return {**values, "row": self.row, "column": self.column}


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before try n+1 is base · factorⁿ⁻¹ seconds, more or less by the jitter, and never above the limit."""

    base: float = 2.0
    factor: float = 4.0
    jitter: float = 0.25
    limit: float = 600.0

    def delay(self, tries: int) -> float:
        spread = random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - spreads load, guards nothing
        return min(self.base * self.factor ** min(tries - 1, 99), self.limit) * spread  # beyond any limit, and still a number


_TRY_VALUES: dict[str, Any] = {"tries": bindparam("the_tries"), "error": bindparam("the_error", type_=JSONB(none_as_null=True))}

_COMPLETE = TransitionStatement(JobStatus.COMPLETED, "settle", JobEventType.COMPLETED, HELD)
_FAIL = TransitionStatement(JobStatus.FAILED, "settle", JobEventType.FAILED, HELD, **_TRY_VALUES)
_RETRY = TransitionStatement(
    JobStatus.PENDING, "give back", JobEventType.RETRYING, HELD, run_after=clock() + interval("the_pause"), **_TRY_VALUES
)
_POSTPONEMENT_VALUES: dict[str, Any] = {
    "postponements": bindparam("the_count"),
    "error": bindparam("the_error", type_=JSONB(none_as_null=True)),
}
_POSTPONE = TransitionStatement(
    JobStatus.PENDING, "give back", JobEventType.RETRYING, HELD, run_after=clock() + interval("the_pause"), **_POSTPONEMENT_VALUES
)
_LOSS_VALUES: dict[str, Any] = {"losses": bindparam("the_losses"), "error": bindparam("the_error", type_=JSONB(none_as_null=True))}
_LOSE = TransitionStatement(
    JobStatus.PENDING, "give back", JobEventType.RETRYING, HELD, run_after=clock() + interval("the_pause"), **_LOSS_VALUES
)
_FAIL_LOST = TransitionStatement(JobStatus.FAILED, "settle", JobEventType.FAILED, HELD, **_LOSS_VALUES)
_GIVE_BACK = TransitionStatement(JobStatus.PENDING, "give back", JobEventType.RETRYING, HELD, run_after=None)
_CANCELLED = TransitionStatement(JobStatus.CANCELLED, "settle", JobEventType.CANCELLED, HELD)


async def complete(work: Work, claim: Claim) -> Row[Any] | None:
    """COMPLETED; what the job made is to be written in the same work, after this, so that a superseded attempt writes none of it."""
    job = await _COMPLETE.apply_one(work, **claim.parameters())
    if job is not None:
        await attempts.end(work, job, "completed")
    return job


async def fail(work: Work, claim: Claim, failure: Failure, tries: int, max_tries: int, backoff: Backoff) -> Row[Any] | None:
    """Use a try (`tries` counts it) and wait for the next, or end as FAILED when there is none left or another would change nothing."""
    error = failure.to_dict()
    data: dict[str, Any] = {"error": {"code": failure.code, "message": failure.message}}
    if failure.retryable and tries < max_tries:
        pause = 0.0 if failure.retry_immediately else backoff.delay(tries)
        message = f"{failure.message} Try {tries} of {max_tries} failed; the next one starts in {pause:.0f} s."
        data["reason"] = "failed"
        parameters = {"the_tries": tries, "the_error": error, "the_pause": timedelta(seconds=pause)}
        job = await _RETRY.apply_one(work, message=message, data=data, **claim.parameters(), **parameters)
        outcome = "retrying"
    else:
        parameters = {"the_tries": tries, "the_error": error}
        job = await _FAIL.apply_one(work, message=failure.message, data=data, **claim.parameters(), **parameters)
        outcome = "failed"
    if job is not None:
        await attempts.end(work, job, outcome, error)
    return job


async def postpone(work: Work, claim: Claim, failure: Failure, count: int, backoff: Backoff) -> Row[Any] | None:
    """A service is away: neither a try nor a loss, however often. `count` is how often in a row, with this time."""
    error = failure.to_dict()
    pause = min(backoff.delay(count), MAX_POSTPONEMENT)
    message = f"{failure.message} No try was used; the job starts again in {pause:.0f} s."
    data = {"error": {"code": failure.code, "message": failure.message}, "reason": "postponed"}
    parameters = {"the_count": count, "the_error": error, "the_pause": timedelta(seconds=pause)}
    job = await _POSTPONE.apply_one(work, message=message, data=data, **claim.parameters(), **parameters)
    if job is not None:
        await attempts.end(work, job, "retrying", error)
    return job


async def record_loss(work: Work, claim: Claim, failure: Failure, losses: int, max_losses: int, backoff: Backoff) -> Row[Any] | None:
    """The worker could not do its part: no try is used. `losses` counts this one; when there are `max_losses`, the job ends as FAILED."""
    error = failure.to_dict()
    data: dict[str, Any] = {"error": {"code": failure.code, "message": failure.message}}
    parameters: dict[str, Any] = {"the_losses": losses, "the_error": error}
    if losses < max_losses:
        pause = min(backoff.delay(losses), MAX_POSTPONEMENT)
        data["reason"] = "lost"
        message = f"{failure.message} No try was used; the job starts again in {pause:.0f} s."
        job = await _LOSE.apply_one(
            work, message=message, data=data, the_pause=timedelta(seconds=pause), **claim.parameters(), **parameters
        )
        outcome = "retrying"
    else:
        job = await _FAIL_LOST.apply_one(work, message=failure.message, data=data, **claim.parameters(), **parameters)
        outcome = "failed"
    if job is not None:
        await attempts.end(work, job, outcome, error)
    return job


async def give_back(work: Work, claim: Claim) -> Row[Any] | None:
    """The worker stops: the job waits again, no try used."""
    message = "The worker stopped and gave the job back."
    job = await _GIVE_BACK.apply_one(work, message=message, data={"reason": "given_back"}, **claim.parameters())
    if job is not None:
        await attempts.end(work, job, "given_back")
    return job


async def settle_cancelled(work: Work, claim: Claim) -> Row[Any] | None:
    """The body of a job that was to be cancelled is dead."""
    job = await _CANCELLED.apply_one(work, **claim.parameters())
    if job is not None:
        await attempts.end(work, job, "cancelled")
    return job
