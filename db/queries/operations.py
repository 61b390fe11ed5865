"""What operators ask: how the queues stand, what ended, who works. Every question is answered off an index, however many jobs there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Text, and_, func, literal, select, table, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.base import Table
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import line
from db.queries.accounts import visible
from db.tables import Chore, Job, JobAttempt, User, Worker
from db.tables.jobstates import ACTIVE, TERMINAL, WAITING

LATE = timedelta(seconds=15)  # a row is stamped before its transaction commits: how long before, at most
MOST_COUNTED = 10_000  # rows of a default partition, in which there should be none

_now = func.statement_timestamp()
_held_back = and_(Job.run_after.is_not(None), Job.run_after > _now)


def waiting() -> Rows:
    """By queue: `due` jobs, jobs in `backoff`, and for how many seconds the `oldest` of the due ones has been due."""
    since = func.greatest(Job.created_at, Job.run_after)
    oldest = func.extract("epoch", _now - func.min(since).filter(~_held_back))
    counts = func.count().filter(~_held_back).label("due"), func.count().filter(_held_back).label("backoff")
    return select(Job.queue, *counts, func.coalesce(oldest, 0).label("oldest")).where(line.among(WAITING)).group_by(Job.queue)


def running() -> Rows:
    """By queue and status: `count` of the jobs that a worker holds."""
    return select(Job.queue, Job.status, func.count().label("count")).where(line.among(ACTIVE)).group_by(Job.queue, Job.status)


def workers_by_queue() -> Rows:
    """By queue: live `workers` that serve it, and their `slots`; each worker counts in each of its queues."""
    each = select(func.unnest(Worker.queues).label("queue"), Worker.slots).where(line.live()).subquery("each")
    return select(each.c.queue, func.count().label("workers"), func.sum(each.c.slots).label("slots")).group_by(each.c.queue)


def workers_at_all() -> Rows:
    """One row: how many live `workers` there are and how many `slots` they have."""
    return select(func.count().label("workers"), func.coalesce(func.sum(Worker.slots), 0).label("slots")).where(line.live())


def chores() -> Rows:
    """Every recurring task that was ever begun, by name, with `age`, the seconds since its last run began, and `seconds`, how long that took.

    `runs`, `failures` and `changed` only grow; `ended_at` is null while one runs, or when its worker died of it.
    """
    age = func.extract("epoch", _now - Chore.started_at).label("age")
    took = func.extract("epoch", Chore.ended_at - Chore.started_at).label("seconds")
    return select(*Chore.__table__.c, age, took).order_by(Chore.name)


def horizon() -> Rows:
    """One row: the `until` before which every stamp is committed."""
    return select((func.clock_timestamp() - LATE).label("until"))


def jobs_ended(since: datetime | None, until: datetime) -> Rows:
    """By status: jobs that ended after `since` (from the first one on) and by `until`, and the `recent` ones after it.

    Only the first look, without `since`, reads all jobs; the later ones find the few that changed by when they did.
    """
    counted = func.count().filter(Job.completed_at <= until).label("settled"), func.count().filter(Job.completed_at > until).label("recent")
    found = select(Job.status.label("word"), *counted).where(Job.status.in_(TERMINAL)).group_by(Job.status)
    return found if since is None else found.where(Job.updated_at > since, Job.completed_at > since)


def attempts_ended(since: datetime | None, until: datetime) -> Rows:
    """The same of attempts, by outcome. An attempt ends in the transaction that changes its job."""
    counted = (
        func.count().filter(JobAttempt.ended_at <= until).label("settled"),
        func.count().filter(JobAttempt.ended_at > until).label("recent"),
    )
    found = select(JobAttempt.outcome.label("word"), *counted).where(JobAttempt.ended_at.is_not(None)).group_by(JobAttempt.outcome)
    if since is None:
        return found
    changed = select(Job.id).where(Job.updated_at > since - LATE)
    return found.where(JobAttempt.job_id.in_(changed), JobAttempt.ended_at > since)


def default_partitions() -> Rows:
    """By partitioned table: `count` of rows in its DEFAULT partition, counted up to 10,000."""
    looks: list[Rows] = []
    for name in partitioned():
        default = select(text("1")).select_from(table(f"{name}_default")).limit(MOST_COUNTED).subquery()
        count = select(func.count()).select_from(default).scalar_subquery()
        looks.append(select(literal(name, Text).label("table"), count.label("count")))
    return select(union_all(*looks).subquery())


def partitioned() -> list[str]:
    """The names of the tables that have partitions."""
    return [each.name for each in Table.metadata.sorted_tables if each.dialect_options["postgresql"].get("partition_by")]


async def ask(connection: AsyncConnection, statement: Rows) -> Sequence[Row[Any]]:
    """The rows of one of these."""
    return (await connection.execute(statement)).all()


async def workers(database: Database, *, stopped: bool) -> Sequence[Row[Any]]:
    """Worker processes by name, with the jobs each is `running`, its `age` in seconds and since its last heartbeat (`silent`).

    Those that are live, and with `stopped` the hundred that were heard last.
    """
    held = select(func.count()).where(Job.worker_id == Worker.id, line.among(ACTIVE)).scalar_subquery()
    found = select(
        *Worker.__table__.c,
        held.label("running"),
        line.live().label("live"),
        func.extract("epoch", _now - Worker.started_at).label("age"),
        func.extract("epoch", _now - Worker.heartbeat_at).label("silent"),
    )
    if not stopped:
        return await database.rows(found.where(line.live()).order_by(Worker.name))
    return await database.rows(found.order_by(Worker.heartbeat_at.desc(), Worker.name).limit(100))


async def owner_named(database: Database, viewer: Viewer, email: str) -> Row[Any] | None:
    """`id` and `email` of the user with this address, whatever its case; a live one before a deleted one."""
    named = select(User.id, User.email).where(visible(viewer), func.lower(User.email) == email.lower())
    rows = await database.rows(named.order_by(User.deleted_at.is_not(None)).limit(1))
    return rows[0] if rows else None
