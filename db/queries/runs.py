"""What can be asked of runs: lists by their columns, by parameters and by metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Double, Row, Uuid, bindparam, exists, func, literal, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import aliased

from db.core.batch import rows_by_key
from db.core.criteria import Period
from db.core.page import Sort
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import Experiment, Run, RunMetric
from db.tables.jobstates import RunStatus

INFINITY = literal_column("'infinity'::float8", Double)


def visible(viewer: Viewer) -> ColumnElement[bool]:
    """Owners see their runs; admins see all."""
    return true() if viewer.sees_all else Run.owner_id == viewer.id


def finite(value: Any) -> ColumnElement[bool]:
    """A number proper: PostgreSQL sorts NaN above infinity, so one range leaves out NaN, both infinities and null, and an index can serve it."""
    return (value > -INFINITY) & (value < INFINITY)


@dataclass(frozen=True, slots=True)
class MetricBound:
    """The last value of a metric lies within bounds; without bounds: the metric has one."""

    key: str
    gte: float | None = None
    lte: float | None = None

    def condition(self) -> ColumnElement[bool]:
        metric = aliased(RunMetric)
        found = exists().where(metric.run_id == Run.id, metric.key == self.key, finite(metric.last))
        if self.gte is not None:
            found = found.where(metric.last >= self.gte)
        if self.lte is not None:
            found = found.where(metric.last <= self.lte)
        return found


@dataclass(frozen=True, slots=True)
class ParameterMatch:
    """A hyperparameter equals one of some JSON values; without values: it is there. Dots in the key lead into objects.

    The values are kept as JSON text, so that equal questions are equal values; `of` makes one.
    """

    key: str
    one_of: tuple[bytes, ...] | None = None

    @classmethod
    def of(cls, key: str, values: Sequence[Any] | None) -> ParameterMatch:
        """Raises `TypeError` for a value that is no JSON or an integer beyond 64 bits."""
        return cls(key, None if values is None else tuple(orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values))

    def condition(self) -> ColumnElement[bool]:
        path = self.key.split(".")
        # A key with dots may also stand as it is, at the top.
        places = [path] if len(path) == 1 else [path, [self.key]]
        if self.one_of is None:
            return or_(*(self._at(place).is_not(None) for place in places))
        return or_(*(self._equals(place, orjson.loads(value)) for value in self.one_of for place in places), literal(value=False))

    @staticmethod
    def _at(place: list[str]) -> ColumnElement[Any]:
        return func.jsonb_extract_path(Run.hyperparameters, *place, type_=JSONB)

    def _equals(self, place: list[str], value: Any) -> ColumnElement[bool]:
        """Containment, which the GIN index answers, and equality, because {"a": [1, 2]} contains {"a": [1]}."""
        whole = value
        for name in reversed(place):
            whole = {name: whole}
        holds = Run.hyperparameters.op("@>", is_comparison=True)(bindparam(None, whole, type_=JSONB, unique=True))
        same = self._at(place).op("=", is_comparison=True)(bindparam(None, value, type_=JSONB, unique=True))
        return holds & same


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list holds; what is None does not restrict. All metrics and all parameters must fit."""

    experiment_id: UUID | None = None
    status: tuple[RunStatus, ...] | None = None
    metrics: tuple[MetricBound, ...] = ()
    parameters: tuple[ParameterMatch, ...] = ()
    created_at: Period | None = None
    owner_id: UUID | None = None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        if self.experiment_id is not None:
            yield Run.experiment_id == self.experiment_id
        if self.status is not None:
            yield Run.status.in_(self.status)
        if self.created_at is not None:
            yield from self.created_at.on(Run.created_at)
        if self.owner_id is not None:
            yield Run.owner_id == self.owner_id
        for bound in self.metrics:
            yield bound.condition()
        for parameter in self.parameters:
            yield parameter.condition()


EVERY = RunFilter()


class RunOrderField(StrEnum):
    """What a list of runs is sorted by, apart from metrics."""

    CREATED_AT = "created_at"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class RunOrder:
    """By a field, or by the last value of a metric."""

    field: RunOrderField = RunOrderField.CREATED_AT
    metric: str | None = None
    descending: bool = True


def sort(order: RunOrder | None = None) -> Sort:
    """The order of a list by a field, newest first where none is asked; by a metric see `db.queries.leaderboard`."""
    asked = order or RunOrder()
    name = f"{asked.field}.{asked.descending:d}"
    if asked.field is RunOrderField.NUMBER:
        return Sort(name, Run.number, Run.id, asked.descending, kind="int")
    return Sort(name, Run.created_at, Run.id, asked.descending)


def kept(viewer: Viewer, wanted: RunFilter | None = None) -> Rows:
    """The runs a viewer may see, those of deleted experiments too: edges still lead to them."""
    return select(Run.__table__).where(visible(viewer), *((wanted or EVERY).conditions()))


def runs(viewer: Viewer, wanted: RunFilter | None = None) -> Rows:
    """The runs that lists and look-ups by id find."""
    return kept(viewer, wanted).join(Experiment, Experiment.id == Run.experiment_id).where(Experiment.deleted_at.is_(None))


by_id = rows_by_key(kept, Run.id)
live_by_id = rows_by_key(runs, Run.id)
of_job = rows_by_key(kept, Run.job_id, "job_id")


@dataclass(frozen=True, slots=True)
class Best:
    """A batch: the run of each experiment whose last value of the metric is greatest (or least, not `descending`).

    It is the run that leads the experiment's list in that order. Experiments without a finite value are left out.
    """

    metric: str
    descending: bool

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        wanted = func.unnest(literal(list(keys), ARRAY(Uuid))).table_valued("id", name="wanted").render_derived()
        value, tie = (RunMetric.last.desc(), Run.id.desc()) if self.descending else (RunMetric.last.asc(), Run.id.asc())
        leader = (
            kept(viewer)
            .join(RunMetric, (RunMetric.run_id == Run.id) & (RunMetric.key == self.metric))
            .where(Run.experiment_id == wanted.c.id, finite(RunMetric.last))
            .order_by(value, tie)
            .limit(1)
            .lateral("leader")
        )
        rows = await database.rows(select(*leader.c).select_from(wanted.join(leader, true())))
        return {row.experiment_id: row for row in rows}
