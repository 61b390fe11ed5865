"""The body of COMPARE jobs: the rows of two tables are compared by a key.

The rows are divided into parts by a hash of their keys, equal keys into one part, and the parts are compared one after another. So
the memory does not grow with the tables.
"""

from __future__ import annotations

from typing import Any, TypedDict

import polars as pl

from workers.ml.errors import BadInput
from workers.ml.json_values import json_value
from workers.ml.reporting import Reporter

SAMPLES = 100  # rows of each kind that are told
SAMPLE_COLUMNS = 30  # columns of a row that are told
SAMPLE_TEXT = 200  # characters of a cell that are told
PART_CELLS = 8_000_000  # of both tables that are compared at once
_HERE, _THERE = "\x00from", "\x00to"  # no name of a column has NUL


class VersionSpec(TypedDict):
    """A table, the number of its version, and its columns as {name, type}."""

    parquet: str
    number: int
    columns: list[dict[str, Any]]


Spec = TypedDict("Spec", {"from": VersionSpec, "to": VersionSpec, "key": list[str]})


def compare_rows(spec: Spec, reporter: Reporter) -> dict[str, Any]:
    """Return {key, rowsFrom, rowsTo, added, removed, changed, unchanged, changedByColumn, columnsAdded, columnsRemoved, typesChanged, samples}.

    `samples` has {added, removed, changed}, the first ones by their keys. Two missing values are equal, and so are two that are NaN. A column whose type changed is
    compared as numbers if both types are numbers, else as texts. Raises BadInput DUPLICATE_KEY for rows of one version with equal keys.
    """
    sides = {"from": pl.scan_parquet(spec["from"]["parquet"]), "to": pl.scan_parquet(spec["to"]["parquet"])}
    schemas = {name: side.collect_schema() for name, side in sides.items()}
    rows = {name: int(side.select(pl.len()).collect().item()) for name, side in sides.items()}
    key = spec["key"]
    common = [name for name in schemas["from"] if name in schemas["to"] and name not in key]
    casts = {name: _common_type(schemas["from"][name], schemas["to"][name]) for name in [*key, *common]}
    sides = {name: side.with_columns(pl.col(column).cast(type_) for column, type_ in casts.items()) for name, side in sides.items()}
    types = [{column["name"]: column["type"] for column in spec[side]["columns"]} for side in ("from", "to")]
    tally = _Tally(key, common)
    cells = rows["from"] * len(schemas["from"]) + rows["to"] * len(schemas["to"])
    parts = max(1, -(-cells // PART_CELLS))
    for part in range(parts):
        frames = {name: _part(side, key, part, parts) for name, side in sides.items()}
        for side, frame in frames.items():
            _require_unique(frame, key, spec["from" if side == "from" else "to"]["number"])
        tally.add(frames["from"], frames["to"])
        reporter.progress(100 * (part + 1) / parts, f"Compare rows: part {part + 1} of {parts}")
    return {
        "key": key,
        "rowsFrom": rows["from"],
        "rowsTo": rows["to"],
        "added": tally.added,
        "removed": tally.removed,
        "changed": tally.changed,
        "unchanged": rows["to"] - tally.added - tally.changed,
        "changedByColumn": {name: count for name, count in tally.by_column.items() if count},
        "columnsAdded": [name for name in schemas["to"] if name not in schemas["from"]],
        "columnsRemoved": [name for name in schemas["from"] if name not in schemas["to"]],
        "typesChanged": [name for name in common if types[0].get(name) != types[1].get(name)],
        "samples": tally.samples(),
    }


def _common_type(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """The type in which the values of both are compared."""
    if one == other and not isinstance(one, pl.Categorical | pl.Enum):
        return one
    if isinstance(one, pl.Decimal) and isinstance(other, pl.Decimal):
        return pl.Decimal(38, max(one.scale, other.scale))
    if one.is_integer() and other.is_integer():
        return pl.Int64()
    return pl.Float64() if one.is_numeric() and other.is_numeric() else pl.String()


def _part(side: pl.LazyFrame, key: list[str], part: int, parts: int) -> pl.DataFrame:
    """The rows whose keys are of this part."""
    if parts > 1:
        side = side.filter(pl.struct(key).hash(seed=0) % parts == part)
    return side.collect(engine="streaming")


def _require_unique(frame: pl.DataFrame, key: list[str], number: int) -> None:
    is_repeated = frame.select(pl.struct(key).is_duplicated()).to_series()
    if is_repeated.any():
        example = frame.filter(is_repeated).select(key).sort(key).row(0, named=True)
        values = ", ".join(f"{name} = {json_value(value, 50)}" for name, value in example.items())
        message = (
            f"Version {number} has several rows with the same key, such as {values}, so it cannot be said which of them became which."
            " Name further columns in `key`, so that each row has a key of its own."
        )
        raise BadInput("DUPLICATE_KEY", message, column=key[0])


class _Tally:
    """Counts and samples of the parts that were compared."""

    def __init__(self, key: list[str], columns: list[str]) -> None:
        self._key, self._columns = key, columns
        self.added = self.removed = self.changed = 0
        self.by_column = dict.fromkeys(columns, 0)
        self._added: list[dict[str, Any]] = []
        self._removed: list[dict[str, Any]] = []
        self._changed: list[dict[str, Any]] = []

    def add(self, before: pl.DataFrame, after: pl.DataFrame) -> None:
        key = self._key
        added, removed = (one.join(other, on=key, how="anti", nulls_equal=True) for one, other in ((after, before), (before, after)))
        self.added += added.height
        self.removed += removed.height
        self._added = self._first(self._added, added)
        self._removed = self._first(self._removed, removed)
        before_names = {name: f"{_HERE}{name}" for name in self._columns}
        both = before.select(*key, *(pl.col(name).alias(alias) for name, alias in before_names.items())).join(
            after.select(*key, *self._columns), on=key, how="inner", nulls_equal=True
        )
        differs = [pl.col(alias).ne_missing(pl.col(name)).alias(f"{_THERE}{name}") for name, alias in before_names.items()]
        both = both.with_columns(differs)
        flags = [f"{_THERE}{name}" for name in self._columns]
        if not flags:
            return
        for name, count in zip(self._columns, both.select(pl.col(flags).sum()).row(0), strict=True):
            self.by_column[name] += count or 0
        changed = both.filter(pl.any_horizontal(flags))
        self.changed += changed.height
        self._changed = self._first(self._changed, changed)

    def _first(self, kept: list[dict[str, Any]], frame: pl.DataFrame) -> list[dict[str, Any]]:
        """The first rows by their keys of those that are kept and those of a part."""
        first = frame.sort(self._key, nulls_last=True).head(SAMPLES)
        if not kept:
            return first.to_dicts()
        joined = pl.concat([pl.DataFrame(kept, schema=frame.schema), first])
        return joined.sort(self._key, nulls_last=True).head(SAMPLES).to_dicts()

    def samples(self) -> dict[str, list[dict[str, Any]]]:
        return {
            "added": [self._told(row) for row in self._added],
            "removed": [self._told(row) for row in self._removed],
            "changed": [self._told_change(row) for row in self._changed],
        }

    def _told(self, row: dict[str, Any]) -> dict[str, Any]:
        names = [*self._key, *(name for name in row if name not in self._key)][: max(SAMPLE_COLUMNS, len(self._key))]
        return {name: json_value(row[name], SAMPLE_TEXT) for name in names}

    def _told_change(self, row: dict[str, Any]) -> dict[str, Any]:
        changed = [name for name in self._columns if row[f"{_THERE}{name}"]]
        return {
            "key": {name: json_value(row[name], SAMPLE_TEXT) for name in self._key},
            "columns": {
                name: {"from": json_value(row[f"{_HERE}{name}"], SAMPLE_TEXT), "to": json_value(row[name], SAMPLE_TEXT)}
                for name in changed[:SAMPLE_COLUMNS]
            },
            "changedColumns": len(changed),
        }
