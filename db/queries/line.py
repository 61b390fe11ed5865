"""The order in which waiting jobs of a queue start, as SQL: priority raised by one for each 5 minutes waited, then owners in turn, then age.

Everything that asks for this order takes it from here, so that the place people are shown is the one that the dispatcher follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, any_, case, cast, exists, func, or_, select
from sqlalchemy.sql.selectable import Subquery

from db.core.sql import Rows
from db.tables import Job, Worker
from db.tables.jobstates import WAITING

AGEING_SECONDS = 300
LIVE_SECONDS = 15


class WaitReason(StrEnum):
    """Why a job has not started."""

    NO_WORKER = "no_worker"
    QUEUE = "queue"
    CONCURRENCY = "concurrency"
    CREDITS = "credits"
    RETRY_BACKOFF = "retry_backoff"


def effective_priority() -> ColumnElement[int]:
    """A job's priority with its ageing. Time is the statement's, so all rows of one look are measured alike."""
    waited = func.extract("epoch", func.statement_timestamp() - Job.created_at)
    return Job.priority + cast(func.greatest(func.floor(waited / AGEING_SECONDS), 0), Integer)


def due() -> ColumnElement[bool]:
    """Waiting, and not held back for a retry."""
    return Job.status.in_(WAITING) & or_(Job.run_after.is_(None), Job.run_after <= func.statement_timestamp())


def in_order(*conditions: ColumnElement[bool]) -> Subquery:
    """The due jobs of the queues that `conditions` choose: `id`, `queue`, and `position` in it from 1.

    Conditions may only choose whole queues: a job left out would move the others up.
    """
    ranked = select(Job.id, Job.queue, Job.owner_id, Job.created_at, effective_priority().label("effective")).where(due(), *conditions)
    aged = ranked.subquery("aged")
    turn = func.row_number().over(partition_by=(aged.c.queue, aged.c.effective, aged.c.owner_id), order_by=(aged.c.created_at, aged.c.id))
    turns = select(*aged.c, turn.label("turn")).subquery("turns")
    place = func.row_number().over(
        partition_by=turns.c.queue, order_by=(turns.c.effective.desc(), turns.c.turn, turns.c.created_at, turns.c.id)
    )
    return select(turns.c.id, turns.c.queue, place.label("position")).subquery("line")


def live() -> ColumnElement[bool]:
    """Workers whose heart beat within the last 15 seconds and that have not said goodbye."""
    return Worker.stopped_at.is_(None) & (Worker.heartbeat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, LIVE_SECONDS))


def places(keys: Sequence[UUID], allowed: ColumnElement[bool]) -> Rows:
    """`id`, `reason` and `position` of those of the jobs that wait and that `allowed` lets through."""
    queues = select(Job.queue).where(Job.id.in_(keys), Job.status.in_(WAITING), allowed).distinct()
    line = select(in_order(Job.queue.in_(queues))).cte("places").prefix_with("MATERIALIZED")  # or it is worked out anew for each job
    served = exists().where(live(), Job.queue == any_(Worker.queues))
    reason = case(
        (~served, WaitReason.NO_WORKER.value),
        (Job.run_after > func.statement_timestamp(), WaitReason.RETRY_BACKOFF.value),
        else_=WaitReason.QUEUE.value,
    )
    columns: tuple[Any, ...] = (Job.id, reason.label("reason"), line.c.position)
    standing = select(*columns).select_from(Job).outerjoin(line, line.c.id == Job.id)
    return standing.where(Job.id.in_(keys), Job.status.in_(WAITING), allowed)
