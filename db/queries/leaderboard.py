"""Lists of runs, ordered by a column, by the last value of a metric, or by a hyperparameter.

A list by a value that some runs do not have has two parts: those that have one, read off the index on the value, such as (key, last, run_id), then
the others by id. One outer join could read neither part in order, so the second part is queried only where a page reaches it.

The end of such a list is read from the last run on, until the page is full. Where nearly every run has a value, that looks at all of them one by
one; so among everyone's runs the last ones are looked at first, and if too few of them have none, all are matched in one pass and then sorted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Text, bindparam, cast, null, select, union_all

from db.core.criteria import AllOf, Criteria, Orders
from db.core.listing import Listing, first_rows
from db.core.page import Page, Position, Slice, Sort, between, decode_cursor
from db.core.record_page import PageParts, PageSource, RecordPages, TextParts, record_pages, text_pages
from db.core.sql import OuterColumn, Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import runs
from db.queries.run_orders import ByColumn, ByMetric, RunOrder
from db.queries.runs import FILTERS, MetricBound, ParameterMatch
from db.tables import ModelVersion, Run

_KEY = bindparam("run_order_key", type_=Text)
_LAST_RUNS = 10_000  # that are looked at one by one: some 40 ms


@dataclass(frozen=True, eq=False)
class Leaderboard(Listing):
    """A listing of runs, which can be in a `RunOrder`."""

    def is_for_values(self, criteria: Criteria | None, order: Any) -> bool:
        """A metric may be frequent or rare."""
        return (isinstance(order, RunOrder) and order.by.argument is not None) or super().is_for_values(criteria, order)

    def first_rows(
        self, viewer: Viewer, criteria: Criteria | None, order: Any, names: Sequence[str], parent: OuterColumn, limit: Any
    ) -> Rows:
        """PostgreSQL reads the second part only if the first one has fewer rows than the limit: it appends them in this order."""
        if not isinstance(order, RunOrder):
            return super().first_rows(viewer, criteria, order, names, parent, limit)
        key = bindparam(None, order.by.argument, type_=Text, unique=True)
        ranked_sort, unranked_sort = _sorts(order)
        parts = [first_rows(parent.select(self.ranked(viewer, criteria, order, key), self.parent), ranked_sort, names, limit)]
        if not _excludes_unranked(criteria, order):
            parts.append(first_rows(parent.select(self.unranked(viewer, criteria, order, key), self.parent), unranked_sort, names, limit))
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
        if not isinstance(order, RunOrder):
            return await super().text_pages(database, viewer, parents, page_slice, criteria, order, parts)
        with_ends = replace(parts, ends=True)

        async def read(part: _Part, keys: Sequence[UUID]) -> Sequence[Page]:
            pages = await text_pages(database, viewer, part.source, keys, part.page_slice, with_ends)
            if pages is None:
                raise _NoText
            return pages

        try:
            return await self._pages(database, viewer, parents, page_slice, criteria, order, read)
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
        if not isinstance(order, RunOrder):
            return await super().record_pages(database, viewer, parents, page_slice, criteria, order, parts)
        read = _record_reader(database, viewer, replace(parts, ends=True))
        pages = await self._pages(database, viewer, parents, page_slice, criteria, order, read)
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
        if not isinstance(order, RunOrder):
            return await super().pages(database, viewer, parents, page_slice, criteria, order)
        parts = PageParts(self.make_row.names, cursors=True, ends=True)
        pages = await self._pages(database, viewer, parents, page_slice, criteria, order, _record_reader(database, viewer, parts))
        return {key: replace(page, rows=[self.make_row(record) for record in page.rows]) for key, page in zip(parents, pages, strict=True)}

    async def page(
        self, database: Database, viewer: Viewer, page_slice: Slice, criteria: Criteria | None = None, order: Any = None
    ) -> Page:
        if not isinstance(order, RunOrder):
            return await super().page(database, viewer, page_slice, criteria, order)
        nobody: Any = None  # the parent of a list without parents
        return (await self.pages(database, viewer, [nobody], page_slice, criteria, order))[nobody]

    async def _pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None,
        order: RunOrder,
        read_part: _PartReader,
    ) -> list[Page]:
        """The page under each parent, or the one of the whole list."""

        async def read(part: _Part | None, keys: Sequence[UUID]) -> Mapping[UUID, Page]:
            return {} if part is None or not keys else dict(zip(keys, await read_part(part, keys), strict=True))

        positions = _Positions.of(page_slice, order)
        if page_slice.backward and await self._has_few_unranked(database, viewer, positions, criteria, order):
            positions = positions.matching_all(order)
        ranked, unranked = positions.parts(self, criteria, order)
        near, far = (unranked, ranked) if page_slice.backward else (ranked, unranked)
        first = await read(near, parents)
        second = await read(far, [key for key in parents if key not in first or not _has_more(first[key], page_slice)])
        return [_join(first.get(key), second.get(key), page_slice) for key in parents]

    async def _has_few_unranked(
        self, database: Database, viewer: Viewer, positions: _Positions, criteria: Criteria | None, order: RunOrder
    ) -> bool:
        """Whether the last runs of a list of everyone's, as many as are quickly looked at one by one, do not fill its last page."""
        page_slice = positions.unranked_slice
        if not viewer.sees_all or self.parent is not None or page_slice is None or isinstance(order.by, ByColumn):
            return False
        if _excludes_unranked(criteria, order):
            return False
        sort = positions.unranked_sort
        after, before = (Position.of(sort, cursor) for cursor in (page_slice.after, page_slice.before))
        rows = self.rows(viewer, criteria).with_only_columns(Run.id, maintain_column_froms=True)
        last = between(rows, sort, after, before, backward=True).limit(_LAST_RUNS).subquery("last_runs")
        key = bindparam(None, order.by.key, type_=Text, unique=True)
        unranked = select(last.c.id).where(~order.by.is_ranked(last.c.id, key)).limit(page_slice.size + 1)
        return len(await database.rows(unranked)) <= page_slice.size

    def ranked(self, viewer: Viewer, criteria: Criteria | None, order: RunOrder, key: ColumnElement[str] = _KEY) -> Rows:
        """The runs that have a value."""
        experiment_id = Run.experiment_id if self.parent is Run.experiment_id else None
        return order.by.ranked(self.rows(viewer, criteria), experiment_id, key)

    def unranked(self, viewer: Viewer, criteria: Criteria | None, order: RunOrder, key: ColumnElement[str] = _KEY) -> Rows:
        """The other runs."""
        return order.by.unranked(self.rows(viewer, criteria), key)

    def unmatched(self, viewer: Viewer, criteria: Criteria | None, order: RunOrder) -> Rows:
        """The same, by matching all runs with all values."""
        assert not isinstance(order.by, ByColumn)
        return order.by.unmatched(self.rows(viewer, criteria), _KEY)


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
    matches_all: bool = False
    """Whether all runs are matched with those that have a value, rather than in their order one by one."""

    @classmethod
    def of(cls, page_slice: Slice, order: RunOrder) -> _Positions:
        ranked, unranked = _sorts(order)
        after_in_unranked = None if page_slice.after is None else decode_cursor(unranked, page_slice.after)[0] is None
        before_in_unranked = None if page_slice.before is None else decode_cursor(unranked, page_slice.before)[0] is None
        return cls(
            None if after_in_unranked is True else replace(page_slice, before=None if before_in_unranked is True else page_slice.before),
            None if before_in_unranked is False else replace(page_slice, after=None if after_in_unranked is False else page_slice.after),
            ranked,
            unranked,
        )

    def matching_all(self, order: RunOrder) -> _Positions:
        """The same, whose unranked part has an order that no index has, so that it is not read in it."""
        assert not isinstance(order.by, ByColumn)
        sort = replace(self.unranked_sort, key=order.by.unmatched_id, named_list=Run.__tablename__)
        return replace(self, unranked_sort=sort, matches_all=True)

    def parts(self, listing: Leaderboard, criteria: Criteria | None, order: RunOrder) -> tuple[_Part | None, _Part | None]:
        """The ranked and the unranked part; the second is None too where the filter excludes its rows."""
        arguments = {} if order.by.argument is None else {_KEY.key: order.by.argument}
        # Of orders by any metric, the statement is the same.
        by = order.by if order.by.argument is None else type(order.by)
        key = (listing, criteria, by, order.descending, order.then, self.matches_all)
        for_values = listing.is_for_values(criteria, order)
        ranked, unranked = (
            PageSource(
                (*key, name), partial(rows, criteria=criteria, order=order), lambda sort=sort: sort, listing.parent, arguments, for_values
            )
            for name, rows, sort in (
                ("ranked", listing.ranked, self.ranked_sort),
                ("unranked", listing.unmatched if self.matches_all else listing.unranked, self.unranked_sort),
            )
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


def _sorts(order: RunOrder) -> tuple[Sort, Sort]:
    """The orders of the ranked and of the unranked part."""
    null_value: ColumnElement[Any] = cast(null(), order.by.value.type)
    if order.then is None:
        # The value and the key are columns of the same index.
        ranked = Sort(order.name, order.by.value, order.by.row_key, order.descending, order.by.kind, named_list=Run.__tablename__)
        return ranked, Sort(order.name, null_value, Run.id, order.descending, order.by.kind, nullable=True)
    pair, lead = order.refined()
    ranked = Sort(order.name, pair, order.by.row_key, order.descending, "pair", named_list=Run.__tablename__, lead=lead)
    no_pair: ColumnElement[Any] = cast(null(), pair.type)
    return ranked, Sort(order.name, no_pair, Run.id, order.descending, "pair", nullable=True, lead=replace(lead, column=null_value))


def _excludes_unranked(criteria: Criteria | None, order: RunOrder) -> bool:
    """Whether there is no run without a value, or a filter leaves none: a bound on the same metric or hyperparameter, or that there is the metric."""
    by = order.by
    if isinstance(by, ByColumn):
        return not by.is_nullable
    conditions = () if criteria is None else (criteria.get(name) for name in ("metrics", "parameters", "conditions"))
    matches = (match for condition in conditions if isinstance(condition, AllOf) for match in condition.items)
    if isinstance(by, ByMetric):
        return any(isinstance(match, MetricBound) and match.key == by.key for match in matches)
    return any(isinstance(match, ParameterMatch) and match.key == by.key and match.is_bounded for match in matches)


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
of_parent = listing.under(Run.parent_run_id)
of_original = listing.under(Run.original_run_id)


def _of_model_versions(viewer: Viewer) -> Rows:
    return runs.not_deleted(viewer).join(ModelVersion, ModelVersion.run_id == Run.id)


of_model_version = Listing(_of_model_versions, Orders(Run), parent=ModelVersion.id)
of_experiment = Leaderboard(runs.not_deleted, Orders(Run), FILTERS, Run.experiment_id)
