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
from db.core.policy import visible
from db.core.sql import Rows, equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import Experiment, Run, RunMetric
from db.tables.experiments import RunStatus

INFINITY = literal_column("'infinity'::float8", Double)


def is_finite(value: Any) -> ColumnElement[bool]:
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
        condition = exists().where(metric.run_id == Run.id, metric.key == self.key, is_finite(metric.last))
        if self.gte is not None:
            condition = condition.where(metric.last >= self.gte)
        if self.lte is not None:
            condition = condition.where(metric.last <= self.lte)
        return condition


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
        candidates = [path] if len(path) == 1 else [path, [self.key]]
        if self.one_of is None:
            return or_(*(self._value_at(candidate).is_not(None) for candidate in candidates))
        return or_(
            *(self._equals(candidate, orjson.loads(value)) for value in self.one_of for candidate in candidates), literal(value=False)
        )

    @staticmethod
    def _value_at(path: list[str]) -> ColumnElement[Any]:
        return func.jsonb_extract_path(Run.hyperparameters, *path, type_=JSONB)

    def _equals(self, path: list[str], value: Any) -> ColumnElement[bool]:
        """Containment, which the GIN index answers, and equality, because {"a": [1, 2]} contains {"a": [1]}."""
        document = value
        for name in reversed(path):
            document = {name: document}
        contains = Run.hyperparameters.op("@>", is_comparison=True)(bindparam(None, document, type_=JSONB, unique=True))
        equals = self._value_at(path).op("=", is_comparison=True)(bindparam(None, value, type_=JSONB, unique=True))
        return contains & equals


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
            yield equals_any(Run.status, self.status)
        if self.created_at is not None:
            yield from self.created_at.conditions(Run.created_at)
        if self.owner_id is not None:
            yield Run.owner_id == self.owner_id
        for bound in self.metrics:
            yield bound.condition()
        for parameter in self.parameters:
            yield parameter.condition()


NO_FILTER = RunFilter()


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
    effective = order or RunOrder()
    name = f"{effective.field}.{effective.descending:d}"
    if effective.field is RunOrderField.NUMBER:
        return Sort(name, Run.number, Run.id, effective.descending, kind="int")
    return Sort(name, Run.created_at, Run.id, effective.descending)


def with_deleted(viewer: Viewer, criteria: RunFilter | None = None) -> Rows:
    """The runs a viewer may see, those of deleted experiments too: edges still lead to them."""
    return select(Run.__table__).where(visible(Run, viewer), *((criteria or NO_FILTER).conditions()))


def runs(viewer: Viewer, criteria: RunFilter | None = None) -> Rows:
    """The runs that lists and look-ups by id find."""
    return with_deleted(viewer, criteria).join(Experiment, Experiment.id == Run.experiment_id).where(Experiment.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Run.id)
live_by_id = rows_by_key(runs, Run.id)
of_job = rows_by_key(with_deleted, Run.job_id, "job_id")


@dataclass(frozen=True, slots=True)
class BestRuns:
    """A batch: the run of each experiment whose last value of the metric is greatest (or least, not `descending`).

    It is the run that leads the experiment's list in that order. Experiments without a finite value are left out.
    """

    metric: str
    descending: bool

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        experiment_ids = func.unnest(literal(list(keys), ARRAY(Uuid))).table_valued("id", name="wanted").render_derived()
        value, tie = (RunMetric.last.desc(), Run.id.desc()) if self.descending else (RunMetric.last.asc(), Run.id.asc())
        leader = (
            with_deleted(viewer)
            .join(RunMetric, (RunMetric.run_id == Run.id) & (RunMetric.key == self.metric))
            .where(Run.experiment_id == experiment_ids.c.id, is_finite(RunMetric.last))
            .order_by(value, tie)
            .limit(1)
            .lateral("leader")
        )
        rows = await database.rows(select(*leader.c).select_from(experiment_ids.join(leader, true())))
        return {row.experiment_id: row for row in rows}
