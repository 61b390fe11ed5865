"""Lists of runs, by their columns or by the last value of a metric.

By a metric a list has two stretches: the runs with a finite last value, read off the index on (key, last, run_id), and then the rest by id.
As one outer join neither would be read in order; so the rest is asked for only where a page reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Double, cast, exists, null
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.listing import Listing
from db.core.page import Page, Slice, Sort, decode_cursor, page, page_by_parent
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import runs
from db.queries.runs import RunFilter, RunOrder, finite
from db.tables import Run, RunMetric


@dataclass(frozen=True, eq=False)
class Leaderboard(Listing):
    """A listing of runs that can be ordered by a metric."""

    async def pages(
        self, database: Database, viewer: Viewer, parents: Sequence[UUID], part: Slice, criteria: Any = None, order: Any = None
    ) -> Mapping[UUID, Page]:
        if order is None or order.metric is None:
            return await super().pages(database, viewer, parents, part, criteria, order)
        assert self.parent is not None
        async with database.read() as connection:
            return await _pages(connection, self._under(viewer, criteria), _Places.of(part, order), list(parents), self.parent)

    async def page(self, database: Database, viewer: Viewer, part: Slice, criteria: Any = None, order: Any = None) -> Page:
        if order is None or order.metric is None:
            return await super().page(database, viewer, part, criteria, order)
        async with database.read() as connection:
            return (await _pages(connection, self._under(viewer, criteria), _Places.of(part, order), [None], None))[None]

    def _under(self, viewer: Viewer, criteria: RunFilter | None) -> _Source:
        return _Source(lambda: self.statement(viewer, criteria), criteria)


@dataclass(frozen=True, slots=True)
class _Source:
    statement: Callable[[], Rows]
    criteria: RunFilter | None

    def ranked(self, metric: str) -> Rows:
        """The runs that have a finite last value."""
        held = (RunMetric.run_id == Run.id) & (RunMetric.key == metric)
        return self.statement().join(RunMetric, held).where(finite(RunMetric.last))

    def rest(self, metric: str) -> Rows | None:
        """The other runs; None where the filter already says that there are none."""
        if self.criteria is not None and any(bound.key == metric for bound in self.criteria.metrics):
            return None
        return self.statement().where(~exists().where(RunMetric.run_id == Run.id, RunMetric.key == metric, finite(RunMetric.last)))


@dataclass(frozen=True, slots=True)
class _Places:
    """What part of each stretch the page's cursors leave; None for nothing of it."""

    part: Slice
    metric: str
    in_ranked: Slice | None
    in_rest: Slice | None
    ranked: Sort
    unranked: Sort

    @classmethod
    def of(cls, part: Slice, order: RunOrder) -> _Places:
        assert order.metric is not None
        name = f"metric.{order.descending:d}.{order.metric}"
        ranked = Sort(name, RunMetric.last, RunMetric.run_id, order.descending, "float")  # both columns of the index
        nothing: ColumnElement[Any] = cast(null(), Double)
        rest = Sort(name, nothing, Run.id, order.descending, "float", nullable=True)
        after = None if part.after is None else decode_cursor(rest, part.after)[0] is None
        before = None if part.before is None else decode_cursor(rest, part.before)[0] is None
        return cls(
            part,
            order.metric,
            None if after is True else replace(part, before=None if before is True else part.before),
            None if before is False else replace(part, after=None if after is False else part.after),
            ranked,
            rest,
        )


async def _pages(
    connection: AsyncConnection, source: _Source, places: _Places, parents: Sequence[Any], parent: Column | None
) -> dict[Any, Page]:
    async def read(statement: Rows | None, sort: Sort, part: Slice | None, wanted: Sequence[Any]) -> Mapping[Any, Page]:
        if statement is None or part is None or not wanted:
            return {}
        if parent is None:
            return {None: await page(connection, statement, sort, part)}
        return await page_by_parent(connection, statement, parent, wanted, sort, part)

    ranked = (source.ranked(places.metric), places.ranked, places.in_ranked)
    rest = (source.rest(places.metric), places.unranked, places.in_rest)
    near, far = (rest, ranked) if places.part.backward else (ranked, rest)
    first = await read(*near, parents)
    short = [key for key in parents if key not in first or not _more(first[key], places.part)]
    second = await read(*far, short)
    return {key: _joined(first.get(key), second.get(key), places.part) for key in parents}


def _more(found: Page, part: Slice) -> bool:
    return found.has_previous if part.backward else found.has_next


def _joined(near: Page | None, far: Page | None, part: Slice) -> Page:
    """The page made of a stretch and of what follows it in the direction of reading."""
    rows, cursors = (list(near.rows), list(near.cursors)) if near is not None else ([], [])
    more = near is not None and _more(near, part)
    if far is not None:
        room = part.size - len(rows)
        more = len(far.rows) > room or _more(far, part)
        if part.backward:
            start = max(len(far.rows) - room, 0)
            rows, cursors = [*far.rows[start:], *rows], [*far.cursors[start:], *cursors]
        else:
            rows, cursors = [*rows, *far.rows[:room]], [*cursors, *far.cursors[:room]]
    if part.backward:
        return Page(rows, cursors, has_next=part.before is not None, has_previous=more)
    return Page(rows, cursors, has_next=more, has_previous=part.after is not None)


every = Leaderboard(runs.runs, runs.sort)
of_owner = every.under(Run.owner_id)
of_experiment = Leaderboard(runs.kept, runs.sort, Run.experiment_id)
