"""What is kept for how long, and what of it is past its retention.

Reads of operators and of the maintenance: they see all rows, and go through no policy.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Executable, Text, column, func, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.sql import Rows
from db.core.work import Database
from db.settings import StateSettings
from db.tables import RetentionTotal

Read = Callable[[Executable, Mapping[str, Any]], Awaitable[Sequence[Any]]]

DAY = 86_400.0
_PARTITIONS = text("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = CAST(:parent AS regclass) ORDER BY 1")
_NOW = text("SELECT now() AS now")


@dataclass(frozen=True, slots=True)
class Parent:
    """The rows that the rows of a table belong to. They are past the retention some time after the end of their parent."""

    table: str
    key: str
    stays: str | None = None
    """SQL on `t`, the row, and `p`, its parent: whether the row stays nevertheless."""


@dataclass(frozen=True, slots=True)
class RetainedTable:
    """A table with a retention. `setting` is the name of the environment variable, `seconds` reads it; None: rows are kept for ever.

    `time` is the column with the time of a row. `parent` is whose end counts instead, if it is not the row's own time.
    """

    name: str
    setting: str
    seconds: Callable[[StateSettings], float | None]
    time: str
    parent: Parent | None = None
    is_partitioned: bool = False

    @property
    def source(self) -> str:
        """SQL of a FROM item with the rows as `t`, of the table or partition to be put in."""
        return "{0} t" if self.parent is None else f"{{0}} t JOIN {self.parent.table} p ON p.id = t.{self.parent.key}"

    @property
    def is_due(self) -> str:
        """SQL: whether the retention of the row is over. `:since` is when it would have to have ended, or be of, to be kept."""
        return f"t.{self.time} < :since" if self.parent is None else "p.completed_at < :since"

    @property
    def goes(self) -> str:
        """SQL: whether the row goes."""
        stays = None if self.parent is None else self.parent.stays
        return self.is_due if stays is None else f"{self.is_due} AND NOT ({stays})"


def _days(value: float | None, otherwise: float | None = None) -> float | None:
    return otherwise if value is None else value * DAY


JOB_EVENTS = RetainedTable(
    "job_events",
    "TRELLIS_RETENTION_JOB_EVENTS",
    lambda settings: _days(settings.retention_job_events),
    "created_at",
    Parent("jobs", "job_id", stays="t.sequence >= p.last_sequence"),
    is_partitioned=True,
)
METRIC_POINTS = RetainedTable(
    "metric_points",
    "TRELLIS_RETENTION_METRIC_POINTS",
    lambda settings: _days(settings.retention_metric_points),
    "recorded_at",
    Parent("runs", "run_id"),
    is_partitioned=True,
)
API_REQUESTS = RetainedTable(
    "api_requests", "TRELLIS_API_REQUEST_RETENTION", lambda settings: settings.api_request_retention, "created_at", is_partitioned=True
)
API_METRICS = RetainedTable("api_metrics", "TRELLIS_API_METRICS_RETENTION", lambda settings: settings.api_metrics_retention, "hour")
LOGIN_EVENTS = RetainedTable(
    "login_events",
    "TRELLIS_RETENTION_LOGIN_EVENTS",
    lambda settings: _days(settings.retention_login_events, settings.sign_in_retention),
    "created_at",
)
MAILS = RetainedTable(
    "email_messages",
    "TRELLIS_RETENTION_MAILS",
    lambda settings: _days(settings.retention_mails, settings.sign_in_retention),
    "created_at",
)
NOTIFICATIONS = RetainedTable(
    "notifications", "TRELLIS_RETENTION_NOTIFICATIONS", lambda settings: _days(settings.retention_notifications), "created_at"
)
DELIVERIES = RetainedTable(
    "webhook_deliveries", "TRELLIS_RETENTION_DELIVERIES", lambda settings: _days(settings.retention_deliveries), "created_at"
)
PAYMENT_EVENTS = RetainedTable(
    "payment_events", "TRELLIS_RETENTION_PAYMENT_EVENTS", lambda settings: _days(settings.retention_payment_events), "created_at"
)
RETAINED_TABLES = (
    JOB_EVENTS,
    METRIC_POINTS,
    API_REQUESTS,
    API_METRICS,
    LOGIN_EVENTS,
    MAILS,
    NOTIFICATIONS,
    DELIVERIES,
    PAYMENT_EVENTS,
)


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition with the ids of a month."""

    parent: str
    name: str
    starts: datetime
    ends: datetime

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """The least uuidv7 of the month, and the least after it."""
        return _first_id(self.starts), _first_id(self.ends)


def _first_id(time: datetime) -> UUID:
    return UUID(int=int(time.timestamp() * 1_000) << 80)


def _month(year: int, month: int) -> datetime:
    return datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)


async def months(database: Database, table: str) -> Sequence[Partition]:
    """Return the partitions of a table that have a month, the oldest first."""
    pattern = re.compile(rf"{table}_(\d{{4}})_(\d{{2}})", re.ASCII)
    matches = [pattern.fullmatch(row.name) for row in await database.rows(_PARTITIONS, {"parent": table})]
    dates = [(match[0], int(match[1]), int(match[2])) for match in matches if match]
    return [Partition(table, name, _month(year, month), _month(year, month + 1)) for name, year, month in dates]


async def kept_since(database: Database, retained: RetainedTable, settings: StateSettings) -> datetime | None:
    """Return the time before which rows, or the ends of their parents, are past the retention; None if all are kept."""
    seconds = retained.seconds(settings)
    if seconds is None:
        return None
    (clock,) = await database.rows(_NOW)
    try:
        return clock.now - timedelta(seconds=seconds)
    except OverflowError:  # a retention of thousands of years
        return None


async def is_over(read: Read, retained: RetainedTable, partition: Partition, since: datetime) -> bool:
    """Whether all of the month is past the retention: it is over, and each parent with an id of the month has ended before `since`."""
    if partition.ends > since:
        return False
    if retained.parent is None:
        return True
    first, end = partition.ids
    statement = text(
        f"SELECT NOT EXISTS (SELECT FROM {retained.parent.table} p WHERE p.id >= :first AND p.id < :end"  # noqa: S608 - our own names
        " AND (p.completed_at < :since) IS NOT TRUE) AS is_over"
    )
    (row,) = await read(statement, {"first": first, "end": end, "since": since})
    return row.is_over


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the retention of a table would remove now.

    `size_bytes` is what the rows and their share of the indexes take on disk, about. `partitions` are dropped as a whole; `oldest_kept` is the time
    of the oldest row that is not past the retention.
    """

    table: str
    setting: str
    days: float | None
    rows: int
    size_bytes: int
    partitions: tuple[str, ...]
    oldest_kept: datetime | None


async def forecast(database: Database, retained: RetainedTable, settings: StateSettings, *, whole_only: bool) -> Forecast:
    """Count what would go. With `whole_only`, rows go only with their whole month. Reads all rows of the table."""
    seconds = retained.seconds(settings)
    since = await kept_since(database, retained, settings)
    parts = {partition.name: partition for partition in await months(database, retained.name)} if retained.is_partitioned else {}
    leaves = [*parts, f"{retained.name}_default"] if retained.is_partitioned else [retained.name]
    dropped: list[str] = []
    row_count, size_bytes, oldest = 0, 0, None
    for leaf in leaves:
        counts = await _counts(database, retained, leaf, since)
        if counts.oldest_kept is not None and (oldest is None or counts.oldest_kept < oldest):
            oldest = counts.oldest_kept
        if since is None or not counts.goes:
            continue
        is_whole = leaf in parts and await is_over(database.rows, retained, parts[leaf], since)
        if is_whole:
            dropped.append(leaf)
        if is_whole or not (whole_only and retained.parent is not None):
            row_count += counts.goes
            size_bytes += counts.size_bytes * counts.goes // counts.total
    days = None if seconds is None else seconds / DAY
    return Forecast(retained.name, retained.setting, days, row_count, size_bytes, tuple(dropped), oldest)


async def _counts(database: Database, retained: RetainedTable, leaf: str, since: datetime | None) -> Any:
    is_due, goes = (retained.is_due, retained.goes) if since is not None else ("false", "false")
    statement = text(
        f"SELECT count(*) AS total, count(*) FILTER (WHERE {goes}) AS goes,"  # noqa: S608 - our own names
        f" min(t.{retained.time}) FILTER (WHERE ({is_due}) IS NOT TRUE) AS oldest_kept, pg_total_relation_size('{leaf}') AS size_bytes"
        f" FROM {retained.source.format(leaf)}"
    )
    (row,) = await database.rows(statement, {} if since is None else {"since": since})
    return row


def totals_statement() -> Rows:
    """By table: the `rows` and `partitions` that the retention has removed of it, ever; 0 of those of which it removed nothing."""
    names = (
        func.unnest(literal([retained.name for retained in RETAINED_TABLES], ARRAY(Text)))
        .table_valued(column("name", Text))
        .render_derived(name="names")
    )
    counts = (func.coalesce(RetentionTotal.rows, 0).label("rows"), func.coalesce(RetentionTotal.partitions, 0).label("partitions"))
    return select(names.c.name, *counts).select_from(names.outerjoin(RetentionTotal, RetentionTotal.table_name == names.c.name))


async def totals(database: Database) -> Mapping[str, Any]:
    """The rows of `totals_statement` by the name of the table."""
    return {row.name: row for row in await database.rows(totals_statement())}
