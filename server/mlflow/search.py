"""The compilation of MLflow's filters and orders to those of lists of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from db.core.criteria import AllOf, Criteria, OneOf
from db.core.criteria import Order as ColumnOrder
from db.queries.run_conditions import AnnotationComparison, ColumnComparison, MetricComparison, ParameterComparison, RunCondition
from db.queries.run_orders import ByColumn, ByMetric, ByParameter, RunKey, RunOrder
from db.queries.runs import MetricBound
from graph.core.ids import filter_id
from server.mlflow.errors import invalid
from server.mlflow.grammar import LISTED, NUMERIC, PRESENT, TEXTUAL, Clause, Comparator, Entity, OrderKey, parse_filter, parse_order
from server.mlflow.values import TO_STATUS, moment, stored

_ATTRIBUTES: Mapping[str, str] = {
    "run_id": "id",
    "run_name": "name",
    "run name": "name",
    "Run name": "name",
    "Run Name": "name",
    "status": "status",
    "start_time": "started_at",
    "created": "started_at",
    "Created": "started_at",
    "end_time": "completed_at",
}
_TIMES = frozenset({"started_at", "completed_at"})
_MAX_ORDER_KEYS = 2
RUN_NAME = "mlflow.runName"
PARENT = "mlflow.parentRunId"


def criteria(filter_string: str | None, **more: Any) -> Criteria:
    """The criteria of a filter and these. Raises `MlflowError`."""
    clauses = parse_filter(filter_string)
    bounds = [bound for clause in clauses if (bound := _bound(clause)) is not None]
    others = [_condition(clause) for clause in clauses if _bound(clause) is None]
    return Criteria.of(metrics=AllOf(tuple(bounds)) if bounds else None, conditions=AllOf(tuple(others)) if others else None, **more)


def _bound(clause: Clause) -> MetricBound | None:
    """A clause that an index on metrics serves; None for another one."""
    if clause.entity is not Entity.METRIC or not isinstance(clause.value, float):
        return None
    value = clause.value
    match clause.comparator:
        case Comparator.GE:
            return MetricBound(clause.key, gte=value)
        case Comparator.LE:
            return MetricBound(clause.key, lte=value)
        case Comparator.GT:
            return MetricBound(clause.key, gte=math.nextafter(value, math.inf))
        case Comparator.LT:
            return MetricBound(clause.key, lte=math.nextafter(value, -math.inf))
        case Comparator.EQ:
            return MetricBound(clause.key, gte=value, lte=value)
        case _:
            return None


def _condition(clause: Clause) -> RunCondition:
    match clause.entity:
        case Entity.METRIC:
            _require(clause, NUMERIC)
            if not isinstance(clause.value, float):
                raise invalid(f"Expected numeric value type for metric. Found {clause.value!r}")
            return MetricComparison(clause.key, clause.comparator, clause.value)
        case Entity.PARAMETER:
            _require(clause, TEXTUAL | PRESENT)
            return ParameterComparison(clause.key, clause.comparator, _parameter(clause))
        case Entity.TAG:
            _require(clause, TEXTUAL | PRESENT)
            value = None if clause.comparator in PRESENT else _text(clause)
            if clause.key == RUN_NAME and value is not None:
                return ColumnComparison("name", clause.comparator, value)
            return AnnotationComparison(clause.key, clause.comparator, value)
        case Entity.ATTRIBUTE:
            return _attribute(clause)
        case Entity.DATASET:
            raise invalid("Runs are not filtered by datasets here. `runs(filter: {datasetVersionId: …})` of the graph does it.")


def _attribute(clause: Clause) -> RunCondition:
    column = _ATTRIBUTES.get(clause.key)
    if column is None:
        raise invalid(f"Invalid attribute key '{clause.key}' specified. Valid keys are {sorted(_ATTRIBUTES)}")
    if column in _TIMES:
        _require(clause, NUMERIC)
        if not isinstance(clause.value, float):
            raise invalid(f"Expected numeric value type for numeric attribute: {clause.key}. Found {clause.value!r}")
        return ColumnComparison(column, clause.comparator, moment(int(clause.value), clause.key))
    _require(clause, LISTED if column == "id" else TEXTUAL)
    if column == "id":
        if clause.comparator in {Comparator.LIKE, Comparator.ILIKE}:
            raise invalid("run_id is compared by =, !=, IN and NOT IN alone.")
        values = clause.value if isinstance(clause.value, tuple) else (_text(clause),)
        is_in = clause.comparator in {Comparator.EQ, Comparator.IN}
        return ColumnComparison("id", "IN" if is_in else "NOT IN", tuple(filter_id("run", value) for value in values))
    text = _text(clause)
    if column == "status":
        matching = _statuses(clause.comparator, text)
        return ColumnComparison("status", "IN", matching)
    return ColumnComparison(column, clause.comparator, text)


def _statuses(comparator: Comparator, text: str) -> tuple[Any, ...]:
    if comparator not in {Comparator.EQ, Comparator.NE}:
        raise invalid("status is compared by = and != alone.")
    return tuple(status for name, status in TO_STATUS.items() if (name == text) is (comparator is Comparator.EQ))


def _parameter(clause: Clause) -> str | float | None:
    """The value that a parameter is compared with: a number where it is kept as one."""
    if clause.comparator in PRESENT:
        return None
    text = _text(clause)
    if clause.comparator not in {Comparator.EQ, Comparator.NE}:
        return text
    value = stored(text)
    return text if isinstance(value, str) else float(value)


def _text(clause: Clause) -> str:
    if not isinstance(clause.value, str):
        raise invalid(f"Expected a quoted string value for {clause.entity} {clause.key} (e.g. 'my-value'). Got value {clause.value!r}")
    return clause.value


def _require(clause: Clause, comparators: frozenset[Comparator]) -> None:
    if clause.comparator not in comparators:
        raise invalid(f"Invalid comparator '{clause.comparator}' not one of {sorted(map(str, comparators))}")


def order(texts: Sequence[str]) -> ColumnOrder | RunOrder:
    """The order of a list of runs: newest start first by default. Raises `MlflowError` for keys that lists cannot be ordered by."""
    keys = [parse_order(text) for text in texts]
    while len(keys) > 1 and keys[-1].entity is Entity.ATTRIBUTE and keys[-1].key == "run_id":
        keys.pop()  # which sorts ties anyway
    if not keys:
        return RunOrder(ByColumn("started_at"))
    if len(keys) > _MAX_ORDER_KEYS or len({key.descending for key in keys}) > 1:
        raise invalid("Runs are ordered by one key, or by two in the same direction, such as metrics.loss DESC, start_time DESC.")
    first, *rest = (_key(key) for key in keys)
    if isinstance(first, ByColumn) and not first.is_nullable and not rest:
        return ColumnOrder(first.name, keys[0].descending)
    return RunOrder(first, keys[0].descending, rest[0] if rest else None)


def _key(key: OrderKey) -> RunKey:
    if key.entity is Entity.METRIC:
        return ByMetric(key.key)
    if key.entity is Entity.PARAMETER:
        return ByParameter(key.key)
    column = _ATTRIBUTES.get(key.key) if key.entity is Entity.ATTRIBUTE else "name" if key.key == RUN_NAME else None
    if column in _TIMES or column == "name":
        return ByColumn(str(column))
    raise invalid(f"Runs cannot be ordered by {key.entity}.{key.key}. Metrics, params, start_time, end_time and run_name are possible.")


def experiments(keys: Sequence[Any]) -> OneOf | None:
    """The condition that a run is in one of these experiments."""
    return OneOf(tuple(keys)) if keys else None
