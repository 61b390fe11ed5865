"""Queries of what was recorded of the API's use: requests, and their sums by hour or day."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    cast,
    column,
    false,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
)

from db.core.batch import rows_by_key
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sketches import value_of
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import ApiMetric, ApiRequest

MAX_PERIODS = 1_000
_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]*|\(other\)", re.ASCII)  # others are not looked for: the database takes no NUL in a text
MAX_OPERATIONS = 20  # of a period, those with the most requests
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class UsageGranularity(StrEnum):
    """The length of the periods that requests are summed over."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        return timedelta(hours=1) if self is UsageGranularity.HOUR else timedelta(days=1)

    def start(self, time: datetime) -> datetime:
        """The start, in UTC, of the period of this time."""
        hour = time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return hour if self is UsageGranularity.HOUR else hour.replace(hour=0)

    def periods(self, since: datetime, until: datetime) -> int:
        """How many periods have a part between these times."""
        return -((self.start(since) - until) // self.length)


@dataclass(frozen=True, slots=True)
class Usage:
    """The sums of one operation, or of all, in a period. Percentiles are in seconds, by their name; none without requests."""

    operation_name: str | None
    requests: int
    errors: int
    cost: int
    duration: float
    percentiles: Mapping[str, float]

    @classmethod
    def of(cls, row: Any) -> Self:
        percentiles = {name: value_of(getattr(row, name)) for name in QUANTILES}
        return cls(row.name or None, int(row.requests), int(row.errors), int(row.cost), row.duration, percentiles)


@dataclass(slots=True)
class Period:
    """A period and its sums; `total` is None without requests. `seconds` is how much of it has passed."""

    start: datetime
    seconds: float
    total: Usage | None = None
    operations: list[Usage] = field(default_factory=list[Usage])


async def by_period(
    database: Database,
    viewer: Viewer,
    since: datetime,
    until: datetime,
    granularity: UsageGranularity,
    *,
    api_key_id: UUID | None,
    operation_name: str | None,
) -> Sequence[Period]:
    """All periods that have a part between these times, in their order, with the requests that the viewer may see."""
    length = granularity.length
    starts = [granularity.start(since) + number * length for number in range(granularity.periods(since, until))]
    last_hour = starts[-1] + (length - timedelta(hours=1))
    conditions = [visible(ApiMetric, viewer), ApiMetric.hour >= starts[0], ApiMetric.hour <= last_hour]
    if api_key_id is not None:
        conditions.append(ApiMetric.api_key_id == api_key_id)
    if operation_name is not None:
        conditions.append(ApiMetric.operation_name == operation_name if _NAME.fullmatch(operation_name) else false())
    rows = await database.rows(_statement(granularity, conditions))
    now = datetime.now(UTC)
    periods = {at: Period(at, max(1.0, min(length, now - at).total_seconds())) for at in starts}
    for row in rows:
        period = periods[row.period]
        if row.is_total:
            period.total = Usage.of(row)
        else:
            period.operations.append(Usage.of(row))
    return list(periods.values())


def _statement(granularity: UsageGranularity, conditions: Sequence[ColumnElement[bool]]) -> Rows:
    """The sums of each period and of its operations, the most requested first, with the index of the bucket of each percentile."""
    hours = (
        select(
            func.date_trunc(literal_column(f"'{granularity.value}'", Text), ApiMetric.hour, literal_column("'UTC'", Text)).label("period"),
            func.coalesce(ApiMetric.operation_name, "").label("name"),  # no operation has an empty name
            ApiMetric.requests,
            ApiMetric.errors,
            ApiMetric.cost,
            ApiMetric.duration,
            ApiMetric.sketch,
        )
        .where(*conditions)
        .cte("hours")
    )
    is_total = func.grouping(hours.c.name) == 1
    name = func.coalesce(hours.c.name, "").label("name")  # null in the rows of totals
    sums = (
        select(
            hours.c.period,
            name,
            is_total.label("is_total"),
            *(func.sum(hours.c[counted]).label(counted) for counted in ("requests", "errors", "cost", "duration")),
            func.row_number()
            .over(partition_by=(hours.c.period, is_total), order_by=(func.sum(hours.c.requests).desc(), hours.c.name))
            .label("rank"),
        )
        .group_by(func.grouping_sets(tuple_(hours.c.period, hours.c.name), hours.c.period))
        .cte("sums")
    )
    percentiles = _percentiles(hours)
    return (
        select(sums, *(percentiles.c[quantile] for quantile in QUANTILES))
        .join(
            percentiles,
            (percentiles.c.period == sums.c.period) & (percentiles.c.name == sums.c.name) & (percentiles.c.is_total == sums.c.is_total),
        )
        .where(sums.c.rank <= MAX_OPERATIONS)
        .order_by(sums.c.period, sums.c.rank)
    )


def _percentiles(hours: CTE) -> CTE:
    """The indexes of the buckets that hold the quantiles: the first whose count and those before exceed q (n - 1), as in `db.core.sketches`."""
    counts = func.jsonb_each_text(hours.c.sketch).table_valued(column("key", Text), column("value", Text)).render_derived(name="counts")
    index = cast(counts.c.key, Integer)
    is_total = func.grouping(hours.c.name) == 1
    buckets = (
        select(
            hours.c.period,
            func.coalesce(hours.c.name, "").label("name"),
            is_total.label("is_total"),
            index.label("index"),
            func.sum(cast(counts.c.value, BigInteger)).label("count"),
        )
        .select_from(hours.join(counts, true()))
        .group_by(func.grouping_sets(tuple_(hours.c.period, hours.c.name, index), tuple_(hours.c.period, index)))
        .subquery("buckets")
    )
    group = (buckets.c.period, buckets.c.name, buckets.c.is_total)
    ranked = select(
        *group,
        buckets.c.index,
        func.sum(buckets.c.count).over(partition_by=group, order_by=buckets.c.index).label("upto"),
        func.sum(buckets.c.count).over(partition_by=group).label("total"),
    ).subquery("ranked")
    group = (ranked.c.period, ranked.c.name, ranked.c.is_total)
    first = (
        func.min(ranked.c.index).filter(ranked.c.upto > literal(quantile) * (ranked.c.total - 1)).label(name)
        for name, quantile in QUANTILES.items()
    )
    return select(*group, *first).group_by(*group).cte("percentiles")


def requests(viewer: Viewer) -> Rows:
    """The requests that a viewer may see."""
    return select(ApiRequest.__table__).where(visible(ApiRequest, viewer))


by_id = rows_by_key(requests, ApiRequest.id)
of_api_key = Listing(requests, lambda _: Sort("createdAt", ApiRequest.created_at, ApiRequest.id), parent=ApiRequest.api_key_id)
