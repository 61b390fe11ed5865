"""Lists of runs, ordered by a column or by the last value of a metric.

A list by a metric has two parts: the runs with a finite last value, read off the index on (key, last, run_id), then the others by id. One
outer join could read neither part in order, so the second part is queried only where a page reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Double, cast, exists, null
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.criteria import AllOf, Criteria, Orders
from db.core.listing import Listing
from db.core.page import Page, Slice, Sort, decode_cursor, page, page_by_parent
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import runs
from db.queries.runs import FILTERS, MetricBound, MetricOrder, is_finite
from db.tables import Run, RunMetric


@dataclass(frozen=True, eq=False)
class Leaderboard(Listing):
    """A listing of runs that can be ordered by a metric."""

    def has_records(self, order: Any) -> bool:
        return not isinstance(order, MetricOrder)

    async def pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None = None,
        order: Any = None,
    ) -> Mapping[UUID, Page]:
        if not isinstance(order, MetricOrder):
            return await super().pages(database, viewer, parents, page_slice, criteria, order)
        assert self.parent is not None
        async with database.read() as connection:
            return await _pages(connection, self._runs(viewer, criteria), _PagePlan.of(page_slice, order), list(parents), self.parent)

    async def page(
        self, database: Database, viewer: Viewer, page_slice: Slice, criteria: Criteria | None = None, order: Any = None
    ) -> Page:
        if not isinstance(order, MetricOrder):
            return await super().page(database, viewer, page_slice, criteria, order)
        async with database.read() as connection:
            return (await _pages(connection, self._runs(viewer, criteria), _PagePlan.of(page_slice, order), [None], None))[None]

    def _runs(self, viewer: Viewer, criteria: Criteria | None) -> _Source:
        return _Source(lambda: self.rows(viewer, criteria), criteria)


@dataclass(frozen=True, slots=True)
class _Source:
    statement: Callable[[], Rows]
    criteria: Criteria | None

    def ranked(self, metric: str) -> Rows:
        """The runs that have a finite last value."""
        has_metric = (RunMetric.run_id == Run.id) & (RunMetric.key == metric)
        return self.statement().join(RunMetric, has_metric).where(is_finite(RunMetric.last))

    def unranked(self, metric: str) -> Rows | None:
        """The other runs; None where the filter excludes them."""
        bounds = None if self.criteria is None else self.criteria.get("metrics")
        if isinstance(bounds, AllOf) and any(isinstance(bound, MetricBound) and bound.key == metric for bound in bounds.items):
            return None
        return self.statement().where(~exists().where(RunMetric.run_id == Run.id, RunMetric.key == metric, is_finite(RunMetric.last)))


@dataclass(frozen=True, slots=True)
class _PagePlan:
    """The slice of each part that the page's cursors leave; None for no row of it."""

    page_slice: Slice
    metric: str
    ranked_slice: Slice | None
    unranked_slice: Slice | None
    ranked_sort: Sort
    unranked_sort: Sort

    @classmethod
    def of(cls, page_slice: Slice, order: MetricOrder) -> _PagePlan:
        name = f"metric.{order.descending:d}.{order.metric}"
        ranked = Sort(name, RunMetric.last, RunMetric.run_id, order.descending, "float")  # both are columns of the index
        null_value: ColumnElement[Any] = cast(null(), Double)
        unranked = Sort(name, null_value, Run.id, order.descending, "float", nullable=True)
        after_in_unranked = None if page_slice.after is None else decode_cursor(unranked, page_slice.after)[0] is None
        before_in_unranked = None if page_slice.before is None else decode_cursor(unranked, page_slice.before)[0] is None
        return cls(
            page_slice,
            order.metric,
            None if after_in_unranked is True else replace(page_slice, before=None if before_in_unranked is True else page_slice.before),
            None if before_in_unranked is False else replace(page_slice, after=None if after_in_unranked is False else page_slice.after),
            ranked,
            unranked,
        )


async def _pages(
    connection: AsyncConnection, source: _Source, plan: _PagePlan, parents: Sequence[Any], parent: Column | None
) -> dict[Any, Page]:
    async def read(statement: Rows | None, sort: Sort, page_slice: Slice | None, keys: Sequence[Any]) -> Mapping[Any, Page]:
        if statement is None or page_slice is None or not keys:
            return {}
        if parent is None:
            return {None: await page(connection, statement, sort, page_slice)}
        return await page_by_parent(connection, statement, parent, keys, sort, page_slice)

    ranked = (source.ranked(plan.metric), plan.ranked_sort, plan.ranked_slice)
    unranked = (source.unranked(plan.metric), plan.unranked_sort, plan.unranked_slice)
    near, far = (unranked, ranked) if plan.page_slice.backward else (ranked, unranked)
    first = await read(*near, parents)
    incomplete = [key for key in parents if key not in first or not _has_more(first[key], plan.page_slice)]
    second = await read(*far, incomplete)
    return {key: _join(first.get(key), second.get(key), plan.page_slice) for key in parents}


def _has_more(result: Page, page_slice: Slice) -> bool:
    return result.has_previous if page_slice.backward else result.has_next


def _join(near: Page | None, far: Page | None, page_slice: Slice) -> Page:
    """One page of the rows of the first part read and of the second."""
    rows, cursors = (list(near.rows), list(near.cursors)) if near is not None else ([], [])
    has_more = near is not None and _has_more(near, page_slice)
    if far is not None:
        remaining = page_slice.size - len(rows)
        has_more = len(far.rows) > remaining or _has_more(far, page_slice)
        if page_slice.backward:
            start = max(len(far.rows) - remaining, 0)
            rows, cursors = [*far.rows[start:], *rows], [*far.cursors[start:], *cursors]
        else:
            rows, cursors = [*rows, *far.rows[:remaining]], [*cursors, *far.cursors[:remaining]]
    if page_slice.backward:
        return Page(rows, cursors, has_next=page_slice.before is not None, has_previous=has_more)
    return Page(rows, cursors, has_next=has_more, has_previous=page_slice.after is not None)


listing = Leaderboard(runs.runs, Orders(Run), FILTERS)
of_owner = listing.under(Run.owner_id)
of_experiment = Leaderboard(runs.with_deleted, Orders(Run), FILTERS, Run.experiment_id)
