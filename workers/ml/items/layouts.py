"""What the folders and tables of an archive say of its items: label, split, severity and further fields.

In this order: a metadata file as Hugging Face's `datasets` reads it (`metadata.csv` with `file_name`, one per split or one for all), a manifest (a table
with a column that names the files), class folders (`[split/]label/[severity/]file`), plain files. A table that names the files is explicit, so it
counts for more than folders.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from workers.ml.items import limits
from workers.ml.items.archive import SPLITS, Member
from workers.ml.reading.issues import IssueLog, short_repr

_TABLES: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
_MANIFEST_NAMES: Final = ("metadata", "manifest", "labels", "annotations", "index", "train", "validation", "test", "files")
_LABEL_FIELDS: Final = ("label", "class", "category", "target", "y", "class_name", "class_label")
_SPLIT_FIELDS: Final = ("split", "subset", "partition", "fold")
_SEVERITY_FIELDS: Final = ("severity", "severity_level", "level")
_GROUP_FIELDS: Final = ("group", "group_id", "recording", "recording_id", "subject", "subject_id", "patient", "patient_id")
_GENERIC_FOLDERS: Final = frozenset({
    "data", "files", "raw", "samples", "images", "image", "img", "imgs", "signals", "signal", "csv", "audio", "recordings", "clips", "wav", "mp3",
    "texts", "text", "txt", "documents",
})  # fmt: skip
_CELLS: Final = 4_000_000  # cells of a manifest that are read

Read = Callable[[Member], bytes]


@dataclass(slots=True)
class Place:
    """What is known of an item before it is read."""

    label: str | None = None
    split: str | None = None
    severity: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])


def group_of(metadata: Mapping[str, Any]) -> str | None:
    """What the item is a part of, such as a recording or a patient: parts of one are alike, so they belong into one split."""
    fields = {name.strip().lower(): value for name, value in metadata.items()}
    for name in _GROUP_FIELDS:
        if isinstance(value := fields.get(name), str | int) and not isinstance(value, bool):
            return str(value)[: limits.MAX_LABEL_LENGTH]
    return None


@dataclass(slots=True)
class Layout:
    """`items` are the data files in the order of the archive."""

    name: str
    items: list[tuple[Member, Place]]


def recognise(members: Sequence[Member], suffixes: frozenset[str], read: Read, issues: IssueLog, kind: str) -> Layout:
    """Tell items by their extension, and what is known of them; `kind` is what they are called in messages, such as "images"."""
    found = _by_manifest(members, suffixes, read, issues)
    if found is not None:
        return found
    data = [member for member in members if _suffix(member.path) in suffixes]
    _report_skipped([member for member in members if _suffix(member.path) not in suffixes], issues, kind)
    return _by_folders(data)


def _by_folders(data: Sequence[Member]) -> Layout:
    split_folders = [_split_folder(member.path.split("/")[:-1]) for member in data]
    depths = {len(folders) for _, folders in split_folders}
    names = {folders[0].lower() for _, folders in split_folders if folders}
    # One folder of all files, or one called `images`, is no class.
    has_classes = bool(depths) and min(depths) >= 1 and max(depths) <= 2 and (len(names) > 1 or not names <= _GENERIC_FOLDERS)
    has_severities = has_classes and depths == {2}
    if has_classes and len(depths) > 1:  # label/file beside label/folder/file: the deeper folders say something else
        has_severities = False
    items = [
        (
            member,
            Place(
                label=folders[0] if has_classes else None,
                split=split,
                severity=folders[1] if has_severities else None,
            ),
        )
        for member, (split, folders) in zip(data, split_folders, strict=True)
    ]
    return Layout("class folders" if has_classes else "plain files", items)


def _split_folder(folders: list[str]) -> tuple[str | None, list[str]]:
    """The split that the first folder, or the last, is named for, and the other folders."""
    for index in (0, len(folders) - 1):
        if folders and (split := SPLITS.get(folders[index].lower())) is not None:
            return split, folders[:index] + folders[index + 1 :]
    return None, folders


def _by_manifest(members: Sequence[Member], suffixes: frozenset[str], read: Read, issues: IssueLog) -> Layout | None:
    candidates = _candidates(members)
    metadata = [member for member in candidates if _stem(member.path) == "metadata"]
    if metadata:
        others = [member for member in members if member not in metadata and _suffix(member.path) in suffixes]
        tables = [(member, _rows(member, read, issues)) for member in metadata]
        if others and all(rows and "file_name" in rows[0] for _, rows in tables):
            places = _places([(member, rows, "file_name") for member, rows in tables], others, issues)
            return Layout("metadata", [(member, places[member.path]) for member in others])
    for candidate in candidates:
        others = [member for member in members if member is not candidate and _suffix(member.path) in suffixes]
        rows = _rows(candidate, read, issues) if others else []
        column = _naming_column(rows, candidate, others)
        if column is not None:
            places = _places([(candidate, rows, column)], others, issues)
            skipped = [member for member in members if member is not candidate and _suffix(member.path) not in suffixes]
            _report_skipped(skipped, issues, "items")
            return Layout("manifest", [(member, places[member.path]) for member in others])
    return None


def _candidates(members: Sequence[Member]) -> list[Member]:
    """Tables near the top; where there are many, only those with the name of a manifest."""
    tables = [
        member
        for member in members
        if _suffix(member.path) in _TABLES
        and member.size <= limits.MAX_MANIFEST_BYTES
        and len(_split_folder(member.path.split("/")[:-1])[1]) == 0
    ]
    named = [member for member in tables if _stem(member.path) in _MANIFEST_NAMES]
    if len(tables) > limits.MAX_MANIFEST_CANDIDATES:
        return named[: limits.MAX_MANIFEST_CANDIDATES]
    return named + [member for member in tables if member not in named]


def _rows(member: Member, read: Read, issues: IssueLog) -> list[dict[str, Any]]:
    """The rows of a table as objects; none where it is none, since a table of a signal's samples may have any form."""
    try:
        text = read(member).decode("utf-8-sig")
    except (UnicodeDecodeError, ValueError):
        return []
    try:
        if _suffix(member.path) in (".jsonl", ".ndjson"):
            rows = [orjson.loads(line) for line in text.splitlines() if line.strip()]
            return [row for row in rows if isinstance(row, dict)] if all(isinstance(row, dict) for row in rows) else []
        return _delimited_rows(text, member, issues)
    except (csv.Error, orjson.JSONDecodeError):
        return []


def _delimited_rows(text: str, member: Member, issues: IssueLog) -> list[dict[str, Any]]:
    first = text.partition("\n")[0]
    delimiter = "\t" if _suffix(member.path) == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header = next(reader, [])
    if not header or len(set(header)) < len(header) or len(header) > limits.MAX_METADATA_FIELDS:
        return []
    rows: list[dict[str, Any]] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            return []
        rows.append({name: cell for name, cell in zip(header, cells, strict=True) if cell != ""})
        if len(rows) * len(header) > _CELLS:
            issues.add(
                "MANIFEST_CUT", f"{short_repr(member.path)} has more rows than are read: what comes after row {len(rows):,} is left out."
            )
            break
    return rows


def _naming_column(rows: Sequence[Mapping[str, Any]], table: Member, others: Sequence[Member]) -> str | None:
    """The column whose values name nearly all of the other files."""
    if not rows or not others:
        return None
    resolve = _resolver(table, others)
    for column in rows[0]:
        named = {resolve(row.get(column)) for row in rows} - {None}
        if len(named) >= limits.MIN_NAMED_SHARE * len(others):
            return column
    return None


def _resolver(table: Member, others: Iterable[Member]) -> Callable[[Any], str | None]:
    """Find a file by its path from the table's folder or from the top, or by its name alone if no other file has it."""
    folder = table.path.rpartition("/")[0]
    paths = {member.path for member in others}
    by_name: dict[str, str | None] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        by_name[name] = None if name in by_name else path

    def resolve(value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        clean = value.replace("\\", "/").removeprefix("./").lstrip("/")
        for path in (f"{folder}/{clean}" if folder else clean, clean):
            if path in paths:
                return path
        return by_name.get(clean.rpartition("/")[2])

    return resolve


def _places(tables: Sequence[tuple[Member, list[dict[str, Any]], str]], others: Sequence[Member], issues: IssueLog) -> dict[str, Place]:
    places = {member.path: Place(split=_split_folder(member.path.split("/")[:-1])[0]) for member in others}
    named: set[str] = set()
    for table, rows, column in tables:
        resolve = _resolver(table, others)
        missing: list[Any] = []
        for row in rows:
            path = resolve(row.get(column))
            if path is None:
                missing.append(row.get(column))
                continue
            named.add(path)
            _fill(places[path], row, column)
        if missing:
            issues.add(
                "MISSING_FILES",
                f"{short_repr(table.path)} names {len(missing):,} files that the archive does not have, first {short_repr(missing[0])}.",
            )
    unnamed = [member.path for member in others if member.path not in named]
    if unnamed:
        issues.add(
            "UNNAMED_FILES",
            f"{len(unnamed):,} files are in no row of {short_repr(tables[0][0].path)}, first {short_repr(unnamed[0])}; they have no label.",
        )
    return places


def _fill(place: Place, row: Mapping[str, Any], column: str) -> None:
    fields = {name.strip().lower(): name for name in row}

    def take(names: Sequence[str]) -> str | None:
        for name in names:
            if name in fields and isinstance(value := row[fields[name]], str | int | float | bool):
                del fields[name]
                return str(value)[: limits.MAX_LABEL_LENGTH]
        return None

    fields.pop(column.strip().lower(), None)
    place.label = take(_LABEL_FIELDS)
    split = take(_SPLIT_FIELDS)
    if split is not None:
        place.split = SPLITS.get(split.strip().lower(), split)
    place.severity = take(_SEVERITY_FIELDS)
    for name in list(fields.values())[: limits.MAX_METADATA_FIELDS]:
        value = row[name]
        if isinstance(value, str):
            value = value[: limits.MAX_METADATA_LENGTH]
        elif isinstance(value, dict | list) and len(orjson.dumps(value)) > limits.MAX_METADATA_LENGTH:
            continue
        place.metadata[name[:200]] = value


def _report_skipped(skipped: Sequence[Member], issues: IssueLog, kind: str) -> None:
    if skipped:
        issues.add(
            "SKIPPED_FILES",
            f"{len(skipped):,} files of the archive are not read as {kind}, first {short_repr(skipped[0].path)}: their extensions are of other kinds.",
        )


def _suffix(path: str) -> str:
    name = path.rpartition("/")[2]
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0].lower()
