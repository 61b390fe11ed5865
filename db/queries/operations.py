"""Queries of operators: queues, ended jobs, workers. Each is answered from an index, however many jobs there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Text, and_, func, literal, select, table, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.base import Table
from db.core.criteria import Filters
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import is_shipped, visible
from db.core.queues import ROUTE_MARK
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import accounts, scheduling
from db.tables import ApiKey, EmailMessage, Job, JobAttempt, MaintenanceTaskState, User, Worker
from db.tables.jobstates import ACTIVE, TERMINAL, WAITING

MAX_COMMIT_DELAY = timedelta(seconds=15)  # longest time between the timestamp of a row and its commit
MAX_COUNTED = 10_000  # rows of a default partition, which should be empty

_now = func.statement_timestamp()
_in_backoff = and_(Job.run_after.is_not(None), Job.run_after > _now)


def waiting() -> Rows:
    """By queue: `due` jobs, jobs in `backoff`, and for how many seconds the `oldest` of the due ones has been due."""
    since = func.greatest(Job.created_at, Job.run_after)
    oldest = func.extract("epoch", _now - func.min(since).filter(~_in_backoff))
    counts = func.count().filter(~_in_backoff).label("due"), func.count().filter(_in_backoff).label("backoff")
    return select(Job.queue, *counts, func.coalesce(oldest, 0).label("oldest")).where(scheduling.in_states(WAITING)).group_by(Job.queue)


def running() -> Rows:
    """By queue and status: `count` of the jobs that a worker holds."""
    return select(Job.queue, Job.status, func.count().label("count")).where(scheduling.in_states(ACTIVE)).group_by(Job.queue, Job.status)


def workers_by_queue() -> Rows:
    """By queue: live `workers` that serve it, and their `slots`; each worker counts in each of its queues."""
    queue_workers = select(func.unnest(Worker.queues).label("queue"), Worker.slots).where(scheduling.is_live()).subquery("queue_workers")
    counts = select(queue_workers.c.queue, func.count().label("workers"), func.sum(queue_workers.c.slots).label("slots"))
    return counts.where(~queue_workers.c.queue.contains(ROUTE_MARK)).group_by(queue_workers.c.queue)


def worker_totals() -> Rows:
    """One row: how many live `workers` there are and how many `slots` they have."""
    return select(func.count().label("workers"), func.coalesce(func.sum(Worker.slots), 0).label("slots")).where(scheduling.is_live())


def user_rows(viewer: Viewer) -> Rows:
    """The users that are not deleted, disabled ones included."""
    return select(*accounts.COLUMNS, User.disabled_at).where(visible(User, viewer), User.deleted_at.is_(None), ~is_shipped(User))


def _tokens(viewer: Viewer) -> Rows:
    columns = (ApiKey.id, ApiKey.user_id, ApiKey.name, ApiKey.prefix, ApiKey.scopes, ApiKey.points_per_minute)
    times = (ApiKey.created_at, ApiKey.expires_at, ApiKey.revoked_at, ApiKey.last_used_at)
    return (
        select(*columns, *times, accounts.is_valid_key().label("is_valid"), User.email, User.role)
        .join(User, User.id == ApiKey.user_id)
        .where(visible(ApiKey, viewer))
    )


# Users by address, tokens with the newest first; each from an index.
users = Listing(user_rows, lambda _: Sort("email", func.lower(User.email), User.id, descending=False, kind="text"), accounts.FILTERS)
tokens = Listing(_tokens, lambda _: Sort("createdAt", ApiKey.created_at, ApiKey.id), Filters(ApiKey))


def _mails(viewer: Viewer) -> Rows:
    return select(EmailMessage.__table__).where(visible(EmailMessage, viewer))


mails = Listing(_mails, lambda _: Sort("createdAt", EmailMessage.created_at, EmailMessage.id), Filters(EmailMessage))


def maintenance_tasks() -> Rows:
    """Every maintenance task that ever ran, by name, with `age`, the seconds since its last run began, and `seconds`, its duration.

    `runs`, `failures` and `changed` only grow; `ended_at` is null while one runs, or when its worker died of it.
    """
    age = func.extract("epoch", _now - MaintenanceTaskState.started_at).label("age")
    duration = func.extract("epoch", MaintenanceTaskState.ended_at - MaintenanceTaskState.started_at).label("seconds")
    return select(*MaintenanceTaskState.__table__.c, age, duration).order_by(MaintenanceTaskState.name)


def horizon() -> Rows:
    """One row: `until`, before which every timestamp is committed."""
    return select((func.clock_timestamp() - MAX_COMMIT_DELAY).label("until"))


def jobs_ended(since: datetime | None, until: datetime) -> Rows:
    """By status (`state`): `final`, the jobs that ended after `since` and by `until`, and `recent`, those after it.

    Only the first query, without `since`, reads all jobs; later ones find the changed jobs by an index.
    """
    counts = func.count().filter(Job.completed_at <= until).label("final"), func.count().filter(Job.completed_at > until).label("recent")
    statement = select(Job.status.label("state"), *counts).where(Job.status.in_(TERMINAL)).group_by(Job.status)
    return statement if since is None else statement.where(Job.updated_at > since, Job.completed_at > since)


def attempts_ended(since: datetime | None, until: datetime) -> Rows:
    """The same for attempts, by outcome (`state`). An attempt ends in the transaction that changes its job."""
    counts = (
        func.count().filter(JobAttempt.ended_at <= until).label("final"),
        func.count().filter(JobAttempt.ended_at > until).label("recent"),
    )
    statement = select(JobAttempt.outcome.label("state"), *counts).where(JobAttempt.ended_at.is_not(None)).group_by(JobAttempt.outcome)
    if since is None:
        return statement
    changed = select(Job.id).where(Job.updated_at > since - MAX_COMMIT_DELAY)
    return statement.where(JobAttempt.job_id.in_(changed), JobAttempt.ended_at > since)


def default_partitions() -> Rows:
    """By partitioned table: `count` of rows in its DEFAULT partition, counted up to 10,000."""
    statements: list[Rows] = []
    for name in partitioned():
        default = select(text("1")).select_from(table(f"{name}_default")).limit(MAX_COUNTED).subquery()
        count = select(func.count()).select_from(default).scalar_subquery()
        statements.append(select(literal(name, Text).label("table"), count.label("count")))
    return select(union_all(*statements).subquery())


def partitioned() -> list[str]:
    """The names of the tables that have partitions."""
    return [
        partitioned_table.name
        for partitioned_table in Table.metadata.sorted_tables
        if partitioned_table.dialect_options["postgresql"].get("partition_by")
    ]


async def fetch(connection: AsyncConnection, statement: Rows) -> Sequence[Row[Any]]:
    """The rows of one of these."""
    return (await connection.execute(statement)).all()


async def workers(database: Database, *, stopped: bool) -> Sequence[Row[Any]]:
    """Worker processes by name, with the jobs each is `running`, its `age` in seconds and since its last heartbeat (`silent`).

    Those that are live, and with `stopped` the hundred that were heard last.
    """
    running_jobs = select(func.count()).where(Job.worker_id == Worker.id, scheduling.in_states(ACTIVE)).scalar_subquery()
    statement = select(
        *Worker.__table__.c,
        running_jobs.label("running"),
        scheduling.is_live().label("live"),
        func.extract("epoch", _now - Worker.started_at).label("age"),
        func.extract("epoch", _now - Worker.heartbeat_at).label("silent"),
    )
    if not stopped:
        return await database.rows(statement.where(scheduling.is_live()).order_by(Worker.name))
    return await database.rows(statement.order_by(Worker.heartbeat_at.desc(), Worker.name).limit(100))


async def owner_by_email(database: Database, viewer: Viewer, email: str) -> Row[Any] | None:
    """`id` and `email` of the user with this address, whatever its case; a live one before a deleted one."""
    statement = select(User.id, User.email).where(visible(User, viewer), func.lower(User.email) == email.lower())
    rows = await database.rows(statement.order_by(User.deleted_at.is_not(None)).limit(1))
    return rows[0] if rows else None
