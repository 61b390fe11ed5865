"""The body of EXPORT_LIST jobs: it makes a table of the rows of a list, which the worker has read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.exports.export import write_table
from workers.ml.exports.parquet import OWN_COMPRESSION
from workers.ml.exports.source import ExportResult, Rows, TableSpec
from workers.ml.reporting import ProgressReporter, Reporter

GROUP_ROWS = 32_768
EXACT = 2**53  # integers up to here are exact as floating-point numbers
_INT64 = 2**63


class ListedColumnSpec(TypedDict):
    """A column, and its ColumnType; None if the values tell it."""

    name: str
    type: str | None


class ListSpec(TableSpec):
    """`lines` is a file of JSON lines, an array of cells for each row, and `count` how many there are."""

    lines: str
    count: int
    columns: list[ListedColumnSpec]
    folder: str


def export_list(spec: ListSpec, reporter: Reporter) -> ExportResult:
    """Write the rows in the format of the spec."""
    lines, folder = Path(spec["lines"]), Path(spec["folder"])
    types = _types(spec, lines, reporter)
    parquet = folder / "rows.parquet"
    _write(lines, parquet, types, spec["count"], reporter)
    lines.unlink()  # the disk holds the rows twice, not three times
    rows = Rows(parquet, types, _Rest(reporter))
    return {"files": [write_table(spec, rows, folder)], "rows": rows.count}


class _Rest:
    """The second half of a body's progress."""

    def __init__(self, reporter: ProgressReporter) -> None:
        self._reporter = reporter

    def progress(self, percent: float, step: str) -> None:
        self._reporter.progress(50 + percent / 2, step)


def _batches(lines: Path) -> Iterator[list[list[Any]]]:
    with lines.open("rb") as file:
        while batch := [orjson.loads(line) for line in islice(file, GROUP_ROWS)]:
            yield batch


def _types(spec: ListSpec, lines: Path, reporter: ProgressReporter) -> dict[str, str]:
    """The ColumnType of each column. Where the values tell it: that of all of them, FLOAT of integers and others, and JSON of values of several kinds."""
    kinds: dict[int, set[str]] = {position: set() for position, column in enumerate(spec["columns"]) if column["type"] is None}
    if kinds:
        done = 0
        for batch in _batches(lines):
            for position, seen in kinds.items():
                seen.update({kind_of(row[position]) for row in batch})
            done += len(batch)
            reporter.progress(20 * done / max(spec["count"], 1), "Find the types of the columns")
    return {
        column["name"]: column["type"] if column["type"] is not None else common_type(kinds[position] - {"null"})
        for position, column in enumerate(spec["columns"])
    }


def kind_of(value: Any) -> str:
    """The ColumnType of a value; LARGE of an integer that no floating-point number is, null of None."""
    match value:
        case None:
            return "null"
        case bool():
            return "BOOLEAN"
        case int():
            return "INTEGER" if abs(value) <= EXACT else "LARGE" if abs(value) < _INT64 else "JSON"
        case float():
            return "FLOAT"
        case str():
            return "STRING"
        case _:
            return "JSON"


def common_type(kinds: set[str]) -> str:
    """The ColumnType of values of these kinds, without null."""
    if not kinds:
        return "STRING"
    if kinds <= {"INTEGER", "LARGE"}:
        return "INTEGER"
    if kinds <= {"INTEGER", "FLOAT"}:
        return "FLOAT"
    return kinds.pop() if len(kinds) == 1 else "JSON"


def _as_time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _as_json(value: Any) -> str:
    return orjson.dumps(value).decode()


_ARROW: dict[str, tuple[pa.DataType, Callable[[Any], Any] | None]] = {
    "STRING": (pa.string(), None),
    "INTEGER": (pa.int64(), None),
    "FLOAT": (pa.float64(), float),
    "BOOLEAN": (pa.bool_(), None),
    "DATETIME": (pa.timestamp("us", "UTC"), _as_time),
    "JSON": (pa.string(), _as_json),
}
"""The types in the Parquet file, and how cells become values of them."""


def _write(lines: Path, path: Path, types: dict[str, str], count: int, reporter: ProgressReporter) -> None:
    schema = pa.schema([(name, _ARROW[type_][0]) for name, type_ in types.items()])
    converters = [_ARROW[type_][1] for type_ in types.values()]
    done = 0
    with pq.ParquetWriter(path, schema, compression=OWN_COMPRESSION) as writer:
        for batch in _batches(lines):
            columns = zip(*batch, strict=True)
            arrays = [
                pa.array([None if cell is None else cell if convert is None else convert(cell) for cell in cells], type_)
                for cells, convert, type_ in zip(columns, converters, schema.types, strict=True)
            ]
            writer.write_table(pa.table(arrays, schema=schema))
            done += len(batch)
            reporter.progress(20 + 30 * done / max(count, 1), f"Make a table: {done:,} of {count:,}")
