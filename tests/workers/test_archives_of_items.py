"""Archives and their members: each is read or refused with a reason, and nothing is written where an archive says."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from tests.archives import csv_of, npy_of, tar_of, vibration, wav_of, zip_of, zip_with_excess
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from workers.ml.items import limits

SIGNAL = csv_of(vibration(5, 1, length=50))
FILES = {"a/1.csv": SIGNAL, "b/2.csv": csv_of(vibration(5, 2, length=50))}


def signals(folder: Path, data: bytes, name: str = "s.zip", **changes: Any) -> list[dict[str, Any]]:
    """The items that the file has."""
    result, _ = run_ingest(folder, data, name, modality="SIGNAL", **changes)
    return items_of(result)


def refused(folder: Path, data: bytes, name: str = "s.zip") -> tuple[str, str]:
    error = ingest_error(folder, data, name, modality="SIGNAL")
    assert {path.name for path in folder.iterdir()} <= {"raw", "items.pack", "items.jsonl", "items.previews"}
    return error.code, error.message


def _zip_with(name: str = "a/1.csv", change: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> bytes:
    target, info = io.BytesIO(), zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    change(info)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(info, SIGNAL)
    return target.getvalue()


def _with_mode(mode: int) -> Callable[[zipfile.ZipInfo], None]:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = mode << 16

    return change


def _tar_with(kind: bytes, name: str = "a/1.csv", target_name: str = "") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target_name
        archive.addfile(info)
    return target.getvalue()


def _encrypted() -> bytes:
    data = bytearray(zip_of(FILES))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = data.find(mark)
        while position >= 0:
            data[position + offset] |= 1
            position = data.find(mark, position + 1)
    return bytes(data)


def _overlapping() -> bytes:
    """Two entries of the directory that lead to the same bytes."""
    data = bytearray(zip_of({"a/1.csv": SIGNAL, "b/2.csv": SIGNAL}))
    second = data.rfind(b"PK\x01\x02")
    data[second + 42 : second + 46] = bytes(4)
    return bytes(data)


def _bzip2() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/1.csv", SIGNAL)
    return target.getvalue()


def _announced(count: int) -> bytes:
    data = bytearray(zip_of(FILES))
    end = data.rfind(b"PK\x05\x06")
    locator = data[:end] + struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, 10, 0)
    return bytes(locator) + struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1) + bytes(data[end:])


BOMB = zip_of({"a/1.csv": bytes(8 << 20)})
REFUSED: dict[str, tuple[bytes, str, str, str]] = {
    "no end": (zip_of(FILES)[:-30], "s.zip", "UNREADABLE_FILE", "its end is missing"),
    "no members": (zip_of({}), "s.zip", "EMPTY_FILE", "contains no files"),
    "ignored members alone": (zip_of({"__MACOSX/a.csv": b"x", "x/.DS_Store": b"x"}), "s.zip", "EMPTY_FILE", "contains no files"),
    "no signals": (zip_of({"a/1.exe": b"MZ", "a/2.py": b"pass"}), "s.zip", "NO_ITEMS", "none of its 2 files ends in .csv, .mat"),
    "a parent folder": (zip_of({"../../etc/cron.d/x.csv": SIGNAL}), "s.zip", "UNSAFE_ARCHIVE", "leaves the archive by `..`"),
    "a parent folder of Windows": (zip_of({"a\\..\\..\\x.csv": SIGNAL}), "s.zip", "UNSAFE_ARCHIVE", "leaves the archive by `..`"),
    "an absolute path": (zip_of({"/etc/x.csv": SIGNAL}), "s.zip", "UNSAFE_ARCHIVE", "has an absolute path"),
    "a drive": (zip_of({"C:/x.csv": SIGNAL}), "s.zip", "UNSAFE_ARCHIVE", "has an absolute path"),
    "a control character": (zip_of({"a/\x1b[2J.csv": SIGNAL}), "s.zip", "UNSAFE_ARCHIVE", "control characters"),
    "a long name": (zip_of({"a/" + "x" * 2_000 + ".csv": SIGNAL}), "s.zip", "UNSAFE_ARCHIVE", "more than 1,000 bytes"),
    "a link": (_zip_with(change=_with_mode(0o120777)), "s.zip", "UNSAFE_ARCHIVE", "is a link"),
    "a pipe": (_zip_with(change=_with_mode(0o010644)), "s.zip", "UNSAFE_ARCHIVE", "is a device or a pipe"),
    "encrypted": (_encrypted(), "s.zip", "ENCRYPTED_ARCHIVE", "needs a password"),
    "nested": (zip_of({"a/1.csv": SIGNAL, "b/inner.zip": zip_of(FILES)}), "s.zip", "NESTED_ARCHIVE", "'b/inner.zip' in 's.zip'"),
    "overlapping": (_overlapping(), "s.zip", "UNSAFE_ARCHIVE", "lies in the bytes of"),
    "another method": (_bzip2(), "s.zip", "UNSUPPORTED_FORMAT", "is compressed with bzip2"),
    "too many members": (_announced(limits.MAX_MEMBERS + 1), "s.zip", "TOO_MANY_ITEMS", "has 200,001 members; the maximum is 200,000"),
    "a bomb": (BOMB, "s.zip", "ARCHIVE_TOO_LARGE", "unfolds to more than"),
    "the same name twice": (
        tar_of({"a/1.csv": SIGNAL}).rstrip(b"\0")
        + bytes(-len(tar_of({"a/1.csv": SIGNAL}).rstrip(b"\0")) % 512)
        + tar_of({"a/1.csv": SIGNAL}),
        "s.tar",
        "DUPLICATE_MEMBER",
        "'1.csv' twice",
    ),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "s.zip", "UNSUPPORTED_FORMAT", "is a 7-Zip archive"),
    "RAR": (b"Rar!\x1a\x07\x01\x00" + bytes(50), "s.zip", "UNSUPPORTED_FORMAT", "is a RAR archive"),
    "a tar with a symbolic link": (_tar_with(tarfile.SYMTYPE, target_name="/etc/passwd"), "s.tar", "UNSAFE_ARCHIVE", "is a link"),
    "a tar with a hard link": (_tar_with(tarfile.LNKTYPE, target_name="../x"), "s.tar", "UNSAFE_ARCHIVE", "is a link"),
    "a tar with a device": (_tar_with(tarfile.CHRTYPE), "s.tar", "UNSAFE_ARCHIVE", "is a device or a pipe"),
    "a tar with a parent folder": (_tar_with(tarfile.REGTYPE, "../../x.csv"), "s.tar", "UNSAFE_ARCHIVE", "leaves the archive by `..`"),
    "a tar that is cut off": (tar_of(FILES)[:1_900], "s.tar", "UNREADABLE_FILE", "cut off"),
    "a tar with a damaged header": (tar_of(FILES).replace(b"b/2.csv", b"b/2.csw"), "s.tar", "UNREADABLE_FILE", "cut off after 'a/1.csv'"),
    "a gzip that is cut off": (gzip.compress(tar_of(FILES))[:-40], "s.tar.gz", "UNREADABLE_FILE", "damaged or cut off"),
    "a gzip with a wrong checksum": (gzip.compress(tar_of(FILES))[:-8] + bytes(8), "s.tgz", "UNREADABLE_FILE", "damaged or cut off"),
    "a gzip of no tar": (gzip.compress(SIGNAL), "s.csv.gz", "UNSUPPORTED_FORMAT", "a compressed file that is no tar archive"),
    "a gzip bomb": (gzip.compress(bytes(8 << 20)), "s.tar.gz", "ARCHIVE_TOO_LARGE", "unfolds to more than"),
    "a Zstandard that is cut off": (zstandard.compress(tar_of(FILES))[:-9], "s.tar.zst", "UNREADABLE_FILE", "damaged or cut off"),
    "nothing known": (b"\x00\x01\x02" * 99, "s.bin", "UNSUPPORTED_FORMAT", "neither an archive nor a file of signals"),
    "an empty file": (b"", "s.zip", "EMPTY_FILE", "0 bytes"),
    "objects in an array": (npy_of(np.array([{"a": 1}], dtype=object)), "s.npy", "UNREADABLE_FILE", "Python objects, which are not loaded"),
    "an array that says too much": (
        npy_of(np.zeros(9)).replace(b"(9,), }     ", b"(99999999,),}"),
        "s.npy",
        "UNREADABLE_FILE",
        "its header says 99999999",
    ),
    "texts in an array": (npy_of(np.array(["a", "b"])), "s.npy", "UNREADABLE_FILE", "and not numbers"),
    "an array of three axes": (npy_of(np.zeros((3, 4, 5))), "s.npy", "UNREADABLE_FILE", "has the shape 3×4×5"),
    "one sample": (npy_of(np.zeros(1)), "s.npy", "NO_ITEMS", "none of its arrays has more than one value"),
    "a wave that is cut off": (
        wav_of(vibration(5, 1) / 2)[:-900],
        "s.wav",
        "UNREADABLE_FILE",
        "is cut off: it says that it has 2,000 bytes",
    ),
    "a wave without samples": (wav_of(vibration(5, 1) / 2)[:36], "s.wav", "UNREADABLE_FILE", "the chunk `data` is missing"),
    "a wave in A-law": (wav_of(vibration(5, 1) / 2).replace(b"\x10\0\0\0\1\0", b"\x10\0\0\0\6\0"), "s.wav", "UNREADABLE_FILE", "A-law"),
    "text": (b"nothing but words\nof no use\n", "s.csv", "UNREADABLE_FILE", "has no column of numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_safe_or_not_whole_is_refused_with_a_reason(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MIN_RATIO_BYTES", 4 << 20)  # so that bombs may be small
    data, name, code, words = REFUSED[case]
    found, message = refused(tmp_path, data, name)
    assert (found, words in message) == (code, True), message


def test_a_pickle_in_an_archive_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harmed"),)

    harmful = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(127) + b"\n" + pickle.dumps(Harm())
    items = signals(tmp_path, zip_of({f"{label}/{number}.csv": SIGNAL for label in "ab" for number in range(9)} | {"a/harm.npy": harmful}))
    assert [item["key"] for item in items if item["info"] is None] == ["a/harm.npy"]
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("data", "name", "packed"),
    [
        (zip_of(FILES), "s.zip", False),
        (zip_of(FILES, compressed=False), "s.zip", False),
        (zip_of({f"top/{name}": content for name, content in FILES.items()}), "s.zip", False),
        (tar_of(FILES), "s.tar", False),
        (gzip.compress(tar_of(FILES)), "s.tar.gz", True),
        (zstandard.compress(tar_of(FILES)), "s.tar.zst", True),
    ],
)
def test_the_bytes_of_an_item_are_at_its_place(data: bytes, name: str, packed: bool, tmp_path: Path) -> None:
    items = signals(tmp_path, data, name)
    assert [(item["key"], item["label"], item["in_pack"]) for item in items] == [("a/1.csv", "a", packed), ("b/2.csv", "b", packed)]
    source = (tmp_path / "items.pack").read_bytes() if packed else data
    for item in items:
        stored = source[item["byte_offset"] : item["byte_offset"] + item["stored_size"]]
        content = zlib.decompress(stored, -15) if item["storage"] == "deflated" else stored
        assert content == FILES[item["key"]]


def test_more_than_a_tenth_of_corrupt_items_is_too_many(tmp_path: Path) -> None:
    files = {f"a/{number}.csv": csv_of(vibration(5, number, length=20)) for number in range(9)}
    code, message = refused(tmp_path, zip_of(files | {"b/x.npy": b"x", "b/y.npy": b"y"}))
    assert (code, message.partition(",")[0]) == ("CORRUPT_ITEMS", "2 of 11 signals in 's.zip' cannot be read")
    damaged = bytearray(zip_of(files | {"b/x.csv": SIGNAL}, compressed=False))
    damaged[damaged.rfind(b"acceleration")] ^= 1
    items = signals(tmp_path, bytes(damaged))
    assert [issue["message"] for item in items for issue in item["issues"]] == ["The file is damaged: its checksum is wrong."]


def test_what_follows_the_compressed_bytes_of_an_item_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ITEM_BYTES", 1 << 20)
    files = {f"a/{number}.csv": csv_of(vibration(5, number, length=20)) for number in range(9)}
    items = signals(tmp_path, zip_with_excess(zip_of(files), "b/1.csv", SIGNAL, 1 << 20))
    assert [(item["key"], item["issues"][0]["message"].rpartition(";")[2]) for item in items if item["issues"]] == [
        ("b/1.csv", " the maximum is 1,048,576.")
    ]


METADATA = b"file_name,label,split,severity,motor\n1.csv,good,train,low,A\n2.csv,bad,dev,,B\nmissing.csv,bad,test,,\n"


def test_a_manifest_says_more_than_folders(tmp_path: Path) -> None:
    data = zip_of({"metadata.csv": METADATA, "1.csv": SIGNAL, "2.csv": FILES["b/2.csv"]})
    result, frame = run_ingest(tmp_path, data, "s.zip", modality="SIGNAL")
    items = items_of(result)
    assert [(item["key"], item["label"], item["split"], item["severity"], item["metadata"]) for item in items] == [
        ("1.csv", "good", "train", "low", {"motor": "A"}),
        ("2.csv", "bad", "validation", None, {"motor": "B"}),
    ]
    assert [issue["code"] for issue in result["issues"]] == ["MISSING_FILES"]
    assert frame["severity"].to_list() == ["low", None]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("x/train/a/1", "x/val/b/2"), [("a", "train", None), ("b", "validation", None)]),
        (("a/train/1", "b/test/2"), [("a", "train", None), ("b", "test", None)]),
        (("train/1", "test/2"), [(None, "train", None), (None, "test", None)]),
        (("a/low/1", "b/high/2"), [("a", None, "low"), ("b", None, "high")]),
        (("a/1", "b/low/2"), [("a", None, None), ("b", None, None)]),
        (("1", "2"), [(None, None, None), (None, None, None)]),
        (("a/b/c/d/1", "a/b/c/e/2"), [(None, None, None), (None, None, None)]),
    ],
)
def test_folders_are_splits_labels_and_severities(paths: tuple[str, str], expected: list[Any], tmp_path: Path) -> None:
    items = signals(tmp_path, zip_of({f"{path}.csv": content for path, content in zip(paths, FILES.values(), strict=True)}))
    assert [(item["label"], item["split"], item["severity"]) for item in items] == expected


def test_the_parts_of_one_file_are_items(tmp_path: Path) -> None:
    rows = np.stack([vibration(5, seed, length=200) for seed in range(3)])
    target = io.BytesIO()
    np.savez(target, X=rows, y=np.array(["a", "b", "a"]), fs=np.array(100))
    compressed = io.BytesIO()
    np.savez_compressed(compressed, X=rows.T, labels=np.array([0.0, 1.0, 0.0]))
    for data, name, expected in (
        (npy_of(rows[0]), "s.npy", [("signal", None, 200, 50.0)]),
        (npy_of(rows.T), "s.npy", [(f"signal/{number}", None, 200, 50.0) for number in (1, 2, 3)]),
        (compressed.getvalue(), "s.npz", [("X/1", "0", 200, 50.0), ("X/2", "1", 200, 50.0), ("X/3", "0", 200, 50.0)]),
        (target.getvalue(), "s.npz", [("X/1", "a", 200, 100.0), ("X/2", "b", 200, 100.0), ("X/3", "a", 200, 100.0)]),
        (wav_of(rows[0] / 2), "s.wav", [("signal", None, 200, 1_000.0)]),
        (csv_of(rows[0], 200), "s.csv", [("signal", None, 200, 200.0)]),
        (
            b"t [ms];x;y\n" + b"".join(b"%d,0;0,5;%d\n" % (n, n) for n in range(9)),
            "s.csv",
            [("x", None, 9, 1_000.0), ("y", None, 9, 1_000.0)],
        ),
    ):
        items = signals(tmp_path, data, name, reading={"sampleRate": 50.0})
        found = [(item["key"], item["label"], item["info"]["samples"], item["info"]["sample_rate"]) for item in items]
        assert found == [(key, label, samples, pytest.approx(rate)) for key, label, samples, rate in expected]
        assert all(item["in_pack"] for item in items)
