"""Reads the items of a file: of an archive the members, of a single file its parts."""

from __future__ import annotations

import hashlib
import io
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, NotRequired, Protocol, TypedDict, runtime_checkable

import numpy as np

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.archive import Member, UnreadableMember, member_blocks, read_member, tar_members, unfold, zip_members
from workers.ml.items.layouts import recognise
from workers.ml.items.places import ArchiveContent, Place
from workers.ml.items.records import Item, Items, LabelCounts, item_issue
from workers.ml.items.shards import is_shard, items_of_shards, open_shards
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile

_UNFOLD_SHARE: Final = 0.3
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_REFUSED: Final = {
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ\0": "an xz archive",
}

Progress = Callable[[float, str], None]


class ItemsResult(TypedDict):
    """`file` has a line per item; `pack` has the bytes of those that lie in no place of the upload, `previews` small images of them."""

    file: str
    count: int
    pack: str | None
    previews: str | None
    summary: ItemsSummary


class ItemsSummary(LabelCounts):
    signal: NotRequired[dict[str, Any] | None]


class Corrupt(Exception):
    """An item cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a kind of data tells of one item."""

    info: dict[str, Any]
    features: dict[str, float | int | None]
    content_type: str
    issues: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    preview: bytes | None = None
    texts: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Columns of the table in addition to the features."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a single file that is an item: its content, or its place in the file as (offset, size), or all of it if neither is given."""

    key: str
    content: bytes | None = None
    label: str | None = None
    place: tuple[int, int] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Kind(Protocol):
    """How one kind of data is read."""

    name: str
    """What items are called in messages, in the plural."""
    suffixes: frozenset[str]

    def describe(self, content: bytes, path: str) -> Described:
        """Raises `Corrupt`."""
        ...

    def parts(self, raw: RawFile, filename: str, issues: IssueLog) -> tuple[str, Iterator[Part]] | None:
        """The format and parts of a file that is no archive; None for one that is not of this kind. Raises BadInput."""
        ...

    def summary(self) -> dict[str, Any]:
        """What is known of all items, once they were described."""
        ...


@runtime_checkable
class LargeKind(Kind, Protocol):
    """A kind whose items may be larger than memory."""

    def describe_file(self, file: IO[bytes], path: str) -> Described:
        """Describe an item of more than `MAX_ITEM_BYTES`. Raises `Corrupt`."""
        ...


def read_items(raw: RawFile, filename: str, folder: Path, kind: Kind, progress: Progress) -> tuple[str, Items, ItemsResult]:
    """Return the format, the items and the result. Raises BadInput: see `workers.ml.items.archive`, and NO_ITEMS and CORRUPT_ITEMS."""
    issues = IssueLog()
    pack = folder / "items.pack"
    opened = _open(raw, filename, pack, kind, issues, progress)
    with ExitStack() as files, Items(folder / "items.jsonl", folder / "items.previews", issues) as items:
        if isinstance(opened, _Entries):
            format_name = opened.format
            _read_members(opened, items, kind, files, progress)
        else:
            format_name, parts = opened
            _read_parts(raw, filename, parts, pack, items, kind, progress)
        items.finish()
    check_readable(items, filename, kind)
    return format_name, items, items_result(items, pack, kind)


def items_result(items: Items, pack: Path, kind: Kind) -> ItemsResult:
    summary: Any = {**items.label_counts(), **kind.summary()}
    return {
        "file": str(items.path),
        "count": items.count,
        "pack": str(pack) if _has_content(pack) else None,
        "previews": str(items.previews) if _has_content(items.previews) else None,
        "summary": summary,
    }


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@dataclass(frozen=True, slots=True)
class Archive:
    """Its members, and the file that they are ranges of: the upload or, if it is a compressed tar, the pack."""

    format: str
    path: Path
    members: list[Member]


@dataclass(frozen=True, slots=True)
class _Entries:
    """The items of an archive, and the file that they are ranges of."""

    format: str
    path: Path
    entries: list[tuple[Member, Place]]


def _open(
    raw: RawFile, filename: str, pack: Path, kind: Kind, issues: IssueLog, progress: Progress
) -> _Entries | tuple[str, Iterator[Part]]:
    # A ZIP archive may be a file of arrays, so parts are looked for before.
    archive = _open_tar(raw, filename, pack, progress)
    if archive is None and (parts := kind.parts(raw, filename, issues)) is not None:
        return parts
    archive = archive or _open_zip(raw, filename, is_shard)
    if archive is None:
        raise BadInput(
            "UNSUPPORTED_FORMAT",
            f"{filename!r} is neither an archive nor a file of {kind.name}. Supported are .zip, .tar, .tar.gz and .tar.zst with files that end in "
            f"{', '.join(sorted(kind.suffixes))}, and such a file alone.",
        )
    path, shards = open_shards(archive.path, archive.members, filename, pack)
    with path.open("rb") as file:
        content = ArchiveContent(filename, archive.members, kind.suffixes, kind.name, file, issues)
        items = items_of_shards(shards, content) if shards else recognise(content).items
    if not items:
        count = sum(len(shard.members) for shard in shards) or len(archive.members)
        raise BadInput(
            "NO_ITEMS", f"{filename!r} contains no {kind.name}: none of its {count:,} files ends in {', '.join(sorted(kind.suffixes))}."
        )
    return _Entries(archive.format, path, items)


def open_archive(raw: RawFile, filename: str, pack: Path, progress: Progress) -> Archive | None:
    """Return the archive; None for a file that is none. Raises BadInput: see `workers.ml.items.archive`, and EMPTY_FILE."""
    return _open_tar(raw, filename, pack, progress) or _open_zip(raw, filename)


def _open_tar(raw: RawFile, filename: str, pack: Path, progress: Progress) -> Archive | None:
    head = raw.head(16)
    if not head:
        raise BadInput("EMPTY_FILE", f"{filename!r} is empty: it has 0 bytes.")
    for magic, name in _REFUSED.items():
        if head.startswith(magic):
            raise BadInput(
                "UNSUPPORTED_FORMAT", f"{filename!r} is {name}, which cannot be read. Pack it as .zip, .tar, .tar.gz or .tar.zst."
            )
    compression = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
    if compression is not None:
        unfold(raw.path, pack, compression, filename, lambda share: progress(_UNFOLD_SHARE * share, "Unfold the archive"))
        if not _is_tar(pack):
            raise BadInput(
                "UNSUPPORTED_FORMAT",
                f"{filename!r} is a compressed file that is no tar archive. Upload the file itself, or pack it as .tar.gz or .zip.",
            )
        return Archive("TAR", pack, tar_members(pack, filename, raw.size, in_pack=True))
    return Archive("TAR", raw.path, tar_members(raw.path, filename, raw.size, in_pack=False)) if _is_tar(raw.path) else None


def _open_zip(raw: RawFile, filename: str, may_be_archive: Callable[[str], bool] = lambda _: False) -> Archive | None:
    head = raw.head(4)
    if head.startswith(_ZIP) or (PurePosixPath(filename).suffix.lower() == ".zip" and head.startswith(b"PK")):
        return Archive("ZIP", raw.path, zip_members(raw.path, filename, may_be_archive))
    return None


def _is_tar(path: Path) -> bool:
    with path.open("rb") as file:
        block = file.read(512)
    if len(block) < 512 or not block.strip(b"\0"):
        return False
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return block[257:262] == b"ustar"
    return True


def _read_members(opened: _Entries, items: Items, kind: Kind, files: ExitStack, progress: Progress) -> None:
    file = files.enter_context(opened.path.open("rb"))
    entries = opened.entries
    start = _UNFOLD_SHARE if entries[0][0].in_pack else 0.0
    total = sum(member.stored_size for member, _ in entries) or 1
    done, count = 0, len(entries)
    # What was read is forgotten, so that memory does not grow by what is kept of the items for comparison.
    entries.reverse()
    for number in range(1, count + 1):
        member, place = entries.pop()
        items.add(*read_item(file, member, place, kind))
        done += member.stored_size
        if number % 20 == 0 or number == count:
            progress(start + (1 - start) * done / total, f"Read {kind.name}: {number:,} of {count:,}")
        if number == 1_000 and items.corrupt > 500:
            break  # the rest would not change the outcome


def read_item(file: IO[bytes], member: Member, place: Place, kind: Kind) -> tuple[Item, bytes | None]:
    """The item and its preview."""
    if limits.MAX_ITEM_BYTES < member.size <= limits.MAX_VIDEO_BYTES and isinstance(kind, LargeKind):
        return _read_large(file, member, place, kind)
    try:
        content = read_member(file, member)
    except UnreadableMember as error:
        return _record(member, place, "", None, f"The file {error}."), None
    return _described(content, member, place, kind)


def _described(content: bytes, member: Member, place: Place, kind: Kind) -> tuple[Item, bytes | None]:
    digest = hashlib.sha256(content).hexdigest()
    if not content:
        return _record(member, place, digest, None, "The file is empty."), None
    try:
        described = kind.describe(content, member.path)
    except Corrupt as error:
        return _record(member, place, digest, None, f"The file {error}."), None
    return _record(member, place, digest, _annotated(described, place), None), described.preview


def _read_large(file: IO[bytes], member: Member, place: Place, kind: LargeKind) -> tuple[Item, bytes | None]:
    """Read an item through a file of its own, in the folder of the body."""
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as copy:
        try:
            for block in member_blocks(file, member):
                digest.update(block)
                copy.write(block)
        except UnreadableMember as error:
            return _record(member, place, "", None, f"The file {error}."), None
        copy.seek(0)
        try:
            described = kind.describe_file(copy, member.path)
        except Corrupt as error:
            return _record(member, place, digest.hexdigest(), None, f"The file {error}."), None
    return _record(member, place, digest.hexdigest(), described, None), described.preview


def _annotated(described: Described, place: Place) -> Described:
    """With the annotations of an image, whose boxes can only be checked and measured by its size."""
    if place.annotations is None:
        return described
    width, height = described.info["width"], described.info["height"]
    place.metadata |= place.annotations.metadata(width, height)
    return replace(
        described,
        features={**described.features, "annotations": place.annotations.count},
        issues=[*described.issues, *place.annotations.issues(width, height)],
    )


def _record(member: Member, place: Place, sha256: str, described: Described | None, problem: str | None) -> Item:
    issues = [item_issue("CORRUPT_ITEM", problem)] if problem is not None else []
    if described is not None:
        issues = [item_issue(code, message) for code, message in described.issues]
    return {
        "key": member.path,
        "label": place.label,
        "split": place.split,
        "severity": place.severity,
        "size_bytes": member.size,
        "sha256": sha256,
        "content_type": "application/octet-stream" if described is None else described.content_type,
        "metadata": place.metadata,
        "info": None if described is None else described.info,
        "features": {} if described is None else described.features,
        "texts": {} if described is None else {**place.texts, **described.texts},
        "issues": issues,
        "byte_offset": member.offset,
        "stored_size": member.stored_size,
        "storage": member.method,
        "in_pack": member.in_pack,
        "preview_offset": None,
        "preview_size": None,
        "preview_sha256": None,
    }


def _read_parts(raw: RawFile, filename: str, parts: Iterator[Part], pack: Path, items: Items, kind: Kind, progress: Progress) -> None:
    with raw.path.open("rb") as source, pack.open("wb") as out:
        for number, part in enumerate(parts, 1):
            if number > limits.MAX_MEMBERS:
                raise BadInput(
                    "TOO_MANY_ITEMS", f"{filename!r} has more than {limits.MAX_MEMBERS:,} {kind.name}. Upload it as several versions."
                )
            if number % 20 == 0:
                progress(min(0.95, number / 1_000), f"Read {kind.name}: {number:,}")
            place = Place(label=part.label, metadata=dict(part.metadata))
            if part.content is None:
                offset, size = part.place or (0, raw.size)
                member = Member(part.key, size, offset, size)
                items.add(*read_item(source, member, place, kind))
                continue
            member = Member(part.key, len(part.content), out.tell(), len(part.content), in_pack=True)
            out.write(part.content)
            items.add(*_described(part.content, member, place, kind))


def check_readable(items: Items, filename: str, kind: Kind) -> None:
    first = ", ".join(map(repr, items.first_corrupt))
    if items.count == items.corrupt:
        why = (
            items.issues.entries[-1]["message"]
            if items.count == 1 and items.issues.entries
            else f"None of its {items.count:,} {kind.name} can be read, first {first}."
        )
        raise BadInput("CORRUPT_ITEMS", f"{filename!r} has nothing that can be read. {why}")
    if items.corrupt > limits.MAX_CORRUPT_SHARE * items.count:
        raise BadInput(
            "CORRUPT_ITEMS",
            f"{items.corrupt:,} of {items.count:,} {kind.name} in {filename!r} cannot be read, first {first}; at most a tenth may be. Repair or remove them.",
        )


def npy_bytes(array: Any) -> bytes:
    """An array of numbers as .npy."""
    target = io.BytesIO()
    np.save(target, np.ascontiguousarray(array), allow_pickle=False)
    return target.getvalue()


def is_npz(raw: RawFile) -> bool:
    """Whether a ZIP archive has NumPy arrays alone."""
    try:
        with zipfile.ZipFile(raw.path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") and "/" not in name for name in names)


def whole_file(raw: RawFile, filename: str) -> bytes:
    """The bytes of a file that is one item or its parts. Raises BadInput (FILE_TOO_LARGE)."""
    if raw.size > limits.MAX_ITEM_BYTES:
        raise BadInput(
            "FILE_TOO_LARGE",
            f"{filename!r} has {raw.size:,} bytes; one file may have {limits.MAX_ITEM_BYTES:,}. Cut it, and pack its parts as an archive.",
        )
    return raw.path.read_bytes()


def equal_or_none(values: Mapping[Any, int]) -> Any:
    """The one value that all items have."""
    return next(iter(values)) if len(values) == 1 else None
