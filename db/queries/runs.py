"""Queries of runs: lists narrowed by columns, parameters and metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, cast
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Double, Row, Text, Uuid, and_, bindparam, exists, func, literal, literal_column, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import aliased

from db.core.batch import rows_by_key
from db.core.criteria import AllOf, Filters, OneOf
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.annotations import AnnotationMatch
from db.queries.tags import has_tags
from db.tables import Experiment, Run, RunMetric, RunParameter, Tagging

_POSITION = re.compile(r"\s*[+-]?\d+")  # what PostgreSQL takes for a position in an array
INFINITY = literal_column("'infinity'::float8", Double)


def is_finite(value: Any) -> ColumnElement[bool]:
    """Whether a value is neither NaN nor infinite nor null. PostgreSQL sorts NaN above infinity, so an index can serve this one range."""
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
    """A hyperparameter equals one value of each of `sets`, and is a number within the bounds; without either: it is there.

    Dots in the key lead into objects. The values are kept as JSON text, so that equal questions are equal values; `of` makes one.
    """

    key: str
    sets: tuple[tuple[bytes, ...], ...] = ()
    gte: float | None = None
    lte: float | None = None

    @classmethod
    def of(cls, key: str, *sets: Sequence[Any], gte: float | None = None, lte: float | None = None) -> ParameterMatch:
        """Raises `TypeError` for a value that is no JSON or an integer beyond 64 bits."""
        return cls(key, tuple(tuple(orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values) for values in sets), gte, lte)

    @property
    def is_bounded(self) -> bool:
        return self.gte is not None or self.lte is not None

    def condition(self) -> ColumnElement[bool]:
        if not self.is_bounded:
            return self._matches()
        parameter = aliased(RunParameter)
        within = exists().where(parameter.run_id == Run.id, parameter.key == self.key, is_finite(parameter.number))
        if self.gte is not None:
            within = within.where(parameter.number >= self.gte)
        if self.lte is not None:
            within = within.where(parameter.number <= self.lte)
        return within & self._matches() if self.sets else within

    def _matches(self) -> ColumnElement[bool]:
        path = self.key.split(".")
        # A key with dots may also be a key of the top level.
        candidates = [path] if len(path) == 1 else [path, [self.key]]
        if not self.sets:
            return or_(*(self._has(candidate) for candidate in candidates))
        return and_(
            *(
                or_(*(self._equals(candidate, orjson.loads(value)) for value in values for candidate in candidates), literal(value=False))
                for values in self.sets
            )
        )

    def _has(self, path: list[str]) -> ColumnElement[bool]:
        """The path is there, and so is, as an index knows, its beginning that cannot lead into an array. Of one name the index knows all."""
        in_objects = list(takewhile(lambda name: _POSITION.fullmatch(name) is None, path))
        is_there = self._value_at(path).is_not(None)
        if not in_objects:
            return is_there
        is_indexed = Run.hyperparameter_paths.contains(bindparam(None, [".".join(in_objects)], type_=ARRAY(Text), unique=True))
        return is_indexed if in_objects == path == path[0].split(".") else is_indexed & is_there

    @staticmethod
    def _value_at(path: list[str]) -> ColumnElement[Any]:
        return func.jsonb_extract_path(Run.hyperparameters, *path, type_=JSONB)

    def _equals(self, path: list[str], value: Any) -> ColumnElement[bool]:
        """Containment, which the GIN index serves, and equality, since {"a": [1, 2]} contains {"a": [1]}."""
        document = value
        for name in reversed(path):
            document = {name: document}
        contains = Run.hyperparameters.op("@>", is_comparison=True)(bindparam(None, document, type_=JSONB, unique=True))
        equals = self._value_at(path).op("=", is_comparison=True)(bindparam(None, value, type_=JSONB, unique=True))
        return contains & equals


def _all_conditions(condition: AllOf | OneOf) -> Iterator[ColumnElement[bool]]:
    """Of a list of `MetricBound` or `ParameterMatch`. An empty list, which does not tell what it is of, has none."""
    items = condition.items if isinstance(condition, AllOf) else ()
    for item in cast("tuple[MetricBound | ParameterMatch, ...]", items):
        yield item.condition()


def _annotated(condition: AllOf | OneOf) -> Iterator[ColumnElement[bool]]:
    items = condition.items if isinstance(condition, AllOf) else ()
    for item in cast("tuple[AnnotationMatch, ...]", items):
        yield item.condition(Run.annotations)


FILTERS = Filters(
    Run,
    metrics=_all_conditions,
    parameters=_all_conditions,
    conditions=_all_conditions,
    annotations=_annotated,
    tags=has_tags(Tagging.run_id, Run.id),
)


_COLUMNS = (
    *(
        column
        for column in Run.__table__.c
        if column.name not in {"hyperparameter_paths", "duration", "architecture", "error", "last_written_at"}
    ),
    Run.architecture.label("network"),
    Run.error.label("failure"),
)


def with_deleted(viewer: Viewer) -> Rows:
    """The runs a viewer may see, deleted ones and those of deleted experiments included, since edges still lead to them."""
    return select(*_COLUMNS).where(visible(Run, viewer))


def not_deleted(viewer: Viewer) -> Rows:
    """The runs that lists under an experiment or a model version have, which may be deleted themselves."""
    return with_deleted(viewer).where(Run.deleted_at.is_(None))


def runs(viewer: Viewer) -> Rows:
    """The runs that lists and lookups by id find: those not deleted, nor their experiment."""
    return not_deleted(viewer).join(Experiment, Experiment.id == Run.experiment_id).where(Experiment.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Run.id)
live_by_id = rows_by_key(runs, Run.id)
of_job = rows_by_key(with_deleted, Run.job_id)


def _leaders(viewer: Viewer, *, descending: bool) -> Rows:
    """The first run of each experiment's list by a metric."""
    experiment_ids = func.unnest(bindparam("experiment_ids", type_=ARRAY(Uuid))).table_valued("id", name="experiment_ids").render_derived()
    value, tie = (RunMetric.last.desc(), Run.id.desc()) if descending else (RunMetric.last.asc(), Run.id.asc())
    leader = (
        not_deleted(viewer)
        .join(RunMetric, (RunMetric.run_id == Run.id) & (RunMetric.key == bindparam("metric", type_=Text)))
        .where(Run.experiment_id == experiment_ids.c.id, is_finite(RunMetric.last))
        .order_by(value, tie)
        .limit(1)
        .lateral("leader")
    )
    return select(*leader.c).select_from(experiment_ids.join(leader, true()))


_GREATEST = PreparedRows(lambda viewer: _leaders(viewer, descending=True), "experiment_ids", "metric")
_LEAST = PreparedRows(lambda viewer: _leaders(viewer, descending=False), "experiment_ids", "metric")


@dataclass(frozen=True, slots=True)
class BestRuns:
    """A batch: the run of each experiment whose last value of the metric is greatest (or least, not `descending`).

    It is the first run of the experiment's list in that order. Experiments without a finite value are left out.
    """

    metric: str
    descending: bool

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        read = _GREATEST if self.descending else _LEAST
        return {row.experiment_id: row for row in await read(database, viewer, experiment_ids=keys, metric=self.metric)}
