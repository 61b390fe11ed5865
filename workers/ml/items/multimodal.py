"""A table whose cells name files of its archive: each named file is an item, and its features are columns of the table.

What the table has stays as it is, with the types that it would have if it had been uploaded alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson
import polars as pl
import pyarrow.parquet as pq

from workers.ml import limits as table_limits
from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.archive import Member, UnreadableMember, member_blocks
from workers.ml.items.mixed_kind import MixedKind
from workers.ml.items.paths import clean_name, resolver, split_folder, stem_of, suffix_of
from workers.ml.items.places import FILED_FIELDS, Place
from workers.ml.items.reading import Archive, ItemsResult, Progress, check_readable, items_result, open_archive, read_item
from workers.ml.items.records import Item, Items
from workers.ml.parquet_writer import ParquetSink
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.opening import open_reader
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile

TABLES: Final = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".xls"})
_FIRST: Final = ("metadata", "manifest", "labels", "index", "data", "table", "train")
_MIN_NAMING_SHARE: Final = 0.5
"""A column names files if at least this share of its cells do; the other cells are files that are missing."""
_BATCH_ROWS: Final = 5_000
_MAX_PASSES: Final = 5
_TABLE_SHARE, _ITEMS_SHARE = 0.3, 0.9  # of the progress, when the table is read and when the items are

Resolve = Callable[[Any], str | None]


class Joined(NamedTuple):
    format: str
    items: Items
    result: ItemsResult
    rows: int


@dataclass(slots=True)
class _Table:
    """The table as Parquet, and what its columns of files name; `features` and `texts` are the columns that each gives, known once it is read."""

    member: Member
    path: Path
    types: dict[str, str]
    rows: int
    issues: IssueLog
    resolve: Resolve
    columns: list[str] = field(default_factory=list[str])
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    used_by: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    names: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    """What cells call each file: its path, or that from the table's folder, or its name with a slash before it, whatever folder a cell says."""
    features: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    texts: dict[str, dict[str, None]] = field(default_factory=dict[str, dict[str, None]])
    offsets: dict[str, int] = field(default_factory=dict[str, int])
    """Of the lines of the readable items."""


def read_joined(
    raw: RawFile, filename: str, folder: Path, target: Path, options: ReadingOptions, rate: float | None, progress: Progress
) -> Joined:
    """Write the items to `folder`, and the table with their features to `target`.

    Raises BadInput: see `workers.ml.items.reading` and the readers of tables, and NO_FILE_COLUMN.
    """
    issues = IssueLog()
    pack = folder / "items.pack"
    progress = _rising(progress)
    archive = open_archive(raw, filename, pack, progress)
    if archive is None:
        raise BadInput(
            "UNSUPPORTED_FORMAT",
            f"{filename!r} is no archive. Pack a table and the files that its cells name as .zip, .tar, .tar.gz or .tar.zst.",
        )
    kind = MixedKind(rate)
    with ExitStack() as files, Items(folder / "items.jsonl", folder / "items.previews", issues) as items:
        file = files.enter_context(archive.path.open("rb"))
        table = _find_table(archive, file, filename, folder, options, issues, progress)
        members = [member for member in archive.members if member.path in table.used_by]
        _read_items(members, file, table, items, kind, progress)
        items.finish()
        check_readable(items, filename, kind)
        with items.path.open("rb") as lines:
            _write(table, lines, target, items.issues, progress)
    table.path.unlink()
    return Joined(archive.format, items, items_result(items, pack, kind), table.rows)


def _rising(progress: Progress) -> Progress:
    """A table may be read in several passes, and several tables may be tried."""
    highest = 0.0

    def report(share: float, step: str) -> None:
        nonlocal highest
        highest = max(highest, share)
        progress(highest, step)

    return report


def _find_table(
    archive: Archive, file: IO[bytes], filename: str, folder: Path, options: ReadingOptions, issues: IssueLog, progress: Progress
) -> _Table:
    """The first table near the top with a column that names files."""
    candidates = _candidates(archive.members)
    if not candidates:
        raise BadInput(
            "NO_FILE_COLUMN",
            f"{filename!r} has no table at its top. Add one ({', '.join(sorted(TABLES))}) with a column of the paths of the other files.",
        )
    error: BadInput | None = None
    for candidate in candidates:
        try:
            table = _read_table(candidate, file, archive.members, folder, options, progress)
        except BadInput as refusal:
            error = error or refusal
            continue
        if _find_columns(table):
            _report_rest(archive.members, table, issues)
            return table
    if error is not None and len(candidates) == 1:
        raise error
    names = ", ".join(short_repr(candidate.path) for candidate in candidates[:3])
    raise BadInput(
        "NO_FILE_COLUMN",
        f"No column of {names} in {filename!r} names files of the archive. Name them by their path from the table's folder, such as images/1.png.",
    )


def _candidates(members: Iterable[Member]) -> list[Member]:
    tables = [member for member in members if suffix_of(member.path) in TABLES and not split_folder(member.path.split("/")[:-1])[1]]
    tables.sort(key=lambda member: (stem_of(member.path) not in _FIRST, -member.size))
    return tables[: limits.MAX_MANIFEST_CANDIDATES]


def _read_table(
    member: Member, file: IO[bytes], members: Iterable[Member], folder: Path, options: ReadingOptions, progress: Progress
) -> _Table:
    """Read one table as if it had been uploaded alone."""
    inner = folder / "table"
    inner.mkdir(exist_ok=True)
    name = member.path.rpartition("/")[2]
    source, target = inner / "raw", inner / "table.parquet"
    try:
        with source.open("wb") as out:
            out.writelines(member_blocks(file, member))
    except UnreadableMember as error:
        raise BadInput("UNREADABLE_FILE", f"{short_repr(member.path)} cannot be read: it {error}. Pack it again.") from error

    def report(share: float, step: str) -> None:
        progress(_TABLE_SHARE * share, step)

    _, reader = open_reader(RawFile(source), name, report, options)
    for _ in range(_MAX_PASSES):
        with ParquetSink(target) as sink:
            for frame in reader.frames():
                sink.write(frame)
            is_done = not reader.needs_another_pass()
            if is_done:
                sink.close(reader.column_types())
        if is_done:
            break
    else:
        raise RuntimeError(f"column types still changed after {_MAX_PASSES} passes")
    source.unlink()
    others = [other for other in members if other is not member]
    return _Table(member, target, reader.column_types(), sink.row_count, reader.issues, resolver(member, others))


def _find_columns(table: _Table) -> bool:
    """Find the columns of files, and what each file is named by first."""
    texts = [name for name, kind in table.types.items() if kind == "STRING"]
    cells, named = dict.fromkeys(texts, 0), dict.fromkeys(texts, 0)
    for frame in _frames(table.path, texts):
        for name in texts:
            values = frame[name].drop_nulls()
            cells[name] += len(values)
            named[name] += sum(table.resolve(value) is not None for value in values)
    table.columns = [name for name in texts if named[name] and named[name] >= _MIN_NAMING_SHARE * cells[name]]
    if not table.columns:
        return False
    filed = [name for name in table.types if name.strip().lower() in FILED_FIELDS and name not in table.columns]
    number = 0
    for frame in _frames(table.path, [*table.columns, *filed]):
        for row in frame.iter_rows(named=True):
            number += 1
            for column in table.columns:
                _use(table, column, number, row, filed)
    return True


def _use(table: _Table, column: str, number: int, row: Mapping[str, Any], filed: Iterable[str]) -> None:
    value = row[column]
    path = table.resolve(value)
    if path is None:
        if value is not None:
            message = f"Row {number:,} names {short_repr(value)} in the column {column!r}, and the archive has no such file."
            table.issues.add("MISSING_FILE", message, column=column, row=number)
        return
    name = clean_name(value)
    is_path = path in (name, _from_folder(table.member, name))
    table.names.setdefault(path, {})[name if is_path else f"/{name.rpartition('/')[2]}"] = None
    columns = table.used_by.setdefault(path, [])
    if column not in columns:
        columns.append(column)
    if path not in table.places:
        place = table.places[path] = Place(metadata={"column": column, "row": number})
        place.fill({name: row[name] for name in filed if isinstance(row[name], str | int | float | bool)})


def _from_folder(table: Member, name: str) -> str:
    return f"{table.path.rpartition('/')[0]}/{name}".removeprefix("/")


def _report_rest(members: Iterable[Member], table: _Table, issues: IssueLog) -> None:
    issues.extend(table.issues)
    unnamed = [member.path for member in members if member is not table.member and member.path not in table.used_by]
    if unnamed:
        issues.add(
            "UNNAMED_FILES",
            f"{len(unnamed):,} files are in no row of {short_repr(table.member.path)}, first {short_repr(unnamed[0])}; they are no items.",
        )


def _read_items(members: list[Member], file: IO[bytes], table: _Table, items: Items, kind: MixedKind, progress: Progress) -> None:
    total = sum(member.stored_size for member in members) or 1
    done = 0
    for number, member in enumerate(members, 1):
        item, preview = read_item(file, member, table.places[member.path], kind)
        names = list(table.names[member.path])
        if item["info"] is not None and names != [item["key"]]:
            item["info"]["names"] = names
        offset = items.add(item, preview)
        if item["info"] is not None:
            table.offsets[member.path] = offset
            for column in table.used_by[member.path]:
                names = dict.fromkeys(name for name, value in item["features"].items() if value is not None)
                table.features[column] = table.features.get(column, {}) | names
                table.texts[column] = table.texts.get(column, {}) | dict.fromkeys(item["texts"])
        done += member.stored_size
        if number % 20 == 0 or number == len(members):
            share = _TABLE_SHARE + (_ITEMS_SHARE - _TABLE_SHARE) * done / total
            progress(share, f"Read files: {number:,} of {len(members):,}")


class _Column(NamedTuple):
    """A column that files give the table: the `part` of their line, "texts" or "features", and the name there."""

    name: str
    source: str
    part: str
    key: str


def _new_columns(table: _Table, issues: IssueLog) -> list[_Column]:
    used = set(table.types)
    columns: list[_Column] = []
    for source in table.columns:
        for part, keys in (("texts", table.texts.get(source, {})), ("features", table.features.get(source, {}))):
            for key in keys:
                name = plain = f"{source[: table_limits.MAX_NAME_LENGTH // 2]}_{key}"[: table_limits.MAX_NAME_LENGTH]
                number = 1
                while name in used:
                    number += 1
                    name = f"{plain}_{number}"
                used.add(name)
                columns.append(_Column(name, source, part, key))
    room = table_limits.MAX_COLUMNS - len(table.types)
    if len(columns) > room:
        issues.add("TOO_MANY_FEATURES", f"The files have {len(columns):,} features; the table has the first {room:,} of them.")
    return columns[:room]


def _write(table: _Table, lines: IO[bytes], target: Path, issues: IssueLog, progress: Progress) -> None:
    """Write the table with the features of the files, whose lines are read where a row names them: they are never in memory together."""
    columns = _new_columns(table, issues)
    number = 0
    with ParquetSink(target) as sink:
        for frame in _frames(table.path):
            added: dict[str, list[Any]] = {column.name: [] for column in columns}
            for row in frame.select(table.columns).iter_rows(named=True):
                items = {column: _item(table, lines, value) for column, value in row.items()}
                for column in columns:
                    item: Any = items[column.source]
                    added[column.name].append(None if item is None else item[column.part].get(column.key))
            series = [
                pl.Series(column.name, added[column.name], pl.String if column.part == "texts" else pl.Float64, strict=False)
                for column in columns
            ]
            sink.write(frame.with_columns(series))
            number += frame.height
            progress(_ITEMS_SHARE + (1 - _ITEMS_SHARE) * number / table.rows, f"Join: {number:,} of {table.rows:,} rows")
        sink.close(table.types | {column.name: "STRING" if column.part == "texts" else "FLOAT" for column in columns})


def _item(table: _Table, lines: IO[bytes], value: Any) -> Item | None:
    path = table.resolve(value)
    if path is None or (offset := table.offsets.get(path)) is None:
        return None
    lines.seek(offset)
    return orjson.loads(lines.readline())


def _frames(path: Path, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
            frame = pl.from_arrow(batch)
            assert isinstance(frame, pl.DataFrame)
            yield frame
