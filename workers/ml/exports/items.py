"""The items of a version as files of an export: their bytes, where they lie, and names that are safe on every system."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from workers.ml.errors import BadInput
from workers.ml.exports.categories import find_categories
from workers.ml.exports.huggingface import is_class
from workers.ml.exports.source import DetailedItemFiles, ExportSpec, Rows
from workers.ml.exports.splits import MAX_SHARDS, Splits, find_splits
from workers.ml.items.archive import Member, UnreadableMember, member_blocks

MAX_SHARD_ITEMS: Final = 10_000
"""A ZIP archive is written with all of its directory in memory."""
EXTENSIONS: Final = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/tiff": "tif",
    "image/gif": "gif",
    "image/bmp": "bmp",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/mpeg": "mp3",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/x-npy": "npy",
    "application/x-npz": "npz",
    "application/x-matlab-data": "mat",
    "application/x-segy": "sgy",
}
"""By what the ingest found, since names of files may say something else."""
_MEDIA_TYPES: Final[Mapping[str, str]] = {extension: media_type for media_type, extension in EXTENSIONS.items()}
KEY: Final = "key"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")
_UNSAFE_FOLDER: Final = re.compile(r"[^A-Za-z0-9._-]+")
_DEVICE: Final = re.compile(r"(?<![^/])(con|prn|aux|nul|com\d|lpt\d)(?![^/.])", re.IGNORECASE)
"""The name of a file or folder that Windows takes for a device, with any extension: no archive with such a file can be unpacked there."""
_MAX_NAME, _MAX_FOLDERS = 80, 120


@dataclass(frozen=True, slots=True)
class ExportedItem:
    """An item with its row, the values of the exported columns by name. `name` is a path without an extension that no other item has."""

    key: str
    name: str
    extension: str
    content_type: str
    member: Member
    metadata: dict[str, Any]
    row: dict[str, Any]
    split: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What is known of all items. `label` is the target if its values are classes, whose names are `classes`."""

    splits: Splits
    target: str | None
    label: str | None
    classes: Sequence[str]


def layout_of(spec: ExportSpec, rows: Rows) -> Layout:
    """Read the splits and classes of the rows. Raises BadInput (TOO_MANY_SPLITS)."""
    target: str | None = spec["options"].get("target")
    splits = find_splits(rows, spec["options"].get("splitColumn"), target)
    has_classes = target is not None and is_class(rows.types[target], spec["problem_type"])
    categories = find_categories(rows, [target] if target is not None and has_classes else [])
    classes = None if target is None else categories.values.get(target)
    if has_classes and classes is None:
        rows.reporter.log(f"The target {target!r} has too many values to be numbered; its values are written as they are.")
    return Layout(splits, target, None if classes is None else target, classes or ())


class Items:
    """The items of a version, one after the other, and their bytes. Memory grows by a number for the name of each."""

    def __init__(self, files: DetailedItemFiles, renamed: Mapping[str, str]) -> None:
        """`renamed` are extensions that the readers of the format know by another name."""
        self._places, self._renamed = Path(files["places"]), renamed
        # They stay open as long as the process lives, which makes one export.
        self._files: list[IO[bytes] | None] = [None if path is None else Path(path).open("rb") for path in (files["raw"], files["pack"])]  # noqa: SIM115 - see above
        self.count = self.size = 0
        self.extensions: dict[str, str] = {}
        for line in self._lines():
            self.count += 1
            self.size += line[5]
            extension = self._extension(line)
            if extension not in self.extensions:
                self.extensions[extension] = _MEDIA_TYPES.get(extension) or line[7]

    def _lines(self) -> Iterator[list[Any]]:
        with self._places.open("rb") as file:
            yield from map(json.loads, file)

    def with_rows(self, rows: Rows, layout: Layout) -> Iterator[ExportedItem]:
        """Yield each item with its row, in which a class is a text. Reports the progress, from 0 to 95 percent, by what was taken of the bytes."""
        lines, names, splits = self._lines(), Names(), layout.splits
        texts = [pl.col(name).cast(pl.String) for name in {splits.column, layout.label} if name is not None]
        done = number = percent = 0
        for frame in rows.scan(list(rows.types)):
            for row in frame.with_columns(texts).iter_rows(named=True):
                line = next(lines, None)
                if line is None:
                    raise RuntimeError(f"The version has {rows.count:,} rows and {self.count:,} items.")
                key, _, offset, stored_size, storage, size, in_pack, content_type, metadata = line
                if splits.column is None:
                    (split,) = splits.counts
                else:
                    split = splits.names[row.pop(splits.column)]
                member = Member(key, size, offset, stored_size, storage, in_pack=in_pack)
                yield ExportedItem(key, names.add(key), self._extension(line), content_type, member, metadata, row, split)
                number, done = number + 1, done + size
                if (now := int(95 * done / max(self.size, 1))) > percent or number == self.count:
                    percent = now
                    rows.reporter.progress(percent, f"Write items: {number:,} of {self.count:,}")
        if next(lines, None) is not None:
            raise RuntimeError(f"The version has {rows.count:,} rows and {self.count:,} items.")

    def _extension(self, line: list[Any]) -> str:
        extension = EXTENSIONS.get(line[7], "bin")
        return self._renamed.get(extension, extension)

    def blocks(self, item: ExportedItem) -> Iterator[bytes]:
        """The unpacked bytes, a MiB at a time. The ingest read them already and the files were compared with their checksums: an error is one of ours."""
        file = self._files[item.member.in_pack]
        if file is None:
            raise RuntimeError(f"The file of the item {item.key!r} was not downloaded.")
        try:
            yield from member_blocks(file, item.member)
        except UnreadableMember as error:
            raise RuntimeError(f"The item {item.key!r} {error}.") from error

    def check_shards(self, splits: Splits, limit: int) -> None:
        """Raises BadInput (TOO_MANY_FILES) before anything is written."""
        least = max(self.size // limit, self.count // MAX_SHARD_ITEMS)
        if least + len(splits.counts) > MAX_SHARDS:
            raise too_many_shards(limit)


def too_many_shards(limit: int) -> BadInput:
    most = f"{MAX_SHARDS} files of at most {limit:,} bytes and {MAX_SHARD_ITEMS:,} items"
    return BadInput("TOO_MANY_FILES", f"The items would be more than {most}. Choose a higher `shardBytes`, or export their table alone.")


class Names:
    """Paths of ASCII letters, digits, dashes and underscores, in folders that may have dots: no file outside of its archive, hidden, beside another of
    its name in other case, or called as a device of Windows is. The name has no dot, since WebDataset takes what is after the first for the extension.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._count = 0

    def add(self, key: str) -> str:
        self._count += 1
        *folders, name = key.split("/")
        stem, dot, _ = name.rpartition(".")
        path = "/".join(clean for folder in folders if (clean := _clean(folder, _UNSAFE_FOLDER).rstrip(".")))[:_MAX_FOLDERS].rstrip("./")
        base = _DEVICE.sub(r"\1-", f"{path}/" * bool(path) + (_clean(stem if dot else name, _UNSAFE) or "item"))
        for attempt in range(self._count + 1):
            candidate = base if attempt == 0 else f"{base}-{self._count + attempt - 1}"
            digest = int.from_bytes(hashlib.blake2b(candidate.lower().encode(), digest_size=8).digest(), "big")
            if digest not in self._taken:
                self._taken.add(digest)
                return candidate
        raise AssertionError("there are more names than items")


def _clean(text: str, unsafe: re.Pattern[str]) -> str:
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return unsafe.sub("-", ascii_text)[:_MAX_NAME].strip("-_").lstrip("._-")
