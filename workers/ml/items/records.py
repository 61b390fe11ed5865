"""The items of a version as they are read: one JSON document a line, and what the lines sum up to."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict

import orjson
import polars as pl

from workers.ml import limits as table_limits
from workers.ml.items import limits
from workers.ml.items.near_duplicates import HashIndex
from workers.ml.items.places import group_of
from workers.ml.parquet_writer import ParquetSink
from workers.ml.reading.column_names import composed_name
from workers.ml.reading.issues import Issue, IssueLog, short_repr

_FRAME_ROWS: Final = 2_000
_FRAME_CHARACTERS: Final = 10_000_000  # of texts
_GROUP_BYTES: Final = 2 << 20  # of a row group, so that writing the table takes the same memory however many items there are
_FILED: Final = ("label", "split", "severity")
_TEXTS: Final = ("key", *_FILED, "group")


class Item(TypedDict):
    """One line. `info` describes a readable item of its kind, such as {"kind": "signal", "samples": 100}; null for a corrupt one."""

    key: str
    label: str | None
    split: str | None
    severity: str | None
    size_bytes: int
    sha256: str
    content_type: str
    metadata: dict[str, Any]
    info: dict[str, Any] | None
    features: dict[str, float | int | None]
    texts: dict[str, str | None]
    """Cells of the table, not of the item's row."""
    issues: list[Issue]
    byte_offset: int
    stored_size: int
    storage: str
    in_pack: bool
    preview_offset: int | None
    preview_size: int | None
    preview_sha256: str | None


class LabelCounts(TypedDict):
    """Each label, severity and split with the number of items, as [text, number], most frequent first. Corrupt items do not count."""

    labels: list[list[Any]]
    severities: list[list[Any]]
    splits: list[list[Any]]


class _Pairs:
    """Counts pairs of items, by key, and remembers the first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: tuple[str, str] | None = None

    def add(self, item: str, other: str) -> None:
        self.count += 1
        self.first = self.first or (item, other)


class Items:
    """Writes the items to a file and their previews to another, counts them, and finds those with the same bytes.

    `issues` are those of the version.
    """

    def __init__(self, path: Path, previews: Path, issues: IssueLog) -> None:
        self.path = path
        self.previews = previews
        self.issues = issues
        self.count = 0
        self.corrupt = 0
        self.first_corrupt: list[str] = []
        self.feature_names: dict[str, None] = {}
        self._has_groups = False
        self.text_names: dict[str, None] = {}
        self._counts: dict[str, Counter[str]] = {"label": Counter(), "severity": Counter(), "split": Counter()}
        self._first_with: dict[int, int] = {}
        """By the beginning of a digest, where the line of the first such item begins: what it says is read again if another one has the same."""
        self._duplicates, self._leaks, self._contradictions = _Pairs(), _Pairs(), _Pairs()
        self._similar, self._similar_leaks = _Pairs(), _Pairs()
        self._hashes = HashIndex()
        self._file = path.open("wb")
        self._reader = path.open("rb")
        self._preview_file = previews.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        self._reader.close()
        self._preview_file.close()

    def add(self, item: Item, preview: bytes | None = None) -> int:
        """Write the item, and return where its line begins."""
        self.count += 1
        offset = self._file.tell()
        if preview is not None:
            item["preview_offset"], item["preview_size"] = self._preview_file.tell(), len(preview)
            item["preview_sha256"] = hashlib.sha256(preview).hexdigest()
            self._preview_file.write(preview)
        if item["info"] is None:
            self.corrupt += 1
            if len(self.first_corrupt) < 3:
                self.first_corrupt.append(item["key"])
            for issue in item["issues"]:
                self.issues.add(issue["code"], f"{short_repr(item['key'])}: {issue['message']}")
        else:
            for name in self._counts:
                if item[name] is not None:
                    self._counts[name][item[name]] += 1
            self._has_groups = self._has_groups or group_of(item["metadata"]) is not None
            self.text_names |= dict.fromkeys(item["texts"])
            self.feature_names |= dict.fromkeys(name for name, value in item["features"].items() if value is not None)
            self._compare(item, offset)
        line = orjson.dumps(item, option=orjson.OPT_SERIALIZE_NUMPY)
        self._file.write((orjson.dumps(_without_null_characters(item)) if b"\\u0000" in line else line) + b"\n")
        return offset

    def _compare(self, item: Item, offset: int) -> None:
        """Note an item whose bytes an earlier one has: between splits they leak, with two labels they contradict each other."""
        first_offset = self._first_with.setdefault(int(item["sha256"][:16], 16), offset)
        first = None if first_offset == offset else self._line_at(first_offset)
        if first is None or first["sha256"] != item["sha256"]:
            self._compare_looks(item, offset)
            return
        pair = (item["key"], first["key"])
        if item["split"] != first["split"]:
            self._leaks.add(*pair)
            item["issues"].append(item_issue("LEAKED_ITEM", f"It has the bytes of {short_repr(first['key'])}, which is of another split."))
        else:
            self._duplicates.add(*pair)
            item["issues"].append(item_issue("DUPLICATE_ITEM", f"It has the bytes of {short_repr(first['key'])}."))
        if item["label"] != first["label"]:
            self._contradictions.add(*pair)
            item["issues"].append(item_issue("CONTRADICTING_LABEL", f"It has the bytes of {short_repr(first['key'])}, and another label."))

    def _line_at(self, offset: int) -> Item:
        self._file.flush()
        self._reader.seek(offset)
        return orjson.loads(self._reader.readline())

    def _compare_looks(self, item: Item, offset: int) -> None:
        """Note an image that looks like an earlier one. One without any structure looks like every other such."""
        value = int((item["info"] or {}).get("perceptual_hash") or "0", 16)
        if value == 0:
            return
        place = self._hashes.find_or_add(value, offset, item["split"])
        if place is None:
            return
        similar = self._line_at(place)
        other = similar["key"]
        if similar["split"] != item["split"]:
            self._similar_leaks.add(item["key"], other)
            item["issues"].append(item_issue("SIMILAR_ACROSS_SPLITS", f"It looks like {short_repr(other)}, which is of another split."))
        else:
            self._similar.add(item["key"], other)
            item["issues"].append(item_issue("SIMILAR_ITEM", f"It looks like {short_repr(other)}."))

    def finish(self) -> None:
        """Close the files, add the issues that concern several items, and forget what was kept to compare them."""
        self._first_with.clear()
        self._hashes = HashIndex()
        self._file.close()
        self._reader.close()
        self._preview_file.close()
        for code, pairs, text in (
            ("DUPLICATE_ITEMS", self._duplicates, "have the same bytes as another item of their split"),
            ("LEAKED_ITEMS", self._leaks, "have the same bytes as an item of another split, so that what is tested on was trained on"),
            ("SIMILAR_ITEMS", self._similar, "look like another image of their split"),
            (
                "SIMILAR_ACROSS_SPLITS",
                self._similar_leaks,
                "look like an image of another split, so that what is tested on may have been trained on",
            ),
            ("CONTRADICTING_LABELS", self._contradictions, "have the same bytes as an item with another label"),
        ):
            if pairs.first is not None:
                item, other = pairs.first
                self.issues.add(code, f"{pairs.count:,} items {text}; the first is {short_repr(item)}, as {short_repr(other)}.")

    def label_counts(self) -> LabelCounts:
        labels, severities, splits = (
            [list(entry) for entry in self._counts[name].most_common(limits.MAX_LABELS)] for name in ("label", "severity", "split")
        )
        return {"labels": labels, "severities": severities, "splits": splits}

    def lines(self) -> Iterator[Item]:
        with self.path.open("rb") as file:
            yield from map(orjson.loads, file)

    def write_table(self, target: Path) -> int:
        """Write a row for each readable item: its key, what it is filed under, its group, its texts and its features. Return the number of rows."""
        filed = ["key", *(name for name in _FILED if self._counts[name])]
        texts = [*filed, "group"] if self._has_groups else filed
        names = list(self.feature_names)[: table_limits.MAX_COLUMNS - len(_TEXTS) - len(self.text_names)]
        if len(names) < len(self.feature_names):
            self.issues.add(
                "TOO_MANY_FEATURES", f"The items have {len(self.feature_names):,} features; the table has the first {len(names):,} of them."
            )
        schema: Mapping[str, Any] = {
            **dict.fromkeys((*texts, *self.text_names), pl.String),
            **dict.fromkeys(map(composed_name, names), pl.Float64),
        }
        rows: list[tuple[Any, ...]] = []
        characters = 0
        with ParquetSink(target, group_bytes=_GROUP_BYTES) as sink:
            for item in self.lines():
                if item["info"] is None:
                    continue
                group = (group_of(item["metadata"]),) if self._has_groups else ()
                cells = [item["texts"].get(name) for name in self.text_names]
                rows.append((*(item[name] for name in filed), *group, *cells, *(item["features"].get(name) for name in names)))
                characters += sum(len(cell) for cell in cells if cell is not None)
                if len(rows) == _FRAME_ROWS or characters >= _FRAME_CHARACTERS:
                    sink.write(pl.DataFrame(rows, schema=schema, orient="row"))
                    rows, characters = [], 0
            if rows:
                sink.write(pl.DataFrame(rows, schema=schema, orient="row"))
            sink.close({name: "STRING" if kind == pl.String else "FLOAT" for name, kind in schema.items()})
            return sink.row_count


def item_issue(code: str, message: str) -> Issue:
    return {"code": code, "message": message, "column": None, "row": None}


def _without_null_characters(value: Any) -> Any:
    """PostgreSQL stores none."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_null_characters(name): _without_null_characters(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_null_characters(entry) for entry in value]
    return value
