"""The order in which the waiting jobs of a queue start, as SQL: priority raised by one for each 5 minutes waited, then owners in turn, then age.

Owners in turn (of a job: the account that it counts in, see `payer`): the n-th job of an owner, counting those of the owner that run in
this queue, is level with the n-th job of any other; among these the owner whose last start is longest ago comes first. So turns alternate
even where slots become free one at a time.

Jobs that could not start even if every worker were free, because of a concurrency limit, come after those that could.
The API and the dispatcher both take the order from here, so the position reported is the one that the dispatcher follows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    Text,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased
from sqlalchemy.sql.selectable import Subquery

from db.core.queues import ROUTE_MARK
from db.core.sql import Column, Rows
from db.settings import state_settings
from db.tables import Job, OwnerTurn, User, Worker
from db.tables.jobstates import ACTIVE, WAITING, JobStatus

AGEING_SECONDS = 300
LIVE_SECONDS = 15

# Read from the settings when a statement runs, the same in the API, which reports the order, and in the workers, which follow it.
_PER_USER = bindparam("user_concurrency_limits", callable_=lambda: state_settings().user_concurrency_limits, type_=JSONB)
_PER_QUEUE = bindparam("queue_concurrency_limits", callable_=lambda: state_settings().queue_concurrency_limits, type_=JSONB)


class WaitReason(StrEnum):
    """Why a job has not started."""

    NO_WORKER = "no_worker"
    QUEUE = "queue"
    CONCURRENCY = "concurrency"
    CREDITS = "credits"
    RETRY_BACKOFF = "retry_backoff"


def in_states(statuses: Collection[JobStatus], status: Column = Job.status) -> ColumnElement[bool]:
    """Whether a job is in one of these states. The states are literals: with parameters a generic plan cannot use the partial indexes, and
    would read every job there ever was."""
    return status.in_([literal_column(f"'{state.value}'", Text) for state in sorted(statuses)])


def payer(jobs: Any = Job) -> ColumnElement[UUID]:
    """The account whose turns and limit of running jobs a job takes: its owner, or the maker of a team without a quota of its own."""
    return func.coalesce(jobs.payer_id, jobs.owner_id)


def route(jobs: Any = Job) -> ColumnElement[str]:
    """The part of its queue that a job waits in, see `db.core.queues`."""
    return case((jobs.extras.is_(None), jobs.queue), else_=jobs.queue + ROUTE_MARK + jobs.extras[1])


def waits_in(routes: ColumnElement[Sequence[str]]) -> ColumnElement[bool]:
    """Whether a job waits in one of these routes. A route is only computed of a job with extras; the index has the queues, which are among the routes."""
    return (Job.queue == any_(routes)) & (Job.extras.is_(None) | (route() == any_(routes)))


def owner_limit(tier: Column) -> ColumnElement[int]:
    """How many jobs a user of this tier may have running; null where there is no limit."""
    return func.nullif(cast(_PER_USER.op("->>")(cast(tier, Text)), BigInteger), 0)


def queue_limit(queue: Column) -> ColumnElement[int]:
    """How many jobs of this queue may run; null where there is no limit."""
    return func.nullif(cast(_PER_QUEUE.op("->>")(cast(queue, Text)), BigInteger), 0)


def below_limits() -> ColumnElement[bool]:
    """Whether one more job of this owner and in this queue may run. Exact only while the locks of `db.services.jobs.concurrency` are held."""
    owner_jobs, queue_jobs = aliased(Job, name="owner_jobs"), aliased(Job, name="queue_jobs")
    of_owner = select(func.count()).where(payer(owner_jobs) == payer(), in_states(ACTIVE, owner_jobs.status)).scalar_subquery()
    of_queue = select(func.count()).where(queue_jobs.queue == Job.queue, in_states(ACTIVE, queue_jobs.status)).scalar_subquery()
    limit = select(owner_limit(User.tier)).where(User.id == payer()).scalar_subquery()
    return or_(limit.is_(None), of_owner < limit) & or_(queue_limit(Job.queue).is_(None), of_queue < queue_limit(Job.queue))


def effective_priority() -> ColumnElement[int]:
    """A job's priority raised by its waiting time, the backoff before a retry excluded. The time is that of the statement, so it is the same
    for all rows."""
    since = func.greatest(Job.waiting_since, Job.run_after)
    waited = func.date_part("epoch", func.statement_timestamp() - since)
    return Job.priority + cast(func.greatest(func.floor(waited / AGEING_SECONDS), 0), Integer)


def due() -> ColumnElement[bool]:
    """Waiting, and not in the backoff before a retry."""
    return in_states(WAITING) & or_(Job.run_after.is_(None), Job.run_after <= func.statement_timestamp())


def scheduling_order(*conditions: ColumnElement[bool], max_position: ColumnElement[int] | None = None) -> Subquery:
    """The due jobs of the routes that `conditions` choose: `id`, `queue`, which is the route, `position` in it from 1, `is_held` for a job over a
    concurrency limit, and `last_started_at`, the time of the last start in the queue. A worker that serves several queues orders by position,
    then by that time.

    Conditions may only choose whole routes: leaving out a job would move up the others. An owner's limit applies to each queue alone, since
    a job in a queue without workers must not hold back one in another queue.

    With `max_position`, jobs further back in their owner's own order are left out. That saves most of the work for a long queue, and the
    positions up to `max_position` stay the same.
    """
    # Priority is negated so that one sort serves both row numbers, and the sort is what a long queue costs.
    columns = (Job.id, route().label("queue"), Job.queue.label("limited_queue"), payer().label("owner_id"), Job.created_at)
    prioritised = select(*columns, (-effective_priority()).label("negated_priority")).where(due(), *conditions).subquery("prioritised")
    age = (prioritised.c.created_at, prioritised.c.id)
    turn = func.row_number().over(partition_by=(prioritised.c.queue, prioritised.c.owner_id, prioritised.c.negated_priority), order_by=age)
    owner_position = func.row_number().over(
        partition_by=(prioritised.c.queue, prioritised.c.owner_id), order_by=(prioritised.c.negated_priority, *age)
    )
    turns = select(*prioritised.c, turn.label("turn"), owner_position.label("owner_position")).subquery("turns")
    owner = payer().label("owner_id")
    of_owner, of_owner_in_queue = _running_counts("of_owner", owner), _running_counts("of_owner_in_queue", owner, route().label("queue"))
    allowance = owner_limit(User.tier) - func.coalesce(of_owner.c.running, 0)
    is_over_allowance = func.coalesce(turns.c.owner_position > allowance, False)
    entries = (
        select(
            *(turns.c[name] for name in ("id", "queue", "limited_queue", "created_at", "negated_priority")),
            is_over_allowance.label("is_over_allowance"),
            (turns.c.turn + func.coalesce(of_owner_in_queue.c.running, 0)).label("turn"),
            OwnerTurn.started_at,
        )
        .join(User, User.id == turns.c.owner_id)
        .outerjoin(of_owner, of_owner.c.owner_id == turns.c.owner_id)
        .outerjoin(of_owner_in_queue, (of_owner_in_queue.c.owner_id == turns.c.owner_id) & (of_owner_in_queue.c.queue == turns.c.queue))
        .outerjoin(OwnerTurn, (OwnerTurn.owner_id == turns.c.owner_id) & (OwnerTurn.queue == turns.c.queue))
        .where(*(() if max_position is None else (turns.c.owner_position <= max_position,)))
        .subquery("entries")
    )
    order = (
        entries.c.is_over_allowance,
        entries.c.negated_priority,
        entries.c.turn,
        entries.c.started_at.nulls_first(),
        entries.c.created_at,
        entries.c.id,
    )
    position = func.row_number().over(partition_by=entries.c.queue, order_by=order)
    placed_columns = (entries.c.id, entries.c.queue, entries.c.limited_queue, entries.c.is_over_allowance)
    placed = select(*placed_columns, position.label("position")).subquery("placed")
    of_queue = _running_counts("of_queue", Job.queue)
    remaining = queue_limit(placed.c.limited_queue) - func.coalesce(of_queue.c.running, 0)
    is_held = placed.c.is_over_allowance | func.coalesce(placed.c.position > remaining, False)
    last_starts = (
        select(OwnerTurn.queue, func.max(OwnerTurn.started_at).label("last_started_at")).group_by(OwnerTurn.queue).subquery("last_starts")
    )
    statement = select(placed.c.id, placed.c.queue, placed.c.position, is_held.label("is_held"), last_starts.c.last_started_at)
    statement = statement.outerjoin(of_queue, of_queue.c.queue == placed.c.limited_queue).outerjoin(
        last_starts, last_starts.c.queue == placed.c.queue
    )
    return statement.subquery("schedule")


def round_robin_order(placed: Subquery) -> tuple[ColumnElement[Any], ...]:
    """The order in which a worker takes jobs from several queues: the first of each, then the second of each; among these first the queue
    whose last start is longest ago."""
    return (placed.c.position, placed.c.last_started_at.nulls_first(), placed.c.queue)


def _running_counts(name: str, *keys: Column) -> Subquery:
    """How many jobs run, by `keys`. A job that is being cancelled still runs."""
    return select(*keys, func.count().label("running")).where(in_states(ACTIVE)).group_by(*keys).subquery(name)


def is_live() -> ColumnElement[bool]:
    """Workers with a heartbeat within the last 15 seconds that have not stopped."""
    return Worker.stopped_at.is_(None) & (Worker.heartbeat_at > func.now() - func.make_interval(0, 0, 0, 0, 0, 0, LIVE_SECONDS))


def any_has_extra(queue: str, extra: str) -> Select[bool | None]:
    """Whether a live worker of the queue has the extra, or may have it; null if none is live."""
    may_have = func.coalesce(literal(extra) == any_(Worker.extras), true())
    return select(func.bool_or(may_have)).where(is_live(), literal(queue) == any_(Worker.queues))


def wait_positions(ids: ColumnElement[Sequence[UUID]], allowed: ColumnElement[bool]) -> Rows:
    """`id`, `reason` and `position` of those of the jobs with these ids, an array, that wait and meet `allowed`."""
    chosen = aliased(Job, name="chosen")
    asked = (chosen.id == any_(ids), in_states(WAITING, chosen.status))
    in_routes = Job.queue.in_(select(chosen.queue).where(*asked)), route().in_(select(route(chosen)).where(*asked))
    positions = (
        select(scheduling_order(*in_routes)).cte("positions").prefix_with("MATERIALIZED")
    )  # otherwise it is computed again for each job
    is_served = exists().where(is_live(), route() == any_(Worker.queues))
    reason = case(
        (~is_served, WaitReason.NO_WORKER.value),
        (Job.run_after > func.statement_timestamp(), WaitReason.RETRY_BACKOFF.value),
        (positions.c.is_held, WaitReason.CONCURRENCY.value),
        else_=WaitReason.QUEUE.value,
    )
    columns: tuple[Any, ...] = (Job.id, reason.label("reason"), positions.c.position)
    statement = select(*columns).select_from(Job).outerjoin(positions, positions.c.id == Job.id)
    return statement.where(Job.id == any_(ids), in_states(WAITING), allowed)
