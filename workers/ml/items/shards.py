"""An archive of archives that have the items of one split each: a folder that `datasets` of Hugging Face reads, as one file, as exports have it.

Any other archive in an archive is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.archive import (
    STORED,
    Member,
    UnreadableMember,
    check_size,
    checked_shard,
    clean_path,
    directory_members,
    member_blocks,
    too_many,
)
from workers.ml.items.layouts import recognise
from workers.ml.items.parquet_metadata import split_of_shard
from workers.ml.items.paths import suffix_of
from workers.ml.items.places import ArchiveContent, Place
from workers.ml.reading.issues import short_repr
from workers.ml.split_names import SPLITS

_FOLDER: Final = "data"
_SUFFIX: Final = ".zip"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the archives. The paths of its files are those in it, their places those in the whole."""

    name: str
    members: list[Member]


def is_shard(path: str) -> bool:
    """Whether a file of an archive is one by its path, such as `data/train-00000.zip`; in other folders, its split has one of the usual names."""
    *folders, name = path.split("/")
    split = split_of_shard(name) if suffix_of(name) == _SUFFIX else None
    return split is not None and (folders[-1:] == [_FOLDER] or split in SPLITS.values())


class _Range:
    """A range of a file, read as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def seek(self, position: int, /) -> None:
        self._position = position

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._position)
        self._file.seek(self._start + self._position)
        content = self._file.read(left if size < 0 else min(size, left))
        self._position += len(content)
        return content


def open_shards(path: Path, members: Sequence[Member], filename: str, pack: Path) -> tuple[Path, list[Shard]]:
    """Return the file that the shards' members are ranges of, and the shards: the archive or, if it compresses one of them, the pack.

    Raises BadInput: see `workers.ml.items.archive`.
    """
    size, total = path.stat().st_size, 0
    files = [member for member in members if suffix_of(member.path) == _SUFFIX]  # others were refused
    if any(file.method != STORED for file in files):
        files, path = _unfold(path, files, filename, pack), pack
    shards: list[Shard] = []
    with path.open("rb") as archive:
        for file in files:
            name = file.path.rpartition("/")[2]
            inner = directory_members(_Range(archive, file.offset, file.size), file.size, name)
            total += len(inner)
            if total > limits.MAX_MEMBERS:
                raise too_many(filename, None)
            for member in inner:
                member.offset += file.offset
                member.in_pack = file.in_pack
            shards.append(Shard(name, checked_shard(inner, name)))
    check_size([member for shard in shards for member in shard.members], size, filename)
    return path, shards


def _unfold(path: Path, files: Sequence[Member], filename: str, pack: Path) -> list[Member]:
    """Write the shards to the pack. What they unpack to is within the limits, as that of all members."""
    unfolded: list[Member] = []
    with path.open("rb") as archive, pack.open("wb") as out:
        for file in files:
            start = out.tell()
            try:
                out.writelines(member_blocks(archive, file))
            except UnreadableMember as error:
                raise BadInput("UNREADABLE_FILE", f"{short_repr(file.path)} in {filename!r} {error}. Pack and upload it again.") from error
            unfolded.append(Member(file.path, file.size, start, file.size, in_pack=True))
    return unfolded


def items_of_shards(shards: Sequence[Shard], content: ArchiveContent) -> list[tuple[Member, Place]]:
    """The items of all shards, each read as a layout of its own; `content` is the archive around them.

    The key of an item is its path in its shard, after the name of the shard if two shards have the same path. Raises BadInput: UNSAFE_ARCHIVE for a key
    that is too long, and CORRUPT_ANNOTATIONS.
    """
    content.report_skipped([member for member in content.members if suffix_of(member.path) != _SUFFIX])
    layouts = [
        recognise(ArchiveContent(shard.name, shard.members, content.suffixes, content.noun, content.file, content.issues)).items
        for shard in shards
    ]
    items = [item for layout in layouts for item in layout]
    has_repeats = len({member.path for member, _ in items}) < len(items)
    for shard, layout in zip(shards, layouts, strict=True):
        for member, place in layout:
            place.split = place.split or split_of_shard(shard.name)
            if has_repeats:
                member.path = clean_path(f"{shard.name.rpartition('.')[0]}/{member.path}", content.filename) or member.path
    return items
