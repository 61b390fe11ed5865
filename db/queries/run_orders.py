"""What lists of runs are ordered by: a column, the last value of a metric, or a hyperparameter that is a number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Double,
    Integer,
    Interval,
    Text,
    Uuid,
    bindparam,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from db.core.page import Lead
from db.core.sql import Column, Rows
from db.queries.runs import is_finite
from db.tables import Run, RunMetric, RunParameter

Kind = Literal["time", "text", "int", "float"]


@dataclass(frozen=True, slots=True)
class ByColumn:
    """A column of the run."""

    name: str

    @property
    def label(self) -> str:
        return self.name

    @property
    def argument(self) -> None:
        return None

    @property
    def is_nullable(self) -> bool:
        return bool(self._column.property.columns[0].nullable)

    @property
    def _column(self) -> Any:
        return getattr(Run, self.name)

    @property
    def value(self) -> Column:
        return func.lower(self._column, type_=Text) if isinstance(self._column.type, Text) else self._column

    @property
    def row_key(self) -> Column:
        return Run.id

    @property
    def kind(self) -> Kind:
        kinds: tuple[tuple[Any, Kind], ...] = ((Text, "text"), (DateTime, "time"), (Integer, "int"), (Double, "float"))
        return next(kind for type_, kind in kinds if isinstance(self._column.type, type_))

    def ranked(self, rows: Rows, experiment_id: Column | None, key: ColumnElement[str]) -> Rows:  # noqa: ARG002 - one signature for all
        # The expression of the index, which from its end begins with the runs without a value.
        return rows.where(self.value.is_not(None)) if self.is_nullable else rows

    def unranked(self, rows: Rows, key: ColumnElement[str]) -> Rows:  # noqa: ARG002 - one signature for all
        return rows.where(self.value.is_(None))

    def as_json(self) -> ColumnElement[Any]:
        return func.to_jsonb(_comparable(self.value, self.kind))


@dataclass(frozen=True, slots=True)
class _Numbered(ABC):
    """A number that a run has under a key in another table."""

    key: str
    table: ClassVar[Any]

    @property
    def argument(self) -> str:
        return self.key

    @property
    @abstractmethod
    def value(self) -> Column: ...

    @property
    def row_key(self) -> Column:
        return self.table.run_id

    @property
    def is_nullable(self) -> bool:
        return True

    @property
    def kind(self) -> Kind:
        return "float"

    def is_ranked(self, run_id: Column, key: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a run has a value that is finite."""
        return exists().where(self._has_value(run_id, key))

    def unranked(self, rows: Rows, key: ColumnElement[str]) -> Rows:
        return rows.where(~self.is_ranked(Run.id, key))

    def unmatched(self, rows: Rows, key: ColumnElement[str]) -> Rows:
        """The same rows as `unranked`, by an outer join."""
        return rows.outerjoin(self.table, self._has_value(Run.id, key)).where(self.row_key.is_(None))

    @property
    def unmatched_id(self) -> ColumnElement[UUID]:
        """The ids of these rows as an expression of both sides, by which PostgreSQL cannot sort before it has joined."""
        return func.least(Run.id, self.row_key, type_=Uuid())

    def _has_value(self, run_id: Column, key: ColumnElement[str]) -> ColumnElement[bool]:
        return (self.row_key == run_id) & (self.table.key == key) & is_finite(self.value)


@dataclass(frozen=True, slots=True)
class ByMetric(_Numbered):
    """The last value of a metric, if it is finite."""

    table = RunMetric

    @property
    def label(self) -> str:
        return "metric"

    @property
    def value(self) -> Column:
        return RunMetric.last

    def ranked(self, rows: Rows, experiment_id: Column | None, key: ColumnElement[str]) -> Rows:
        has_metric = (RunMetric.run_id == Run.id) & (RunMetric.key == key)
        if experiment_id is not None:  # an index has the runs of an experiment in the order of a metric
            has_metric &= RunMetric.experiment_id == experiment_id
        return rows.join(RunMetric, has_metric).where(is_finite(RunMetric.last))

    def as_json(self) -> ColumnElement[Any]:
        metric = aliased(RunMetric)
        value = select(func.to_jsonb(metric.last)).where(metric.run_id == Run.id, metric.key == _text(self.key), is_finite(metric.last))
        return value.correlate(Run).scalar_subquery()


@dataclass(frozen=True, slots=True)
class ByParameter(_Numbered):
    """A hyperparameter, if it is a number; ties are sorted by its text, too."""

    table = RunParameter

    @property
    def label(self) -> str:
        return "parameter"

    @property
    def value(self) -> Column:
        return RunParameter.number

    def ranked(self, rows: Rows, experiment_id: Column | None, key: ColumnElement[str]) -> Rows:  # noqa: ARG002 - one signature for all
        has_parameter = (RunParameter.run_id == Run.id) & (RunParameter.key == key)
        return rows.join(RunParameter, has_parameter).where(is_finite(RunParameter.number))

    def as_json(self) -> ColumnElement[Any]:
        parameter = aliased(RunParameter)
        value = func.coalesce(func.to_jsonb(parameter.number), func.to_jsonb(func.lower(parameter.text)))
        return select(value).where(parameter.run_id == Run.id, parameter.key == _text(self.key)).correlate(Run).scalar_subquery()


RunKey = ByColumn | ByMetric | ByParameter


@dataclass(frozen=True, slots=True)
class RunOrder:
    """By a key, then, among runs with equal values of it, by another in the same direction. Runs without a value come last, in the order of their ids."""

    by: RunKey
    descending: bool = True
    then: RunKey | None = None

    @property
    def name(self) -> str:
        """In cursors, which outlive a release."""
        name = f"{self.by.label}.{self.descending:d}" + (f".{self.by.argument}" if self.by.argument is not None else "")
        return name if self.then is None else f"{name} {self.then.label}.{self.then.argument or ''}"

    def refined(self) -> tuple[ColumnElement[Any], Lead]:
        """The sort value where ties are sorted: a JSON array of the first value and the second one, of which PostgreSQL compares the elements.

        Where there is no second value stands what sorts last: null in descending order; true in ascending order, which is greater than numbers and texts.
        """
        assert self.then is not None
        last = literal_column("'null'::jsonb" if self.descending else "'true'::jsonb", JSONB)
        second = func.coalesce(self.then.as_json(), last)
        pair = func.jsonb_build_array(_comparable(self.by.value, self.by.kind), second, type_=JSONB)
        return pair, Lead(self.by.value, self.by.kind, partial(_first_of, self.by.kind))


def _text(value: str) -> ColumnElement[str]:
    return bindparam(None, value, type_=Text, unique=True)


_MICROSECONDS = 1_000_000


def _comparable(value: Column, kind: Kind) -> Any:
    """The value as JSON has it: of a time, its microseconds."""
    return sql_cast(func.extract("epoch", value) * _MICROSECONDS, BigInteger) if kind == "time" else value


def _first_of(kind: Kind, pair: ColumnElement[Any]) -> ColumnElement[Any]:
    """The first value of a pair, as the column has it."""
    text = func.jsonb_array_element_text(pair, 0, type_=Text)
    if kind == "time":
        epoch = literal_column("timestamptz 'epoch'", DateTime(timezone=True))
        return epoch + sql_cast(text, BigInteger) * literal_column("interval '1 microsecond'", Interval)
    types: dict[Kind, Any] = {"text": Text, "int": Integer, "float": Double}
    return sql_cast(text, types[kind])
