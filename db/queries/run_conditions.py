"""Comparisons of runs with texts and numbers beyond what the filters of lists have: patterns, inequality and lists."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Double, Text, bindparam, cast, exists, func, literal_column, not_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from db.core.sql import equals_any
from db.tables import Run, RunMetric, RunParameter

Comparison = Callable[[Any, Any], ColumnElement[bool]]

COMPARISONS: Mapping[str, Comparison] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "LIKE": lambda column, pattern: column.like(pattern),
    "ILIKE": lambda column, pattern: column.ilike(pattern),
    "IN": equals_any,
    "NOT IN": lambda column, values: not_(equals_any(column, values)),
}
_NAN = literal_column("'NaN'::float8", Double)


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """The run has the metric, and its last value, which is not NaN, compares so."""

    key: str
    comparator: str
    value: float

    def condition(self) -> ColumnElement[bool]:
        metric = aliased(RunMetric)
        holds = COMPARISONS[self.comparator](metric.last, self.value)
        return exists().where(metric.run_id == Run.id, metric.key == self.key, metric.last != _NAN, holds)


@dataclass(frozen=True, slots=True)
class ParameterComparison:
    """The run has the parameter, and its value compares so: a number by value, anything else by its text. Without a value: it has it, or has it not."""

    key: str
    comparator: str
    value: str | float | None

    def condition(self) -> ColumnElement[bool]:
        parameter = aliased(RunParameter)
        has = exists().where(parameter.run_id == Run.id, parameter.key == self.key)
        if self.value is None:
            return has if self.comparator == "IS NOT NULL" else not_(has)
        if isinstance(self.value, float):
            equals = parameter.number == self.value
            return has.where(equals if self.comparator == "=" else func.coalesce(not_(equals), literal_column("true")))
        # The texts of numbers as PostgreSQL writes them are those of Python, but for exponents.
        text = func.coalesce(parameter.text, cast(parameter.number, Text))
        return has.where(COMPARISONS[self.comparator](text, self.value))


@dataclass(frozen=True, slots=True)
class AnnotationComparison:
    """The run has the annotation, and its text compares so. Without a value: it has it, or has it not."""

    key: str
    comparator: str
    value: str | None

    def condition(self) -> ColumnElement[bool]:
        has = Run.annotations.has_key(bindparam(None, self.key, type_=Text, unique=True))
        if self.value is None:
            return has if self.comparator == "IS NOT NULL" else not_(has)
        if self.comparator == "=":  # which an index serves
            return Run.annotations.contains(bindparam(None, {self.key: self.value}, type_=JSONB, unique=True))
        text = Run.annotations.op("->>", return_type=Text())(bindparam(None, self.key, type_=Text, unique=True))
        return has & COMPARISONS[self.comparator](text, self.value)


@dataclass(frozen=True, slots=True)
class ColumnComparison:
    """A column of the run, by its name, compares so; what it does not have, it does not compare."""

    column: str
    comparator: str
    value: Any

    def condition(self) -> ColumnElement[bool]:
        return COMPARISONS[self.comparator](getattr(Run, self.column), self.value)


RunCondition = MetricComparison | ParameterComparison | AnnotationComparison | ColumnComparison
