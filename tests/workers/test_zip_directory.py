"""The directory of a ZIP archive is read as Python's own library reads it, and a damaged one is refused."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from workers.ml.errors import BadInput
from workers.ml.items.archive import zip_members
from workers.ml.items.zip_directory import BadDirectory, Entry, entries, find_directory


def packed(*, comment: bytes = b"", prefix: bytes = b"") -> bytes:
    target = io.BytesIO(prefix)
    target.seek(len(prefix))
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in {"a/1.csv": b"x" * 300, "b/": b"", "Käse/日本.csv": b"y" * 20, "empty.csv": b""}.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        info = zipfile.ZipInfo("mode.csv")
        info.external_attr, info.extra, info.comment = 0o120777 << 16, b"\x99\x99\x02\x00ab", b"a comment"
        archive.writestr(info, b"z")
        archive.comment = comment
    return target.getvalue()


def read(data: bytes) -> list[Entry]:
    file = io.BytesIO(data)
    return list(entries(file, find_directory(file, len(data))))


@pytest.mark.parametrize("is_large", [False, True])
def test_entries_are_those_that_the_library_finds(monkeypatch: pytest.MonkeyPatch, is_large: bool) -> None:
    if is_large:
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)  # sizes and places in the fields for archives of many gigabytes
    for data in (packed(), packed(comment=b"PK\x06\x07" + bytes(100)), packed(prefix=b"#!/bin/sh\n" * 50), packed(comment=b"c" * 65_535)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            expected = [
                (info.filename, info.is_dir(), info.compress_type, info.CRC, info.compress_size, info.file_size, info.header_offset)
                for info in archive.infolist()
            ]
        found = read(data)
        assert [(each.name, each.is_folder, each.method, each.crc, each.packed_size, each.size, each.header) for each in found] == expected
        assert found[-1].mode == 0o120777


def test_a_name_without_a_sign_of_utf8_is_utf8_or_cp437() -> None:
    data = packed().replace("Käse".encode(), b"K\x84se\xff")  # as DOS wrote it, with a length that stays
    # The sign of UTF-8 is still there, so the name is none.
    with pytest.raises(BadDirectory, match="a name in it is no UTF-8"):
        read(data)
    directory = bytearray(data)
    start = 0
    while (start := directory.find(b"PK\x01\x02", start)) >= 0:
        directory[start + 9] &= ~0x08
        start += 1
    assert read(bytes(directory))[2].name == (b"K\x84se\xff/" + "日本.csv".encode()).decode("cp437")


def test_a_damaged_directory_is_refused_and_nothing_else_happens() -> None:
    data = packed(comment=b"end")
    generator = random.Random(7)
    start = data.index(b"PK\x01\x02")
    for _ in range(2_000):
        damaged = bytearray(data)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(start, len(data))] = generator.choice([0, 1, 0xFF, generator.randrange(256)])
        with suppress(BadDirectory):
            read(bytes(damaged[: generator.choice([len(damaged), generator.randrange(start, len(damaged))])]))


@pytest.mark.parametrize(("packed_size", "header"), [(1, 2**64 - 1), (1, 2**63 - 1), (1, 2**63), (1, 10**6), (2**64 - 1, 0), (10**6, 0)])
def test_a_file_that_lies_where_none_can_is_refused_by_its_name(tmp_path: Path, packed_size: int, header: int) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.csv", b"x")
    data = content.getvalue()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    large = struct.pack("<HHQQ", 1, 16, packed_size, header)
    directory, tail = bytearray(data[start:end] + large), bytearray(data[end:])
    struct.pack_into("<I", directory, 20, 2**32 - 1)
    struct.pack_into("<H", directory, 30, len(large))
    struct.pack_into("<I", directory, 42, 2**32 - 1)
    struct.pack_into("<I", tail, 12, len(directory))
    path = tmp_path / "a.zip"
    path.write_bytes(data[:start] + directory + tail)
    with pytest.raises(BadInput, match=r"the place of .a\.csv. in it is wrong") as refused:
        zip_members(path, "a.zip")
    assert refused.value.code == "UNREADABLE_FILE"
