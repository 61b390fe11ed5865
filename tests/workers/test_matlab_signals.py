"""MATLAB files of both kinds: their vectors are signals, and nothing else in them is read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.archives import vibration, zip_of
from tests.lazy_module import LazyModule
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from workers.ml.items import limits

SCIPY_IO: Any = LazyModule("scipy.io")
DRIVE, FAN = vibration(50, 1), vibration(20, 2)


def mat_5(**variables: Any) -> bytes:
    target = io.BytesIO()
    SCIPY_IO.savemat(target, variables, do_compression=True)
    return target.getvalue()


def mat_73(**variables: Any) -> bytes:
    target = io.BytesIO()
    with h5py.File(target, "w", userblock_size=512) as file:
        for name, value in variables.items():
            file[name] = value if isinstance(value, h5py.ExternalLink) else np.atleast_2d(value)
    content = bytearray(target.getvalue())
    content[:19] = b"MATLAB 7.3 MAT-file"
    return bytes(content)


@pytest.mark.parametrize("content", [mat_5(X097_DE=DRIVE, X097_FE=FAN, fs=1_000.0, note="x", cells=np.array([1, "a"], dtype=object)), mat_73(
    X097_DE=DRIVE, X097_FE=FAN, fs=1_000.0, outside=h5py.ExternalLink("/etc/hostname", "/"))], ids=["5", "7.3"])  # fmt: skip
def test_the_vectors_of_a_file_are_items_and_of_a_file_in_an_archive_channels(content: bytes, tmp_path: Path) -> None:
    result, _ = run_ingest(tmp_path, content, "97.mat", modality="SIGNAL")
    assert result["format"] == "MAT"
    assert [(item["key"], item["info"]["sample_rate"], item["features"]["dominant_frequency"]) for item in items_of(result)] == [
        ("X097_DE", 1_000, 50),
        ("X097_FE", 1_000, 20),
    ]
    result, frame = run_ingest(tmp_path, zip_of({"a/1.mat": content, "b/2.mat": content}), "m.zip", modality="SIGNAL")
    (first, second) = items_of(result)
    assert (first["key"], first["info"]["channels"], first["features"]["rms_2"]) == ("a/1.mat", 2, pytest.approx(np.sqrt((FAN**2).mean())))
    assert [issue["code"] for issue in second["issues"]] == ["DUPLICATE_ITEM", "CONTRADICTING_LABEL"]
    assert frame["dominant_frequency_2"].to_list() == [20, 20]


DAMAGED: list[tuple[bytes, str]] = [
    (mat_5(x=DRIVE)[:400], "is a damaged MATLAB file"),
    (mat_5(note="x"), "has no variable that is an array of numbers"),
    (mat_73(x=DRIVE)[:900], "is a damaged MATLAB 7.3 file"),
    (mat_73(outside=h5py.ExternalLink("/etc/hostname", "/")), "has no variable that is an array of numbers"),
]


def bomb(size: int) -> bytes:
    packed = zlib.compress(bytes(size))
    return mat_5(x=DRIVE)[:128] + struct.pack("<II", 15, len(packed)) + packed


def test_a_damaged_file_and_one_without_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ITEM_BYTES", 1 << 20)  # so that the bomb may be small
    for content, words in (*DAMAGED, (bomb(8 << 20), "unfolds to more than")):
        error = ingest_error(tmp_path, content, "97.mat", modality="SIGNAL")
        assert (error.code, words in error.message) == ("UNREADABLE_FILE", True), error.message
