"""Runs side by side: which hyperparameters and which results differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import orjson
from sqlalchemy import Row

from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import metrics, runs
from db.queries.goals import Goal, goal_of

MAX_RUNS = 20


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value per run, None where a run lacks the key or has null there; `differs` tells these two apart."""

    key: str
    values: Sequence[Any]
    differs: bool


@dataclass(frozen=True, slots=True)
class Metric:
    """One last value per run, None where it is not finite, and the indexes of the first least and the first greatest value."""

    key: str
    values: Sequence[float | None]
    differs: bool
    min_index: int | None
    max_index: int | None

    @property
    def goal(self) -> Goal | None:
        return goal_of(self.key)

    @property
    def best_index(self) -> int | None:
        """The index of the first best value; None if the metric's goal is not known."""
        return None if self.goal is None else self.max_index if self.goal is Goal.MAXIMIZE else self.min_index


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows of the runs in the requested order; parameters and metrics by key."""

    runs: Sequence[Row[Any]]
    parameters: Sequence[Parameter]
    metrics: Sequence[Metric]


async def compare(database: Database, viewer: Viewer, keys: Sequence[UUID]) -> Comparison | None:
    """None where the viewer cannot see one of the runs. Two statements for any number of runs."""
    runs_by_id = await runs.live_by_id(database, viewer, keys)
    if any(key not in runs_by_id for key in keys):
        return None
    summaries = await metrics.summaries(database, viewer, keys)
    return Comparison(
        [runs_by_id[key] for key in keys],
        _parameters([dict(flatten(runs_by_id[key].hyperparameters)) for key in keys]),
        _metrics([{row.key: row.last for row in summaries[key]} for key in keys]),
    )


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested objects under keys joined by dots, as `RunFilter.parameters` takes them; lists and empty objects are leaves."""
    if isinstance(value, Mapping) and (value or not prefix):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, value


def _parameters(columns: Sequence[Mapping[str, Any]]) -> list[Parameter]:
    compared: list[Parameter] = []
    for key in sorted({key for column in columns for key in column}):
        distinct_values = {_canonical(column[key]) if key in column else b"" for column in columns}
        compared.append(Parameter(key, [column.get(key) for column in columns], len(distinct_values) > 1))
    return compared


def _canonical(value: Any) -> bytes:
    """Equal for values that are equal as JSON: 1 and 1.0 are, 1 and true are not; the order of keys does not matter."""

    def normalise(item: Any) -> Any:
        if isinstance(item, float) and item.is_integer() and abs(item) < 2**53:
            return int(item)
        if isinstance(item, Mapping):
            return {key: normalise(inner) for key, inner in cast("Mapping[str, Any]", item).items()}
        if isinstance(item, list):
            return [normalise(inner) for inner in cast("list[Any]", item)]
        return item

    return orjson.dumps(normalise(value), option=orjson.OPT_SORT_KEYS)


def _metrics(columns: Sequence[Mapping[str, float | None]]) -> list[Metric]:
    compared: list[Metric] = []
    for key in sorted({key for column in columns for key in column}):
        values = [_finite_or_none(column.get(key)) for column in columns]
        present = [value for value in values if value is not None]
        compared.append(
            Metric(
                key,
                values,
                len(set(values)) > 1,
                values.index(min(present)) if present else None,
                values.index(max(present)) if present else None,
            )
        )
    return compared


def _finite_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
