"""Settle an attempt, by the worker that holds it. Each function returns None, and writes nothing, if the claim is lost."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, bindparam
from sqlalchemy.dialects.postgresql import JSONB

from db.core.work import Work
from db.services.jobs import attempts, nodes
from db.services.jobs.transitions import IS_HELD, Claim, TransitionStatement, clock, interval
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus

MAX_POSTPONEMENT = 30.0  # seconds; a service that was unavailable may be back at any moment


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a body failed. `retry_immediately` skips the backoff: the body itself was not at fault.

    `service_unavailable`: a service that the job needs did not answer; counts neither as a try nor as a loss. `worker_lost`: the worker
    itself failed; counts as a loss.
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
        """The value of the columns called `error`."""
        values = {"code": self.code, "message": self.message, "retryable": self.retryable, "traceback": self.traceback}
        return {**values, "row": self.row, "column": self.column}


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff: the delay before try n+1 is min(base · factorⁿ⁻¹, limit) seconds, ± the jitter."""

    base: float = 2.0
    factor: float = 4.0
    jitter: float = 0.25
    limit: float = 600.0

    def delay(self, tries: int) -> float:
        spread = random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - spreads load, guards nothing
        return min(self.base * self.factor ** min(tries - 1, 99), self.limit) * spread  # 99 keeps the float from overflowing


_TRY_VALUES: dict[str, Any] = {"tries": bindparam("p_tries"), "error": bindparam("p_error", type_=JSONB(none_as_null=True))}

_COMPLETE = TransitionStatement(JobStatus.COMPLETED, "settle", JobEventType.COMPLETED, IS_HELD)
_FAIL = TransitionStatement(JobStatus.FAILED, "settle", JobEventType.FAILED, IS_HELD, **_TRY_VALUES)
_RETRY = TransitionStatement(
    JobStatus.PENDING, "give back", JobEventType.RETRYING, IS_HELD, run_after=clock() + interval("p_delay"), **_TRY_VALUES
)
_POSTPONEMENT_VALUES: dict[str, Any] = {
    "postponements": bindparam("p_postponements"),
    "error": bindparam("p_error", type_=JSONB(none_as_null=True)),
}
_POSTPONE = TransitionStatement(
    JobStatus.PENDING, "give back", JobEventType.RETRYING, IS_HELD, run_after=clock() + interval("p_delay"), **_POSTPONEMENT_VALUES
)
_LOSS_VALUES: dict[str, Any] = {"losses": bindparam("p_losses"), "error": bindparam("p_error", type_=JSONB(none_as_null=True))}
_LOSE = TransitionStatement(
    JobStatus.PENDING, "give back", JobEventType.RETRYING, IS_HELD, run_after=clock() + interval("p_delay"), **_LOSS_VALUES
)
_FAIL_LOST = TransitionStatement(JobStatus.FAILED, "settle", JobEventType.FAILED, IS_HELD, **_LOSS_VALUES)
_GIVE_BACK = TransitionStatement(JobStatus.PENDING, "give back", JobEventType.RETRYING, IS_HELD, run_after=None)
_CANCELLED = TransitionStatement(JobStatus.CANCELLED, "settle", JobEventType.CANCELLED, IS_HELD)


async def complete(work: Work, claim: Claim) -> Row[Any] | None:
    """Settle as COMPLETED. Write the results after this, in the same unit of work, so that a superseded attempt writes none."""
    job = await _COMPLETE.apply_one(work, **claim.parameters())
    if job is not None:
        await attempts.end(work, job, "completed")
    return job


async def fail(work: Work, claim: Claim, failure: Failure, tries: int, max_tries: int, backoff: Backoff) -> Row[Any] | None:
    """Use a try (`tries` includes it): requeue after the backoff, or end as FAILED if no try is left or the failure is not retryable."""
    error = failure.to_dict()
    data = await _failure_data(work, claim, failure)
    if failure.retryable and tries < max_tries:
        delay = 0.0 if failure.retry_immediately else backoff.delay(tries)
        message = f"{failure.message} Try {tries} of {max_tries} failed; the next one starts in {delay:.0f} s."
        data["reason"] = "failed"
        parameters = {"p_tries": tries, "p_error": error, "p_delay": timedelta(seconds=delay)}
        job = await _RETRY.apply_one(work, message=message, data=data, **claim.parameters(), **parameters)
        outcome = "retrying"
    else:
        parameters = {"p_tries": tries, "p_error": error}
        job = await _FAIL.apply_one(work, message=failure.message, data=data, **claim.parameters(), **parameters)
        outcome = "failed"
    if job is not None:
        await attempts.end(work, job, outcome, error)
    return job


async def _failure_data(work: Work, claim: Claim, failure: Failure) -> dict[str, Any]:
    """Return the data of a failure's event: the error, and the nodes that end as FAILED, if any."""
    failed_nodes = await nodes.failing(work, claim)
    return {"error": {"code": failure.code, "message": failure.message}, **({"nodes": failed_nodes} if failed_nodes else {})}


async def postpone(work: Work, claim: Claim, failure: Failure, count: int, backoff: Backoff) -> Row[Any] | None:
    """Requeue because a service is unavailable; counts neither as a try nor as a loss. `count` is how often in a row, including this one."""
    error = failure.to_dict()
    delay = min(backoff.delay(count), MAX_POSTPONEMENT)
    message = f"{failure.message} No try was used; the job starts again in {delay:.0f} s."
    data = {**await _failure_data(work, claim, failure), "reason": "postponed"}
    parameters = {"p_postponements": count, "p_error": error, "p_delay": timedelta(seconds=delay)}
    job = await _POSTPONE.apply_one(work, message=message, data=data, **claim.parameters(), **parameters)
    if job is not None:
        await attempts.end(work, job, "retrying", error)
    return job


async def record_loss(work: Work, claim: Claim, failure: Failure, losses: int, max_losses: int, backoff: Backoff) -> Row[Any] | None:
    """Requeue because the worker failed; no try is used. `losses` includes this one; at `max_losses` the job ends as FAILED."""
    error = failure.to_dict()
    data = await _failure_data(work, claim, failure)
    parameters: dict[str, Any] = {"p_losses": losses, "p_error": error}
    if losses < max_losses:
        delay = min(backoff.delay(losses), MAX_POSTPONEMENT)
        data["reason"] = "lost"
        message = f"{failure.message} No try was used; the job starts again in {delay:.0f} s."
        job = await _LOSE.apply_one(work, message=message, data=data, p_delay=timedelta(seconds=delay), **claim.parameters(), **parameters)
        outcome = "retrying"
    else:
        job = await _FAIL_LOST.apply_one(work, message=failure.message, data=data, **claim.parameters(), **parameters)
        outcome = "failed"
    if job is not None:
        await attempts.end(work, job, outcome, error)
    return job


async def give_back(work: Work, claim: Claim) -> Row[Any] | None:
    """Requeue because the worker shuts down; no try is used."""
    message = "The worker stopped and gave the job back."
    job = await _GIVE_BACK.apply_one(work, message=message, data={"reason": "given_back"}, **claim.parameters())
    if job is not None:
        await attempts.end(work, job, "given_back")
    return job


async def settle_cancelled(work: Work, claim: Claim) -> Row[Any] | None:
    """Settle as CANCELLED, once the body has exited."""
    job = await _CANCELLED.apply_one(work, **claim.parameters())
    if job is not None:
        await attempts.end(work, job, "cancelled")
    return job
