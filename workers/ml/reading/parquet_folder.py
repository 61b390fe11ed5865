"""A table as a folder of Parquet files by split in a ZIP archive: what `datasets.load_dataset` of Hugging Face reads, as an export has it.

The files are read one after another, in the order of train, validation, test and others; a column says the split. Columns of the feature ClassLabel have the
names of the classes in place of their numbers. https://huggingface.co/docs/hub/datasets-file-names-and-splits
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.archive import Member, UnreadableMember, member_blocks, zip_members
from workers.ml.items.parquet_metadata import PARQUET, shard_name
from workers.ml.items.zip_directory import BadDirectory, entries, find_directory
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.parquet_files import ParquetPart
from workers.ml.reading.raw import RawFile
from workers.ml.split_names import SPLITS
from workers.ml.table_parts import TableParts

MAX_PARTS: Final = 1_000
_SPLIT_COLUMN: Final = "split"
_ORDER: Final = ("train", "validation", "test")
_ARROW_TYPES: Final = {"INTEGER": pa.int64(), "FLOAT": pa.float64(), "BOOLEAN": pa.bool_(), "DATE": pa.date32()}


@dataclass(frozen=True, slots=True)
class ParquetFolder:
    """`types` are the ColumnTypes that an export recorded; empty for a folder of another program."""

    parts: Sequence[ParquetPart]
    types: Mapping[str, str]
    issues: IssueLog


def has_parquet_files(path: Path) -> bool:
    """Whether the directory of a ZIP archive lists Parquet files; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            directory = find_directory(file, path.stat().st_size)
            if directory.count > limits.MAX_MEMBERS or directory.size > limits.MAX_DIRECTORY_BYTES:
                return False
            return any(entry.name.lower().endswith(PARQUET) for entry in entries(file, directory))
    except BadDirectory:
        return False


def open_folder(raw: RawFile, filename: str, folder: Path) -> ParquetFolder:
    """Unpack the Parquet files into `folder`, under names of our own, and return how they make a table.

    Raises BadInput: those of `zip_members`, UNREADABLE_FILE, TOO_MANY_FILES, SEVERAL_TABLES, UNKNOWN_SPLIT; Arrow's errors for a damaged footer.
    """
    members = zip_members(raw.path, filename)
    files = [member for member in members if member.path.lower().endswith(PARQUET)]
    if len(files) > MAX_PARTS:
        raise BadInput("TOO_MANY_FILES", f"{filename!r} has {len(files):,} Parquet files; the maximum is {MAX_PARTS:,}. Write larger ones.")
    issues = IssueLog()
    if len(files) < len(members):
        skipped = next(member.path for member in members if member not in files)
        text = f"{len(members) - len(files):,} files of the archive are not read, first {short_repr(skipped)}: they are no Parquet files."
        issues.add("SKIPPED_FILES", text)
    files.sort(key=lambda member: (*_rank(_split_of(member.path)), member.path))
    _check_folders(files, filename)
    unpacked = _unpack(raw.path, files, filename, folder)
    recorded = TableParts.of(_metadata(unpacked[0]))
    parts = [
        ParquetPart(path, member.path, _shape(path, member, recorded, is_split=len({_split_of(file.path) for file in files}) > 1))
        for path, member in zip(unpacked, files, strict=True)
    ]
    return ParquetFolder(parts, {} if recorded is None else recorded.columns, issues)


def _split_of(path: str) -> str | None:
    """By the name of the file, as `data/train-00000-of-00002.parquet` or `train.parquet`, or by a folder."""
    *folders, name = path.split("/")
    shard = shard_name(name)
    if shard is not None:
        return SPLITS.get(shard.lower(), shard)
    known = (SPLITS.get(each.lower()) for each in (name.rpartition(".")[0], *reversed(folders)))
    return next((split for split in known if split is not None), None)


def _rank(split: str | None) -> tuple[int, str]:
    return (_ORDER.index(split) if split in _ORDER else len(_ORDER), split or "")


def _check_folders(files: Sequence[Member], filename: str) -> None:
    """Raises BadInput (UNKNOWN_SPLIT, SEVERAL_TABLES)."""
    folders: dict[str | None, set[str]] = {}
    for member in files:
        folders.setdefault(_split_of(member.path), set()).add(member.path.rpartition("/")[0])
    if None in folders and len(folders) > 1:
        unknown = next(member.path for member in files if _split_of(member.path) is None)
        raise BadInput(
            "UNKNOWN_SPLIT",
            f"The split of {short_repr(unknown)} in {filename!r} is not known, and that of other files is. Name it like data/train-00000-of-00001.parquet.",
        )
    for split, places in folders.items():
        if len(places) > 1:
            first, second = sorted(places)[:2]
            of_split = "" if split is None else f" of the split {split!r}"
            raise BadInput(
                "SEVERAL_TABLES",
                f"{filename!r} has Parquet files{of_split} in several folders, such as {first or '/'!r} and {second!r}, which are several tables. "
                "Upload each as a dataset of its own.",
            )


def _unpack(path: Path, files: Sequence[Member], filename: str, folder: Path) -> list[Path]:
    """What they unpack to is within the limits, as that of all members."""
    unpacked: list[Path] = []
    with path.open("rb") as archive:
        for number, member in enumerate(files):
            target = folder / f"part-{number:05}{PARQUET}"
            try:
                with target.open("wb") as out:
                    out.writelines(member_blocks(archive, member))
            except UnreadableMember as error:
                message = f"{short_repr(member.path)} in {filename!r} {error}. Pack and upload it again."
                raise BadInput("UNREADABLE_FILE", message) from error
            unpacked.append(target)
    return unpacked


def _metadata(path: Path) -> Mapping[bytes, bytes]:
    return pq.read_schema(path).metadata or {}


@dataclass(frozen=True, slots=True)
class _Shape:
    """Makes the table's columns of those of a file. `classes` has the names of the classes by the position of their column."""

    path: str
    classes: Mapping[int, pa.Array]
    split_column: str | None
    split: pa.Array
    """Its one value."""
    order: Sequence[int]

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns, names = list(batch.columns), list(batch.schema.names)
        for index, values in self.classes.items():
            columns[index] = _repeated(values, self._codes(columns[index], names[index], len(values)))
        if self.split_column is not None:
            columns.append(_repeated(self.split, pa.array(np.zeros(batch.num_rows, np.int32))))
            names.append(self.split_column)
        return pa.RecordBatch.from_arrays([columns[index] for index in self.order], names=[names[index] for index in self.order])

    def _codes(self, codes: pa.Array, name: str, count: int) -> pa.Array:
        """-1 is a missing one: https://huggingface.co/docs/datasets/about_dataset_features. Raises BadInput (UNKNOWN_CLASS)."""
        codes = pc.if_else(pc.equal(codes, pa.scalar(-1, codes.type)), pa.scalar(None, codes.type), codes)
        extremes = pc.min_max(codes).as_py()
        for code in extremes.values():
            if code is not None and not 0 <= code < count:
                message = f"Column {name!r} of {self.path!r} has the class {code}, and the features of the file name {count:,}, from 0."
                raise BadInput("UNKNOWN_CLASS", f"{message} Correct the features or the values.", column=name)
        return codes.cast(pa.int32())


def _repeated(values: pa.Array, codes: pa.Array) -> pa.Array:
    """The value of each code. Texts stay a dictionary, which is measured before it is repeated."""
    return pa.DictionaryArray.from_arrays(codes, values) if pa.types.is_string(values.type) else pc.take(values, codes)


def _shape(path: Path, member: Member, recorded: TableParts | None, *, is_split: bool) -> _Shape:
    schema = pq.read_schema(path)
    names = list(schema.names)
    types = {} if recorded is None else recorded.columns
    classes = {
        index: _typed(values, types.get(name))
        for index, (name, kind) in enumerate(zip(names, schema.types, strict=True))
        if pa.types.is_integer(kind) and (values := _class_names(schema.metadata or {}, name)) is not None
    }
    column, split = (_SPLIT_COLUMN if is_split else None), _split_of(member.path)
    if recorded is not None:
        column = recorded.split_column
        split = recorded.splits.get(shard_name(member.path.rpartition("/")[2]) or "", split)
    elif column is not None and column in names:
        column = next(each for i in range(1, len(names) + 2) if (each := f"{_SPLIT_COLUMN}_{i}") not in names)
    order = [*range(len(names) + (column is not None))]
    if column is not None:
        names.append(column)
    if len(set(names)) == len(names) and types.keys() >= set(names):
        places = {name: place for place, name in enumerate(types)}
        order.sort(key=lambda index: places[names[index]])
    return _Shape(member.path, classes, column, _typed([split], types.get(column or "")), order)


def _typed(values: Sequence[str | None], column_type: str | None) -> pa.Array:
    """As texts, where the values are not of the type that was recorded."""
    texts = pa.array(values, pa.string())
    try:
        return texts.cast(_ARROW_TYPES.get(column_type or "", pa.string()))
    except pa.ArrowException:
        return texts


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str] | None:
    """The classes of a column, as the features in the metadata have them; None if it is no ClassLabel."""
    try:
        features: Any = json.loads(metadata.get(b"huggingface", b"null"))["info"]["features"][column]
        names = features["names"] if features["_type"] == "ClassLabel" else None
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        return None
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
