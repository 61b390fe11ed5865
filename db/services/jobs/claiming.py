"""Claims: a worker takes a job for the duration of a lease."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import CTE, Integer, Row, Text, Uuid, any_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.queues import with_queues
from db.core.work import Work
from db.queries import scheduling
from db.services.jobs import attempts, concurrency
from db.services.jobs.transitions import JOB_BY_ID, TransitionStatement, clock, interval
from db.tables import Job, JobAttempt, OwnerTurn, Worker
from db.tables.jobs import JobEventType
from db.tables.jobstates import WAITING, JobStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def _record_attempt(claimed: CTE) -> Sequence[CTE]:
    """Insert the attempt and update the owner's turn.

    A turn that is locked by another claim is skipped: that claim writes about the same time, and concurrent claims would wait for each other.
    """
    columns = ("job_id", "number", "worker_id", "worker", "started_at", "heartbeat_at")
    worker = bindparam("p_worker_name", type_=Text())
    record = select(claimed.c.id, claimed.c.attempt, claimed.c.worker_id, worker, clock(), clock())
    payer_id = scheduling.payer(claimed.c)
    queue = scheduling.route(claimed.c)
    is_own_turn = (OwnerTurn.owner_id == payer_id) & (OwnerTurn.queue == queue)
    unlocked_turns = (
        select(OwnerTurn.owner_id, OwnerTurn.queue)
        .join(claimed, is_own_turn)
        .with_for_update(of=OwnerTurn, key_share=True, skip_locked=True)
    )
    existing_turns = unlocked_turns.cte("existing_turns")
    is_existing_turn = (OwnerTurn.owner_id == existing_turns.c.owner_id) & (OwnerTurn.queue == existing_turns.c.queue)
    turn_insertion = upsert(OwnerTurn).from_select(["owner_id", "queue", "started_at"], select(payer_id, queue, clock()))
    return (
        insert(JobAttempt).from_select(columns, record).cte("inserted_attempt"),
        update(OwnerTurn).where(is_existing_turn).values(started_at=clock()).cte("updated_turns"),
        turn_insertion.on_conflict_do_nothing().cte("inserted_turns"),
    )


_CLAIM = TransitionStatement(
    JobStatus.RUNNING,
    "claim",
    JobEventType.STARTED,
    JOB_BY_ID,
    or_(Job.run_after.is_(None), Job.run_after <= clock()),
    scheduling.below_limits(),
    # Whether the worker has all of the extras: it reads the routes of each that it has, and a job waits in that of its first.
    or_(
        Job.extras.is_(None), Job.extras.contained_by(select(Worker.extras).where(Worker.id == bindparam("p_worker_id")).scalar_subquery())
    ),
    extra_changes=_record_attempt,
    attempt=Job.attempt + 1,
    worker_id=bindparam("p_worker_id", type_=Uuid()),
    lease_until=clock() + interval("p_lease"),
    run_after=None,
    queued_at=func.coalesce(Job.queued_at, clock()),
    started_at=func.coalesce(Job.started_at, clock()),
)

# Held back by a concurrency limit: to be dispatched again as soon as the limit allows, not after the redispatch interval.
_CLEAR_DISPATCHED = update(Job).where(JOB_BY_ID, Job.status == JobStatus.QUEUED, Job.dispatched_at.is_not(None)).values(dispatched_at=None)

_LIMIT = bindparam("p_limit", type_=Integer())
_SCHEDULE = scheduling.scheduling_order(
    scheduling.waits_in(bindparam("p_queues", type_=ARRAY(Text))), max_position=2 * _LIMIT
)  # twice the limit: some may be claimed meanwhile
_NEXT_JOBS = (
    select(Job.id, scheduling.payer().label("payer_id"), _SCHEDULE.c.queue)
    .join(_SCHEDULE, _SCHEDULE.c.id == Job.id)
    .where(scheduling.in_states(WAITING), ~_SCHEDULE.c.is_held)
    .order_by(*scheduling.round_robin_order(_SCHEDULE))
    .limit(_LIMIT)
)
_NEXT_JOBS_OF_PAYERS = _NEXT_JOBS.where(scheduling.payer() == any_(bindparam("p_payer_ids", type_=ARRAY(Uuid)))).with_for_update(
    of=Job, skip_locked=True
)


async def claim(work: Work, job_id: UUID, worker_id: UUID, worker: str, lease: float) -> Row[Any] | None:
    """Claim the job for `lease` seconds. None if it is held by another worker, has ended, is not due, or is held back by a concurrency limit.

    To be called before the unit of work locks any row of the job.
    """
    await concurrency.lock_limits(work, [job_id], lease)
    job = await _claim(work, job_id, worker_id, worker, lease)
    if job is None and concurrency.has_limits():
        await work.run(_CLEAR_DISPATCHED, {"p_job_id": job_id})
    return job


async def claim_waiting(work: Work, queues: Sequence[str], limit: int, worker_id: UUID, worker: str, lease: float) -> list[Row[Any]]:
    """Claim up to `limit` jobs in scheduling order without dispatch notices; for while Redis is unavailable."""
    parameters = {"p_queues": list(queues), "p_limit": limit}
    rows = await work.all(_NEXT_JOBS, parameters)
    if not rows:
        return []
    await concurrency.lock_limits(work, [row.id for row in rows], lease)
    # Other workers may have claimed some by now: select again among the owners and queues whose limits are locked.
    locked_scope = {"p_queues": with_queues({row.queue for row in rows}), "p_payer_ids": sorted({row.payer_id for row in rows})}
    rows = await work.all(_NEXT_JOBS_OF_PAYERS, {**parameters, **locked_scope})
    claimed: list[Row[Any]] = []
    for row in rows:
        try:
            async with work.savepoint():
                job = await _claim(work, row.id, worker_id, worker, lease)
        except Exception as error:  # noqa: BLE001 - one job's error must not stop the others; formatting a traceback would prolong the transaction
            log.warning("job_not_claimed", job=str(row.id), error=repr(error))
        else:
            claimed += [] if job is None else [job]
    return claimed


async def _claim(work: Work, job_id: UUID, worker_id: UUID, worker: str, lease: float) -> Row[Any] | None:
    job = await _CLAIM.apply_one(
        work, data={"worker": worker}, p_job_id=job_id, p_worker_id=worker_id, p_worker_name=worker, p_lease=timedelta(seconds=lease)
    )
    if job is not None:
        await attempts.begin(work, job)
    return job
