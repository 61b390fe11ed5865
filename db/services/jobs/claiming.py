"""A worker takes a job: the row says whose it is, the lease says for how long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import CTE, Integer, Row, Text, Uuid, any_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.queries import scheduling
from db.services.jobs import attempts, concurrency
from db.services.jobs.transitions import THE_JOB, TransitionStatement, clock, interval
from db.tables import Job, JobAttempt, OwnerTurn
from db.tables.jobs import JobEventType
from db.tables.jobstates import WAITING, JobStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def _record_attempt(claimed: CTE) -> Sequence[CTE]:
    """The attempt's record, and that its owner has had a turn. A turn that another claim is writing is passed over: it says the same moment,
    and claims of several owners at once would otherwise wait for each other."""
    columns = ("job_id", "number", "worker_id", "worker", "started_at", "heartbeat_at")
    worker = bindparam("the_name", type_=Text())
    record = select(claimed.c.id, claimed.c.attempt, claimed.c.worker_id, worker, clock(), clock())
    is_own_turn = (OwnerTurn.owner_id == claimed.c.owner_id) & (OwnerTurn.queue == claimed.c.queue)
    unlocked_turns = (
        select(OwnerTurn.owner_id, OwnerTurn.queue)
        .join(claimed, is_own_turn)
        .with_for_update(of=OwnerTurn, key_share=True, skip_locked=True)
    )
    existing_turns = unlocked_turns.cte("known")
    is_existing_turn = (OwnerTurn.owner_id == existing_turns.c.owner_id) & (OwnerTurn.queue == existing_turns.c.queue)
    turn_insertion = upsert(OwnerTurn).from_select(
        ["owner_id", "queue", "started_at"], select(claimed.c.owner_id, claimed.c.queue, clock())
    )
    return (
        insert(JobAttempt).from_select(columns, record).cte("recorded"),
        update(OwnerTurn).where(is_existing_turn).values(started_at=clock()).cte("turned"),
        turn_insertion.on_conflict_do_nothing().cte("begun"),
    )


_CLAIM = TransitionStatement(
    JobStatus.RUNNING,
    "claim",
    JobEventType.STARTED,
    THE_JOB,
    or_(Job.run_after.is_(None), Job.run_after <= clock()),
    scheduling.below_limits(),
    extra_changes=_record_attempt,
    attempt=Job.attempt + 1,
    worker_id=bindparam("the_worker", type_=Uuid()),
    lease_until=clock() + interval("the_lease"),
    run_after=None,
    queued_at=func.coalesce(Job.queued_at, clock()),
    started_at=func.coalesce(Job.started_at, clock()),
)

# Held back by a cap: to be rung for again as soon as there is room, not when the last ring has grown old.
_CLEAR_DISPATCHED = update(Job).where(THE_JOB, Job.status == JobStatus.QUEUED, Job.dispatched_at.is_not(None)).values(dispatched_at=None)

_LIMIT = bindparam("the_limit", type_=Integer())
_SCHEDULE = scheduling.scheduling_order(
    Job.queue == any_(bindparam("the_queues", type_=ARRAY(Text))), max_position=2 * _LIMIT
)  # some may be taken meanwhile
_NEXT_JOBS = (
    select(Job.id, Job.owner_id, Job.queue)
    .join(_SCHEDULE, _SCHEDULE.c.id == Job.id)
    .where(scheduling.in_states(WAITING), ~_SCHEDULE.c.held)
    .order_by(*scheduling.round_robin_order(_SCHEDULE))
    .limit(_LIMIT)
)
_NEXT_JOBS_OF_OWNERS = _NEXT_JOBS.where(Job.owner_id == any_(bindparam("the_owners", type_=ARRAY(Uuid)))).with_for_update(
    of=Job, skip_locked=True
)


async def claim(work: Work, job_id: UUID, worker_id: UUID, worker: str, lease: float) -> Row[Any] | None:
    """Take the job for `lease` seconds; None when there is nothing to take: run by another, ended, not yet due, or held back by a cap.

    To be called before the work locks anything of the job.
    """
    await concurrency.lock_limits(work, [job_id], lease)
    job = await _claim(work, job_id, worker_id, worker, lease)
    if job is None and concurrency.has_limits():
        await work.run(_CLEAR_DISPATCHED, {"the_job": job_id})
    return job


async def claim_waiting(work: Work, queues: Sequence[str], limit: int, worker_id: UUID, worker: str, lease: float) -> list[Row[Any]]:
    """Take up to `limit` jobs without an invitation, in the order of the queues; for when Redis carries none."""
    parameters = {"the_queues": list(queues), "the_limit": limit}
    rows = await work.all(_NEXT_JOBS, parameters)
    if not rows:
        return []
    await concurrency.lock_limits(work, [row.id for row in rows], lease)
    # Whoever was faster has some of them by now: the next ones of the same owners and queues are as good.
    locked_scope = {"the_queues": sorted({row.queue for row in rows}), "the_owners": sorted({row.owner_id for row in rows})}
    rows = await work.all(_NEXT_JOBS_OF_OWNERS, {**parameters, **locked_scope})
    claimed: list[Row[Any]] = []
    for row in rows:
        try:
            async with work.savepoint():
                job = await _claim(work, row.id, worker_id, worker, lease)
        except Exception as error:  # noqa: BLE001 - one that cannot begin must not keep the others, nor the transaction rest for a traceback
            log.warning("job_not_claimed", job=str(row.id), error=repr(error))
        else:
            claimed += [] if job is None else [job]
    return claimed


async def _claim(work: Work, job_id: UUID, worker_id: UUID, worker: str, lease: float) -> Row[Any] | None:
    job = await _CLAIM.apply_one(
        work, data={"worker": worker}, the_job=job_id, the_worker=worker_id, the_name=worker, the_lease=timedelta(seconds=lease)
    )
    if job is not None:
        await attempts.begin(work, job)
    return job
