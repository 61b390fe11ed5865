"""Which rows belong to which part of a dataset, by a column that names it, and files of a part with a limited number of rows each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from workers.ml.errors import BadInput
from workers.ml.exports.source import Rows

SPLIT_COLUMN = "split"
STANDARD = ("train", "validation", "test")
UNASSIGNED = "unassigned"
MAX_SPLITS = 20
MAX_SHARDS = 500  # an export lists all its files at once
MAX_SPLIT_NAME = 80  # characters of a value in names of files, which have 255 bytes at most


@dataclass(frozen=True)
class Splits:
    """`column` names the part of a row, None if all rows are one part; `names` has the name of each value in use, `counts` the rows by name."""

    column: str | None
    names: Mapping[str | None, str]
    counts: Mapping[str, int]

    def parts(self, frame: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
        """The rows of each part, in their order, without the column."""
        if self.column is None:
            (name,) = self.counts
            return [(name, frame)]
        value = pl.col(self.column).cast(pl.String)
        parts = [(name, frame.filter(value.eq_missing(pl.lit(key, pl.String))).drop(self.column)) for key, name in self.names.items()]
        return [(name, part) for name, part in parts if part.height]


def find_splits(rows: Rows, column: str | None, target: str | None) -> Splits:
    """Read the parts of the rows. Without a `column`, one called split is used if each of its values is train, validation or test; never the target.

    Raises BadInput (TOO_MANY_SPLITS).
    """
    everything = Splits(None, {}, {STANDARD[0]: rows.count})
    chosen = SPLIT_COLUMN if column is None and SPLIT_COLUMN in rows.types and target != SPLIT_COLUMN else column
    if chosen is None or not rows.count:
        return everything
    counts: dict[str | None, int] = {}
    for frame in rows.scan([chosen]):
        for value, count in frame.select(pl.col(chosen).cast(pl.String).value_counts()).unnest(chosen).iter_rows():
            counts[value] = counts.get(value, 0) + count
        if len(counts) > MAX_SPLITS:
            if column is None:
                return everything
            raise BadInput(
                "TOO_MANY_SPLITS",
                f"The column {chosen!r} has more than {MAX_SPLITS} values, and each would be a part of the data. Name another `splitColumn`.",
                column=chosen,
            )
    if column is None and not counts.keys() <= set(STANDARD):
        return everything
    names: dict[str | None, str] = {}
    for value in sorted(counts, key=_order):
        name = UNASSIGNED if value is None else re.sub(r"\W+", "_", value, flags=re.ASCII).strip("_")[:MAX_SPLIT_NAME] or "part"
        names[value] = (
            name if name not in names.values() else next(f"{name}_{i}" for i in range(2, 99) if f"{name}_{i}" not in names.values())
        )
    return Splits(chosen, names, {names[value]: counts[value] for value in names})


def _order(value: str | None) -> tuple[int, str]:
    return (STANDARD.index(value) if value in STANDARD else len(STANDARD), value or "")


class ShardWriter(Protocol):
    def write(self, frame: pl.DataFrame) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Shard:
    """A file with some rows of a part. `name` is like train-00000-of-00003, without an extension."""

    name: str
    split: str
    path: Path
    rows: int


def write_shards(rows: Rows, splits: Splits, limit: int, folder: Path, open_writer: Callable[[Path], ShardWriter]) -> list[Shard]:
    """Write the rows of each part to files of at most `limit` rows. A part without rows has one file, too.

    Raises BadInput (TOO_MANY_FILES).
    """
    shards: dict[str, list[Shard]] = {}
    files = sum(max(1, -(-count // limit)) for count in splits.counts.values())
    if files > MAX_SHARDS:
        message = f"The rows would be {files:,} files of {limit:,} rows; the maximum is {MAX_SHARDS:,}. Choose a higher `shardRows`."
        raise BadInput("TOO_MANY_FILES", message)
    for split, count in splits.counts.items():
        total = max(1, -(-count // limit))
        shards[split] = [
            Shard(name := f"{split}-{i:05}-of-{total:05}", split, folder / name, min(limit, count - i * limit)) for i in range(total)
        ]
    with ExitStack() as stack:
        writers: dict[str, ShardWriter] = {}
        positions = dict.fromkeys(shards, 0)

        def close_all() -> None:
            for writer in writers.values():
                writer.close()

        stack.callback(close_all)
        for frame in rows.frames():
            for split, part in splits.parts(frame):
                rest = part
                while rest.height:
                    number, used = divmod(positions[split], limit)
                    if not used:
                        if split in writers:
                            writers.pop(split).close()
                        writers[split] = open_writer(shards[split][number].path)
                    now, rest = rest[: limit - used], rest[limit - used :]
                    writers[split].write(now)
                    positions[split] += now.height
    if not rows.count:
        open_writer(shards[STANDARD[0]][0].path).close()
    return [shard for of_split in shards.values() for shard in of_split]
