"""The directory of a ZIP archive (PKWARE's APPNOTE 6.3.10), entry by entry: `zipfile` makes an object of a kilobyte for each, before any is looked at."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

_END: Final = b"PK\x05\x06"
_END64_LOCATOR: Final = b"PK\x06\x07"
_END64: Final = b"PK\x06\x06"
_ENTRY: Final = struct.Struct("<4s4xHH4xIIIHHH4xII")
_ENTRY_MARK: Final = b"PK\x01\x02"
_END_SIZE, _LOCATOR_SIZE, _END64_SIZE = 22, 20, 56
_MAX_COMMENT: Final = 65_535 + _END_SIZE + _LOCATOR_SIZE
_UTF8_BIT: Final = 0x800
_SIZES_ELSEWHERE: Final = 0xFFFF_FFFF
_ZIP64_FIELD: Final = 1


class Readable(Protocol):
    """What is needed of a file."""

    def seek(self, position: int, /) -> object: ...

    def read(self, size: int = -1, /) -> bytes: ...


class BadDirectory(Exception):
    """The message says what is wrong with the archive."""


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the directory lies, as the end of the archive says. `shift` is what was put before the archive, such as a program that unpacks it."""

    count: int
    start: int
    size: int
    shift: int


@dataclass(frozen=True, slots=True)
class Entry:
    """`mode` is that of the system that packed it, with its type; `header` is where the file begins."""

    name: str
    is_folder: bool
    flags: int
    method: int
    mode: int
    crc: int
    packed_size: int
    size: int
    header: int


def find_directory(file: Readable, size: int) -> Directory:
    """Raises `BadDirectory`."""
    first = max(0, size - _MAX_COMMENT)
    file.seek(first)
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or len(tail) - end < _END_SIZE:
        raise BadDirectory("its end is missing, as if it was not sent whole")
    count, directory_size, offset = struct.unpack_from("<HII", tail, end + 10)
    after = first + end
    locator = end - _LOCATOR_SIZE
    if locator >= 0 and tail.startswith(_END64_LOCATOR, locator) and after >= _LOCATOR_SIZE + _END64_SIZE:
        file.seek(after - _LOCATOR_SIZE - _END64_SIZE)
        record = file.read(_END64_SIZE)
        if record.startswith(_END64):
            count, directory_size, offset = struct.unpack_from("<QQQ", record, 32)
            after -= _LOCATOR_SIZE + _END64_SIZE
    start = after - directory_size
    if start < 0 or start < offset:
        raise BadDirectory("its directory is damaged or missing, as if it was not sent whole")
    return Directory(count, start, directory_size, start - offset)


def entries(file: Readable, directory: Directory) -> Iterator[Entry]:
    """Yield the entries in their order. The file may be moved between them. Raises `BadDirectory`."""
    file.seek(directory.start)
    content = file.read(directory.size)
    position = 0
    while position < len(content):
        if len(content) - position < _ENTRY.size or not content.startswith(_ENTRY_MARK, position):
            raise BadDirectory("its directory is damaged or cut off")
        _, flags, method, crc, packed_size, size, name_size, extra_size, comment_size, attributes, header = _ENTRY.unpack_from(
            content, position
        )
        position += _ENTRY.size
        raw_name = content[position : position + name_size]
        extra = content[position + name_size : position + name_size + extra_size]
        position += name_size + extra_size + comment_size
        if position > len(content):
            raise BadDirectory("its directory is damaged or cut off")
        if _SIZES_ELSEWHERE in (size, packed_size, header):
            size, packed_size, header = _large_sizes(extra, size, packed_size, header)
        name = _decoded(raw_name, is_utf8=bool(flags & _UTF8_BIT))
        mode = attributes >> 16
        yield Entry(name, name.endswith("/"), flags, method, mode, crc, packed_size, size, header + directory.shift)


def _decoded(name: bytes, *, is_utf8: bool) -> str:
    """macOS writes UTF-8 without saying so; every byte is a letter of cp437. A name ends at a null, as for C programs."""
    name = name.partition(b"\0")[0]
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        if is_utf8:
            raise BadDirectory("a name in it is no UTF-8") from error
        return name.decode("cp437")


def _large_sizes(extra: bytes, *values: int) -> tuple[int, int, int]:
    """The values, those that do not fit in 32 bits taken from the field ZIP64, which has them in this order."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        field = extra[position + 4 : position + 4 + length]
        position += 4 + length
        if kind != _ZIP64_FIELD:
            continue
        numbers = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
        size, packed_size, header = (next(numbers, None) if value == _SIZES_ELSEWHERE else value for value in values)
        if size is None or packed_size is None or header is None:
            break
        return size, packed_size, header
    raise BadDirectory("the sizes of a large file in it are missing")
