"""The order in which waiting jobs of a queue start, as SQL: priority raised by one for each 5 minutes waited, then owners in turn, then age.

Owners in turn: the n-th job of an owner, counting those that run in this queue, stands with the n-th of the others; among these the owner
who has gone longest without a start is first. So the turn goes round even where slots become free one at a time.

Jobs that could not start even if every worker were free, because of a cap on what runs at once, stand behind those that could.
Everything that asks for this order takes it from here, so that the place people are shown is the one that the dispatcher follows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Integer, Text, any_, bindparam, case, cast, exists, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import Subquery

from db.core.sql import Column, Rows
from db.settings import state_settings
from db.tables import Job, OwnerTurn, User, Worker
from db.tables.jobstates import ACTIVE, WAITING, JobStatus

AGEING_SECONDS = 300
LIVE_SECONDS = 15

# The settings as they are when a statement runs; the same for the API, which tells the order, and for the workers, which follow it.
_PER_USER = bindparam("running_per_user", callable_=lambda: state_settings().running_per_user, type_=JSONB)
_PER_QUEUE = bindparam("running_per_queue", callable_=lambda: state_settings().running_per_queue, type_=JSONB)


class WaitReason(StrEnum):
    """Why a job has not started."""

    NO_WORKER = "no_worker"
    QUEUE = "queue"
    CONCURRENCY = "concurrency"
    CREDITS = "credits"
    RETRY_BACKOFF = "retry_backoff"


def among(states: Collection[JobStatus], status: Column = Job.status) -> ColumnElement[bool]:
    """Whether a job is in one of these states, with the states written out: as parameters they would keep a plan that Postgres makes for
    all values alike from the partial indexes, and each look would read every job there ever was."""
    return status.in_([literal_column(f"'{state.value}'", Text) for state in sorted(states)])


def cap_of_owner(tier: Column) -> ColumnElement[int]:
    """How many jobs a user of this tier may have running; null where there is no limit."""
    return func.nullif(cast(_PER_USER.op("->>")(cast(tier, Text)), BigInteger), 0)


def cap_of_queue(queue: Column) -> ColumnElement[int]:
    """How many jobs of this queue may run; null where there is no limit."""
    return func.nullif(cast(_PER_QUEUE.op("->>")(cast(queue, Text)), BigInteger), 0)


def below_caps() -> ColumnElement[bool]:
    """Whether one more job of this owner and in this queue may run. Exact only for whoever holds what `caps.hold` locks."""
    mine, beside = aliased(Job, name="mine"), aliased(Job, name="beside")
    of_owner = select(func.count()).where(mine.owner_id == Job.owner_id, among(ACTIVE, mine.status)).scalar_subquery()
    of_queue = select(func.count()).where(beside.queue == Job.queue, among(ACTIVE, beside.status)).scalar_subquery()
    cap = select(cap_of_owner(User.tier)).where(User.id == Job.owner_id).scalar_subquery()
    return or_(cap.is_(None), of_owner < cap) & or_(cap_of_queue(Job.queue).is_(None), of_queue < cap_of_queue(Job.queue))


def effective_priority() -> ColumnElement[int]:
    """A job's priority with its ageing: only waiting counts, and not the pause before a retry. Time is the statement's, so all rows of one
    look are measured alike."""
    since = func.greatest(Job.waiting_since, Job.run_after)
    waited = func.date_part("epoch", func.statement_timestamp() - since)
    return Job.priority + cast(func.greatest(func.floor(waited / AGEING_SECONDS), 0), Integer)


def due() -> ColumnElement[bool]:
    """Waiting, and not held back for a retry."""
    return among(WAITING) & or_(Job.run_after.is_(None), Job.run_after <= func.statement_timestamp())


def in_order(*conditions: ColumnElement[bool], first: ColumnElement[int] | None = None) -> Subquery:
    """The due jobs of the queues that `conditions` choose: `id`, `queue`, `position` in it from 1, whether a cap has it `held` back, and
    `started`, when a job of the queue started last: who takes from several queues goes by position, and among equals by this.

    Conditions may only choose whole queues: a job left out would move the others up. An owner's allowance counts for each queue alone,
    since a job in a queue that nobody serves must not hold back one in another.

    Who wants only the places up to `first` says so: what stands further back in its own owner's order is not placed at all, which spares
    most of the work on a long line, and of the rest the places up to there are the same.
    """
    # `behind` is the priority, falling: counted so, one sort serves both numberings, and sorting is what a long line costs.
    ranked = select(Job.id, Job.queue, Job.owner_id, Job.created_at, (-effective_priority()).label("behind")).where(due(), *conditions)
    aged = ranked.subquery("aged")
    age = (aged.c.created_at, aged.c.id)
    turn = func.row_number().over(partition_by=(aged.c.queue, aged.c.owner_id, aged.c.behind), order_by=age)
    nth = func.row_number().over(partition_by=(aged.c.queue, aged.c.owner_id), order_by=(aged.c.behind, *age))
    turns = select(*aged.c, turn.label("turn"), nth.label("nth")).subquery("turns")
    of_owner, here = _running("of_owner", Job.owner_id), _running("here", Job.owner_id, Job.queue)
    allowance = cap_of_owner(User.tier) - func.coalesce(of_owner.c.running, 0)
    late = func.coalesce(turns.c.nth > allowance, False)
    known = (
        select(
            *(turns.c[name] for name in ("id", "queue", "created_at", "behind")),
            late.label("late"),
            (turns.c.turn + func.coalesce(here.c.running, 0)).label("turn"),
            OwnerTurn.started_at,
        )
        .join(User, User.id == turns.c.owner_id)
        .outerjoin(of_owner, of_owner.c.owner_id == turns.c.owner_id)
        .outerjoin(here, (here.c.owner_id == turns.c.owner_id) & (here.c.queue == turns.c.queue))
        .outerjoin(OwnerTurn, (OwnerTurn.owner_id == turns.c.owner_id) & (OwnerTurn.queue == turns.c.queue))
        .where(*(() if first is None else (turns.c.nth <= first,)))
        .subquery("known")
    )
    order = (known.c.late, known.c.behind, known.c.turn, known.c.started_at.nulls_first(), known.c.created_at, known.c.id)
    place = func.row_number().over(partition_by=known.c.queue, order_by=order)
    placed = select(known.c.id, known.c.queue, known.c.late, place.label("position")).subquery("placed")
    of_queue = _running("of_queue", Job.queue)
    room = cap_of_queue(placed.c.queue) - func.coalesce(of_queue.c.running, 0)
    held = placed.c.late | func.coalesce(placed.c.position > room, False)
    last = select(OwnerTurn.queue, func.max(OwnerTurn.started_at).label("started")).group_by(OwnerTurn.queue).subquery("last")
    standing = select(placed.c.id, placed.c.queue, placed.c.position, held.label("held"), last.c.started)
    standing = standing.outerjoin(of_queue, of_queue.c.queue == placed.c.queue).outerjoin(last, last.c.queue == placed.c.queue)
    return standing.subquery("line")


def by_turns(placed: Subquery) -> tuple[ColumnElement[Any], ...]:
    """The order in which somebody takes jobs from several lines: the first of each, then the second; first from the queue that has gone
    longest without a start."""
    return (placed.c.position, placed.c.started.nulls_first(), placed.c.queue)


def _running(name: str, *keys: Column) -> Subquery:
    """How many jobs run, by `keys`. What is being cancelled still runs."""
    return select(*keys, func.count().label("running")).where(among(ACTIVE)).group_by(*keys).subquery(name)


def live() -> ColumnElement[bool]:
    """Workers whose heart beat within the last 15 seconds and that have not said goodbye."""
    return Worker.stopped_at.is_(None) & (Worker.heartbeat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, LIVE_SECONDS))


def places(keys: Sequence[UUID], allowed: ColumnElement[bool]) -> Rows:
    """`id`, `reason` and `position` of those of the jobs that wait and that `allowed` lets through."""
    queues = select(Job.queue).where(Job.id.in_(keys), among(WAITING), allowed).distinct()
    line = select(in_order(Job.queue.in_(queues))).cte("places").prefix_with("MATERIALIZED")  # or it is worked out anew for each job
    served = exists().where(live(), Job.queue == any_(Worker.queues))
    reason = case(
        (~served, WaitReason.NO_WORKER.value),
        (Job.run_after > func.statement_timestamp(), WaitReason.RETRY_BACKOFF.value),
        (line.c.held, WaitReason.CONCURRENCY.value),
        else_=WaitReason.QUEUE.value,
    )
    columns: tuple[Any, ...] = (Job.id, reason.label("reason"), line.c.position)
    standing = select(*columns).select_from(Job).outerjoin(line, line.c.id == Job.id)
    return standing.where(Job.id.in_(keys), among(WAITING), allowed)
