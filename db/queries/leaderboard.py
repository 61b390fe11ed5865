"""Lists of runs, ordered by a column or by the last value of a metric.

A list by a metric has two parts: the runs with a finite last value, read off the index on (key, last, run_id), then the others by id. One
outer join could read neither part in order, so the second part is queried only where a page reaches it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Double, Text, bindparam, cast, exists, null, select, union_all

from db.core.criteria import AllOf, Criteria, Orders
from db.core.listing import Listing, first_rows
from db.core.page import Page, Slice, Sort, decode_cursor
from db.core.record_page import PageParts, PageSource, RecordPages, TextParts, record_pages, text_pages
from db.core.sql import OuterColumn, Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import runs
from db.queries.runs import FILTERS, MetricBound, MetricOrder, is_finite
from db.tables import Run, RunMetric

_METRIC = bindparam("metric_order", type_=Text)


@dataclass(frozen=True, eq=False)
class Leaderboard(Listing):
    """A listing of runs that can be ordered by a metric."""

    def is_for_values(self, criteria: Criteria | None, order: Any) -> bool:
        """A metric may be frequent or rare."""
        return isinstance(order, MetricOrder) or super().is_for_values(criteria, order)

    def first_rows(
        self, viewer: Viewer, criteria: Criteria | None, order: Any, names: Sequence[str], parent: OuterColumn, limit: Any
    ) -> Rows:
        """PostgreSQL reads the second part only if the first one has fewer rows than the limit: it appends them in this order."""
        if not isinstance(order, MetricOrder):
            return super().first_rows(viewer, criteria, order, names, parent, limit)
        metric = bindparam(None, order.metric, type_=Text, unique=True)
        ranked_sort, unranked_sort = _sorts(order)
        parts = [first_rows(parent.select(self.ranked(viewer, criteria, metric), self.parent), ranked_sort, names, limit)]
        if not _excludes_unranked(criteria, order):
            parts.append(first_rows(parent.select(self.unranked(viewer, criteria, metric), self.parent), unranked_sort, names, limit))
            return select(*union_all(*parts).limit(limit).subquery().c)
        return parts[0]

    async def text_pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None,
        order: Any,
        parts: TextParts,
    ) -> list[Page] | None:
        if not isinstance(order, MetricOrder):
            return await super().text_pages(database, viewer, parents, page_slice, criteria, order, parts)
        with_ends = replace(parts, ends=True)

        async def read(part: _Part, keys: Sequence[UUID]) -> Sequence[Page]:
            pages = await text_pages(database, viewer, part.source, keys, part.page_slice, with_ends)
            if pages is None:
                raise _NoText
            return pages

        try:
            return await self._pages(parents, page_slice, criteria, order, read)
        except _NoText:
            return None

    async def record_pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None,
        order: Any,
        parts: PageParts,
    ) -> RecordPages:
        if not isinstance(order, MetricOrder):
            return await super().record_pages(database, viewer, parents, page_slice, criteria, order, parts)
        pages = await self._pages(parents, page_slice, criteria, order, _record_reader(database, viewer, replace(parts, ends=True)))
        return RecordPages.of(pages, ends=parts.ends)

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
        parts = PageParts(self.make_row.names, cursors=True, ends=True)
        pages = await self._pages(parents, page_slice, criteria, order, _record_reader(database, viewer, parts))
        return {key: replace(page, rows=[self.make_row(record) for record in page.rows]) for key, page in zip(parents, pages, strict=True)}

    async def page(
        self, database: Database, viewer: Viewer, page_slice: Slice, criteria: Criteria | None = None, order: Any = None
    ) -> Page:
        if not isinstance(order, MetricOrder):
            return await super().page(database, viewer, page_slice, criteria, order)
        nobody: Any = None  # the parent of a list without parents
        return (await self.pages(database, viewer, [nobody], page_slice, criteria, order))[nobody]

    async def _pages(
        self, parents: Sequence[UUID], page_slice: Slice, criteria: Criteria | None, order: MetricOrder, read_part: _PartReader
    ) -> list[Page]:
        """The page under each parent, or the one of the whole list."""

        async def read(part: _Part | None, keys: Sequence[UUID]) -> Mapping[UUID, Page]:
            return {} if part is None or not keys else dict(zip(keys, await read_part(part, keys), strict=True))

        ranked, unranked = _Positions.of(page_slice, order).parts(self, criteria, order)
        near, far = (unranked, ranked) if page_slice.backward else (ranked, unranked)
        first = await read(near, parents)
        second = await read(far, [key for key in parents if key not in first or not _has_more(first[key], page_slice)])
        return [_join(first.get(key), second.get(key), page_slice) for key in parents]

    def ranked(self, viewer: Viewer, criteria: Criteria | None, metric: ColumnElement[str] = _METRIC) -> Rows:
        """The runs that have a finite last value."""
        has_metric = (RunMetric.run_id == Run.id) & (RunMetric.key == metric)
        if self.parent is Run.experiment_id:  # an index has the runs of an experiment in the order of a metric
            has_metric &= RunMetric.experiment_id == Run.experiment_id
        return self.rows(viewer, criteria).join(RunMetric, has_metric).where(is_finite(RunMetric.last))

    def unranked(self, viewer: Viewer, criteria: Criteria | None, metric: ColumnElement[str] = _METRIC) -> Rows:
        """The other runs."""
        is_ranked = exists().where(RunMetric.run_id == Run.id, RunMetric.key == metric, is_finite(RunMetric.last))
        return self.rows(viewer, criteria).where(~is_ranked)


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of the list, and the slice of it that the page's cursors leave."""

    source: PageSource
    page_slice: Slice


@dataclass(frozen=True, slots=True)
class _Positions:
    """The slice of each part that the page's cursors leave; None for no row of it."""

    ranked_slice: Slice | None
    unranked_slice: Slice | None
    ranked_sort: Sort
    unranked_sort: Sort

    @classmethod
    def of(cls, page_slice: Slice, order: MetricOrder) -> _Positions:
        ranked, unranked = _sorts(order)
        after_in_unranked = None if page_slice.after is None else decode_cursor(unranked, page_slice.after)[0] is None
        before_in_unranked = None if page_slice.before is None else decode_cursor(unranked, page_slice.before)[0] is None
        return cls(
            None if after_in_unranked is True else replace(page_slice, before=None if before_in_unranked is True else page_slice.before),
            None if before_in_unranked is False else replace(page_slice, after=None if after_in_unranked is False else page_slice.after),
            ranked,
            unranked,
        )

    def parts(self, listing: Leaderboard, criteria: Criteria | None, order: MetricOrder) -> tuple[_Part | None, _Part | None]:
        """The ranked and the unranked part; the second is None too where the filter excludes its rows."""
        arguments = {_METRIC.key: order.metric}
        key = (listing, criteria, order.descending)
        ranked = PageSource(
            (*key, "ranked"),
            lambda viewer: listing.ranked(viewer, criteria),
            lambda: self.ranked_sort,
            listing.parent,
            arguments,
            for_values=True,  # the metric may be frequent or rare
        )
        unranked = PageSource(
            (*key, "unranked"),
            lambda viewer: listing.unranked(viewer, criteria),
            lambda: self.unranked_sort,
            listing.parent,
            arguments,
            for_values=True,  # the metric may be frequent or rare
        )
        return (
            None if self.ranked_slice is None else _Part(ranked, self.ranked_slice),
            None if self.unranked_slice is None or _excludes_unranked(criteria, order) else _Part(unranked, self.unranked_slice),
        )


_PartReader: TypeAlias = Callable[[_Part, Sequence[UUID]], Awaitable[Sequence[Page]]]  # the page of a part under each of several parents


class _NoText(Exception):
    """A row cannot be written as a text."""


def _record_reader(database: Database, viewer: Viewer, parts: PageParts) -> _PartReader:
    async def read(part: _Part, keys: Sequence[UUID]) -> Sequence[Page]:
        return (await record_pages(database, viewer, part.source, keys, part.page_slice, parts)).split()

    return read


def _sorts(order: MetricOrder) -> tuple[Sort, Sort]:
    """The orders of the ranked and of the unranked part."""
    name = f"metric.{order.descending:d}.{order.metric}"
    # Both are columns of the index.
    ranked = Sort(name, RunMetric.last, RunMetric.run_id, order.descending, "float", named_list=Run.__tablename__)
    null_value: ColumnElement[Any] = cast(null(), Double)
    return ranked, Sort(name, null_value, Run.id, order.descending, "float", nullable=True)


def _excludes_unranked(criteria: Criteria | None, order: MetricOrder) -> bool:
    """Whether a filter leaves no run without a value of the metric."""
    bounds = None if criteria is None else criteria.get("metrics")
    return isinstance(bounds, AllOf) and any(isinstance(bound, MetricBound) and bound.key == order.metric for bound in bounds.items)


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
of_dataset = listing.under(Run.dataset_id)
of_version = listing.under(Run.dataset_version_id)
of_experiment = Leaderboard(runs.with_deleted, Orders(Run), FILTERS, Run.experiment_id)
