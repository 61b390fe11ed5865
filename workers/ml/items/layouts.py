"""What the folders and files of an archive say of its items: label, split, severity and further fields.

In this order: a metadata file as Hugging Face's `datasets` reads it (`metadata.csv` or `.parquet` with `file_name`, one per split or one for all), a manifest
(a table with a column that names the files), COCO, YOLO, files beside the items as WebDataset has them, class folders (`[split/]label/[severity/]file`), plain
files. A table that names the files is explicit, so it counts for more than folders.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from workers.ml.items import limits
from workers.ml.items.archive import Member, UnreadableMember
from workers.ml.items.coco import by_coco
from workers.ml.items.parquet_metadata import PARQUET, parquet_rows, split_of_shard
from workers.ml.items.paths import resolver, split_folder, stem_of, suffix_of
from workers.ml.items.places import ArchiveContent, Layout, Place
from workers.ml.items.sidecars import by_sidecars
from workers.ml.items.yolo import by_yolo
from workers.ml.reading.issues import IssueLog, short_repr

METADATA: Final = "metadata"
_TABLES: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
_MANIFEST_NAMES: Final = ("metadata", "manifest", "labels", "annotations", "index", "train", "validation", "test", "files")
_GENERIC_FOLDERS: Final = frozenset({
    "data", "files", "raw", "samples", "images", "image", "img", "imgs", "signals", "signal", "csv", "audio", "recordings", "clips", "wav", "mp3",
    "texts", "text", "txt", "documents",
})  # fmt: skip
_CELLS: Final = 4_000_000  # cells of a manifest that are read


def recognise(content: ArchiveContent) -> Layout:
    """Tell items by their extension, and what is known of them. Raises BadInput (CORRUPT_ANNOTATIONS)."""
    if (layout := _by_manifest(content)) is not None:
        return layout
    # Boxes are of images.
    if ".jpg" in content.suffixes and (layout := by_coco(content) or by_yolo(content)) is not None:
        return layout
    folders = _by_folders([member for member in content.members if suffix_of(member.path) in content.suffixes])
    if (layout := by_sidecars(content, folders)) is not None:
        return layout
    content.report_skipped([member for member in content.members if suffix_of(member.path) not in content.suffixes])
    return folders


def _by_folders(data: Sequence[Member]) -> Layout:
    """The items of one folder share their `Place`."""
    folders_of = {folder: split_folder(folder.split("/") if folder else []) for folder in dict.fromkeys(map(_folder, data))}
    depths = {len(folders) for _, folders in folders_of.values()}
    names = {folders[0].lower() for _, folders in folders_of.values() if folders}
    # One folder of all files, or one called `images`, is no class.
    has_classes = bool(depths) and min(depths) >= 1 and max(depths) <= 2 and (len(names) > 1 or not names <= _GENERIC_FOLDERS)
    has_severities = has_classes and depths == {2}
    if has_classes and len(depths) > 1:  # label/file beside label/folder/file: the deeper folders say something else
        has_severities = False
    places = {
        folder: Place(
            label=folders[0] if has_classes else None,
            split=split,
            severity=folders[1] if has_severities else None,
        )
        for folder, (split, folders) in folders_of.items()
    }
    return Layout("class folders" if has_classes else "plain files", [(member, places[_folder(member)]) for member in data])


def _folder(member: Member) -> str:
    return member.path.rpartition("/")[0]


def _by_manifest(content: ArchiveContent) -> Layout | None:
    members, suffixes = content.members, content.suffixes
    candidates = _candidates(members)
    metadata = [member for member in candidates if stem_of(member.path) == METADATA]
    if metadata:
        others = [member for member in members if member not in metadata and suffix_of(member.path) in suffixes]
        tables = [(member, _rows(member, content)) for member in metadata]
        if others and all(rows and "file_name" in rows[0] for _, rows in tables):
            places = _places([(member, rows, "file_name") for member, rows in tables], others, content)
            _take_split_of_shard(content, metadata, places.values())
            return Layout("metadata", [(member, places[member.path]) for member in others])
    for candidate in candidates:
        if suffix_of(candidate.path) == PARQUET:
            continue
        others = [member for member in members if member is not candidate and suffix_of(member.path) in suffixes]
        rows = _rows(candidate, content) if others else []
        column = _naming_column(rows, candidate, others)
        if column is not None:
            places = _places([(candidate, rows, column)], others, content)
            skipped = [member for member in members if member is not candidate and suffix_of(member.path) not in suffixes]
            content.report_skipped(skipped, "items")
            return Layout("manifest", [(member, places[member.path]) for member in others])
    return None


def _take_split_of_shard(content: ArchiveContent, metadata: Sequence[Member], places: Iterable[Place]) -> None:
    """Of an archive that is a part of a folder, as exports and `datasets` name them: the items without a split have that of the part."""
    split = split_of_shard(content.filename) if any(suffix_of(member.path) == PARQUET for member in metadata) else None
    if split is not None:
        for place in places:
            place.split = place.split or split


def _candidates(members: Sequence[Member]) -> list[Member]:
    """Tables near the top; where there are many, only those with the name of a manifest."""
    tables = [
        member
        for member in members
        if (suffix_of(member.path) in _TABLES or (suffix_of(member.path) == PARQUET and stem_of(member.path) == METADATA))
        and member.size <= limits.MAX_MANIFEST_BYTES
        and len(split_folder(member.path.split("/")[:-1])[1]) == 0
    ]
    named = [member for member in tables if stem_of(member.path) in _MANIFEST_NAMES]
    if len(tables) > limits.MAX_MANIFEST_CANDIDATES:
        return named[: limits.MAX_MANIFEST_CANDIDATES]
    return named + [member for member in tables if member not in named]


def _rows(member: Member, content: ArchiveContent) -> list[dict[str, Any]]:
    """The rows of a table as objects; none where it is none, since a table of a signal's samples may have any form."""
    try:
        if suffix_of(member.path) == PARQUET:
            rows, is_cut = parquet_rows(content.read(member), limits.MAX_METADATA_FIELDS, _CELLS)
            if is_cut:
                _report_cut(member, rows, content.issues)
            return rows
        text = content.read(member).decode("utf-8-sig")
    except (UnreadableMember, UnicodeDecodeError, ValueError):
        return []
    try:
        if suffix_of(member.path) in (".jsonl", ".ndjson"):
            rows = [orjson.loads(line) for line in text.splitlines() if line.strip()]
            return [row for row in rows if isinstance(row, dict)] if all(isinstance(row, dict) for row in rows) else []
        return _delimited_rows(text, member, content.issues)
    except (csv.Error, orjson.JSONDecodeError):
        return []


def _delimited_rows(text: str, member: Member, issues: IssueLog) -> list[dict[str, Any]]:
    first = text.partition("\n")[0]
    delimiter = "\t" if suffix_of(member.path) == ".tsv" else max(",;\t", key=first.count)
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
            _report_cut(member, rows, issues)
            break
    return rows


def _report_cut(member: Member, rows: Sequence[Any], issues: IssueLog) -> None:
    issues.add("MANIFEST_CUT", f"{short_repr(member.path)} has more rows than are read: what comes after row {len(rows):,} is left out.")


def _naming_column(rows: Sequence[Mapping[str, Any]], table: Member, others: Sequence[Member]) -> str | None:
    """The column whose values name nearly all of the other files."""
    if not rows or not others:
        return None
    resolve = resolver(table, others)
    for column in rows[0]:
        named = {resolve(row.get(column)) for row in rows} - {None}
        if len(named) >= limits.MIN_NAMED_SHARE * len(others):
            return column
    return None


def _places(
    tables: Sequence[tuple[Member, list[dict[str, Any]], str]], others: Sequence[Member], content: ArchiveContent
) -> dict[str, Place]:
    places = {member.path: Place(split=split_folder(member.path.split("/")[:-1])[0]) for member in others}
    named: set[str] = set()
    for table, rows, column in tables:
        resolve = resolver(table, others)
        missing: list[Any] = []
        for row in rows:
            path = resolve(row.get(column))
            if path is None:
                missing.append(row.get(column))
                continue
            named.add(path)
            places[path].fill(row, column)
        content.report_missing(table.path, missing)
    unnamed = [member.path for member in others if member.path not in named]
    content.report_unnamed(tables[0][0].path, unnamed)
    return places
