"""The members of an archive and their places in it. Nothing is ever written to a path that an archive names.

Refused by name, as a whole: encrypted archives, nested archives, links and devices, absolute paths and those with `..`, overlapping members, and what
unfolds beyond the limits. PKWARE's APPNOTE 6.3.10 and POSIX.1-2001 (pax) describe the formats.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.zip_directory import BadDirectory, Directory, Readable, entries, find_directory
from workers.ml.reading.issues import short_repr
from workers.ml.split_names import SPLITS

STORED, DEFLATED = "stored", "deflated"
_BLOCK: Final = 1 << 20
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_ENCRYPTED_BIT = 0x1
_NESTED: Final = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".tzst", ".7z", ".rar", ".lz4"})
_IGNORED_NAMES: Final = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_IGNORED_FOLDERS: Final = frozenset({"__macosx"})
_DOCUMENTS: Final = re.compile(
    r"(readme|licen[cs]e|notice|citation|changelog|copying|authors)(\.(md|txt|rst|pdf|html?|cff|bib))?|croissant\.json", re.IGNORECASE
)
_DRIVE: Final = re.compile(r"[A-Za-z]:")
_METHODS: Final = {1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 97: "WavPack", 98: "PPMd"}


@dataclass(slots=True)
class Member:
    """A file of an archive: its normalized path, its unpacked size, and the place of its stored bytes in the upload or, if `in_pack`, in the pack."""

    path: str
    size: int
    offset: int
    stored_size: int
    method: str = STORED
    crc: int | None = None
    in_pack: bool = False


class UnreadableMember(Exception):
    """The bytes of one member are damaged; the message says how."""


def read_member(file: IO[bytes], member: Member) -> bytes:
    """Return the unpacked bytes. Raises `UnreadableMember`."""
    size = max(member.size, member.stored_size)  # compressed bytes may go on after the end of what they unpack to
    if size > limits.MAX_ITEM_BYTES:
        raise UnreadableMember(f"has {size:,} bytes; the maximum is {limits.MAX_ITEM_BYTES:,}")
    file.seek(member.offset)
    stored = file.read(member.stored_size)
    if len(stored) < member.stored_size:
        raise UnreadableMember("is cut off: the archive ends before it does")
    content = _inflate(stored, member.size) if member.method == DEFLATED else stored
    if len(content) != member.size:
        raise UnreadableMember(f"has {len(content):,} bytes, and the archive says {member.size:,}")
    if member.crc is not None and zlib.crc32(content) != member.crc:
        raise UnreadableMember("is damaged: its checksum is wrong")
    return content


def member_blocks(file: IO[bytes], member: Member) -> Iterator[bytes]:
    """Yield the unpacked bytes of a member of any size in blocks. Raises `UnreadableMember`, which may be after the last block."""
    file.seek(member.offset)
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
    size = checksum = 0
    left, packed = member.stored_size, b""
    while left or packed:
        if not packed:
            packed = file.read(min(_BLOCK, left))
            left -= len(packed)
            if not packed:
                raise UnreadableMember("is cut off: the archive ends before it does")
        try:
            block = packed if decompressor is None else decompressor.decompress(packed, _BLOCK)
        except zlib.error as error:
            raise UnreadableMember("is damaged: it cannot be decompressed") from error
        packed = b"" if decompressor is None else decompressor.unconsumed_tail
        size += len(block)
        if size > member.size:
            raise UnreadableMember(f"unfolds to more than the {member.size:,} bytes that the archive says")
        checksum = zlib.crc32(block, checksum)
        yield block
        if decompressor is not None and decompressor.eof:
            break
    if size != member.size:
        raise UnreadableMember(f"has {size:,} bytes, and the archive says {member.size:,}")
    if member.crc is not None and checksum != member.crc:
        raise UnreadableMember("is damaged: its checksum is wrong")


def _inflate(stored: bytes, size: int) -> bytes:
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = decompressor.decompress(stored, size + 1)
    except zlib.error as error:
        raise UnreadableMember("is damaged: it cannot be decompressed") from error
    if len(content) > size:
        raise UnreadableMember(f"unfolds to more than the {size:,} bytes that the archive says")
    return content


def zip_members(path: Path, filename: str, is_shard: Callable[[str], bool] = lambda _: False) -> list[Member]:
    """Return the files of a ZIP archive in its order; `is_shard` tells by their paths which may be archives.

    Raises BadInput: UNREADABLE_FILE, UNSAFE_ARCHIVE, ENCRYPTED_ARCHIVE and those of `checked`.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        members = directory_members(file, size, filename)
    return checked(members, size, filename, is_shard)


def directory_members(file: Readable, size: int, filename: str) -> list[Member]:
    """Return what the directory of a ZIP archive lists, before it is `checked`. Raises BadInput as `zip_members`."""
    try:
        directory = find_directory(file, size)
        if directory.count > limits.MAX_MEMBERS:
            raise too_many(filename, directory.count)
        if directory.size > limits.MAX_DIRECTORY_BYTES:
            most = f"the maximum is {limits.MAX_DIRECTORY_BYTES:,}"
            raise _unsafe(filename, "its directory", f"has {directory.size:,} bytes; {most}")
        members = list(_zip_entries(directory, file, filename))
    except BadDirectory as error:
        raise _unreadable(filename, str(error)) from error
    _check_overlaps(members, filename)
    return members


def _zip_entries(directory: Directory, file: Readable, filename: str) -> Iterator[Member]:
    for count, entry in enumerate(entries(file, directory), 1):
        if count > limits.MAX_MEMBERS:
            raise too_many(filename, None)
        name = entry.name
        clean = clean_path(name, filename)
        kind = stat.S_IFMT(entry.mode)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _unsafe(filename, name, "is a link" if kind == stat.S_IFLNK else "is a device or a pipe")
        if clean is None or entry.is_folder or kind == stat.S_IFDIR:
            continue
        if entry.flags & _ENCRYPTED_BIT:
            raise BadInput("ENCRYPTED_ARCHIVE", f"{filename!r} is encrypted: {short_repr(name)} needs a password. Pack it without one.")
        if entry.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            method = _METHODS.get(entry.method, f"method {entry.method}")
            raise BadInput(
                "UNSUPPORTED_FORMAT",
                f"{short_repr(name)} in {filename!r} is compressed with {method}, which cannot be read. Pack it as an ordinary ZIP (Deflate).",
            )
        # Files lie before the directory. One that does not might be at a place that no file can have, which cannot be sought.
        file.seek(min(entry.header, directory.start))
        header = file.read(_LOCAL_HEADER.size)
        if entry.header + entry.packed_size > directory.start or len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise _unreadable(filename, f"the place of {short_repr(name)} in it is wrong")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        offset = entry.header + _LOCAL_HEADER.size + name_length + extra_length
        method = DEFLATED if entry.method == zipfile.ZIP_DEFLATED else STORED
        yield Member(clean, entry.size, offset, entry.packed_size, method, entry.crc)


def _check_overlaps(members: list[Member], filename: str) -> None:
    """Members that share bytes make an archive of kilobytes unfold to terabytes."""
    end, before = 0, ""
    for member in sorted(members, key=lambda member: member.offset):
        if member.offset < end:
            raise _unsafe(filename, member.path, f"lies in the bytes of {short_repr(before)}")
        end, before = member.offset + member.stored_size, member.path


def tar_members(path: Path, filename: str, uploaded_size: int, *, in_pack: bool) -> list[Member]:
    """Return the files of an uncompressed tar in its order. Raises BadInput: UNREADABLE_FILE, UNSAFE_ARCHIVE and those of `checked`."""
    members: list[Member] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closed with the file
            count = 0
            while (info := archive.next()) is not None:
                archive.members.clear()  # tarfile keeps all of them otherwise
                count += 1
                if count > limits.MAX_MEMBERS:
                    raise too_many(filename, None)
                if info.issparse():
                    raise _unsafe(filename, info.name, "is a sparse file")
                if info.islnk() or info.issym():
                    raise _unsafe(filename, info.name, "is a link")
                if not (info.isreg() or info.isdir()):
                    raise _unsafe(filename, info.name, "is a device or a pipe")
                clean = clean_path(info.name, filename)
                if clean is not None and info.isreg():
                    members.append(Member(clean, info.size, info.offset_data, info.size, in_pack=in_pack))
            end = archive.offset
        except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
            raise _unreadable(filename, f"it is damaged or cut off ({error})") from error
        # tarfile takes a damaged header for the end.
        file.seek(end)
        rest = file.read(512)
        if end > size or rest.strip(b"\0"):
            raise _unreadable(filename, f"it is damaged or cut off after {short_repr(members[-1].path) if members else 'its beginning'}")
    return checked(members, uploaded_size, filename)


def unfold(source: Path, target: Path, compression: str, filename: str, progress: Callable[[float], None]) -> None:
    """Decompress a file of `gzip` or `zstd` within the limits. Raises BadInput: UNREADABLE_FILE, ARCHIVE_TOO_LARGE."""
    size = source.stat().st_size
    limit = unpacked_limit(size)
    written = 0
    with source.open("rb") as file, target.open("wb") as out:
        try:
            for block in _decompressed(file, compression):
                written += len(block)
                if written > limit:
                    raise too_large(filename, size)
                out.write(block)
                progress(file.tell() / size)
        except (EOFError, OSError, zlib.error, ValueError) as error:
            raise _unreadable(filename, f"its compressed data is damaged or cut off ({error})") from error
    if not written:  # the library takes a frame that is cut off for the end
        raise _unreadable(filename, "its compressed data is empty, damaged or cut off")


def _decompressed(file: IO[bytes], compression: str) -> Iterator[bytes]:
    if compression == "gzip":
        import gzip

        with gzip.GzipFile(fileobj=file) as stream:
            while block := stream.read(_BLOCK):
                yield block
        return
    import zstandard

    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)  # as much memory as `zstd --long` needs
        with decompressor.stream_reader(file, read_across_frames=True, closefd=False) as reader:
            while block := reader.read(_BLOCK):
                yield block
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def unpacked_limit(uploaded_size: int) -> int:
    return min(limits.MAX_UNPACKED_BYTES, max(limits.MIN_RATIO_BYTES, limits.MAX_UNPACKED_RATIO * uploaded_size))


def checked(members: list[Member], uploaded_size: int, filename: str, is_shard: Callable[[str], bool] = lambda _: False) -> list[Member]:
    """Return the members that are not ignored, without the one folder that all lie in.

    Raises BadInput: EMPTY_FILE, NESTED_ARCHIVE, ARCHIVE_TOO_LARGE, DUPLICATE_MEMBER.
    """
    kept = _kept(members, filename, is_shard)
    check_size(kept, uploaded_size, filename)
    top = kept[0].path.partition("/")[0] + "/"
    if all(member.path.startswith(top) for member in kept) and top[:-1].lower() not in SPLITS:
        for member in kept:
            member.path = member.path[len(top) :]
    _check_names(kept, filename)
    return kept


def checked_shard(members: list[Member], name: str) -> list[Member]:
    """The same of an archive in an archive, whose size is checked with that of the others and whose paths are left as they are."""
    kept = _kept(members, name)
    _check_names(kept, name)
    return kept


def check_size(members: Sequence[Member], uploaded_size: int, filename: str) -> None:
    """Raises BadInput (ARCHIVE_TOO_LARGE)."""
    if sum(member.size for member in members) > unpacked_limit(uploaded_size):
        raise too_large(filename, uploaded_size)


def _kept(members: list[Member], filename: str, is_shard: Callable[[str], bool] = lambda _: False) -> list[Member]:
    kept = [member for member in members if not _is_ignored(member.path)]
    if not kept:
        raise BadInput("EMPTY_FILE", f"{filename!r} contains no files. Pack the files of the dataset and upload the archive.")
    for member in kept:
        suffix = "." + member.path.rpartition(".")[2].lower()
        if suffix in _NESTED and not is_shard(member.path):
            raise BadInput(
                "NESTED_ARCHIVE", f"{short_repr(member.path)} in {filename!r} is an archive in an archive. Pack its files directly."
            )
    return kept


def _check_names(members: list[Member], filename: str) -> None:
    names: set[str] = set()
    for member in members:
        if member.path in names:
            raise BadInput("DUPLICATE_MEMBER", f"{filename!r} contains {short_repr(member.path)} twice. Give each file a name of its own.")
        names.add(member.path)


def clean_path(name: str, filename: str) -> str | None:
    """Return the normalized path; None for the root. Raises BadInput: UNSAFE_ARCHIVE."""
    if len(name) > limits.MAX_PATH_LENGTH:  # before it is composed, which takes the square of the time
        raise _too_long(filename, name)
    path = unicodedata.normalize("NFC", name.replace("\\", "/"))
    if path.startswith("/") or _DRIVE.match(path):
        raise _unsafe(filename, name, "has an absolute path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _unsafe(filename, name, "leaves the archive by `..`")
    clean = "/".join(parts)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in clean) or len(clean.encode()) > limits.MAX_PATH_LENGTH:
        raise _too_long(filename, name)
    return clean or None


def _is_ignored(path: str) -> bool:
    *folders, name = path.split("/")
    return (
        name.lower() in _IGNORED_NAMES
        or name.startswith(".")
        or any(folder.lower() in _IGNORED_FOLDERS or folder.startswith(".") for folder in folders)
        or _DOCUMENTS.fullmatch(name) is not None
    )


def _unreadable(filename: str, reason: str) -> BadInput:
    return BadInput("UNREADABLE_FILE", f"{filename!r} cannot be read: {reason}. Pack and upload it again.")


def _unsafe(filename: str, member: str, reason: str) -> BadInput:
    return BadInput("UNSAFE_ARCHIVE", f"{filename!r} is refused: {short_repr(member)} {reason}. Pack plain files and folders alone.")


def _too_long(filename: str, member: str) -> BadInput:
    return _unsafe(filename, member, f"has control characters or more than {limits.MAX_PATH_LENGTH:,} bytes in its name")


def too_many(filename: str, count: int | None) -> BadInput:
    found = f"{count:,}" if count is not None else "more"
    return BadInput(
        "TOO_MANY_ITEMS", f"{filename!r} has {found} members; the maximum is {limits.MAX_MEMBERS:,}. Upload it as several versions."
    )


def too_large(filename: str, size: int) -> BadInput:
    return BadInput(
        "ARCHIVE_TOO_LARGE",
        f"{filename!r} has {size:,} bytes and unfolds to more than {unpacked_limit(size):,}, which is the maximum. Leave out what only repeats.",
    )
