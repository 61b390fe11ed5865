"""SEG-Y files: gathers as items, in both byte orders, and damaged headers named by their bytes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segyio

from tests.archives import zip_of
from tests.workers.ingest_runner import ingest_error, items_of, run_ingest
from workers.ml.items.segy import ibm_floats


def segy(
    traces: Any, *, order: str = ">", code: int = 5, interval: int = 2_000, ascii_text: bool = False, ensemble: Any = None, **changes: int
) -> bytes:
    """A file of the traces, each of which is of the ensemble (CDP) of the same index."""
    count, samples = traces.shape
    text = "C 1 made for a test".ljust(3_200).encode("ascii" if ascii_text else "cp037")
    binary = bytearray(400)
    struct.pack_into(f"{order}H", binary, 16, changes.get("interval_field", interval))
    struct.pack_into(f"{order}H", binary, 20, changes.get("samples_field", samples))
    struct.pack_into(f"{order}h", binary, 24, changes.get("code_field", code))
    struct.pack_into(f"{order}h", binary, 304, changes.get("extended_field", 0))
    binary[300] = 1
    body = bytearray()
    kind = {1: "u4", 2: "i4", 3: "i2", 5: "f4", 8: "i1"}[code]
    for number in range(count):
        header = bytearray(240)
        struct.pack_into(f"{order}i", header, 20, 0 if ensemble is None else ensemble[number])
        struct.pack_into(f"{order}HH", header, 114, changes.get("trace_samples", samples), interval)
        body += header + traces[number].astype(f"{order}{kind}").tobytes()
    return text + bytes(binary) + bytes(body)


TRACES = np.sin(2 * np.pi * 25 * np.arange(250) / 500)[None, :] * np.arange(1, 7)[:, None]


def test_ibm_floats_are_those_of_the_manual() -> None:
    words = np.array([0x42640000, 0xC276A000, 0x00000000, 0x40800000, 0x7FFFFFFF], dtype=np.uint32)
    assert ibm_floats(words).tolist() == [100.0, -118.625, 0.0, 0.5, pytest.approx(7.2370051459731155e75)]


@pytest.mark.parametrize(
    ("options", "details"),
    [
        ({}, {"format": "IEEE float", "byteOrder": "big", "textHeader": "EBCDIC"}),
        ({"order": "<", "ascii_text": True}, {"format": "IEEE float", "byteOrder": "little", "textHeader": "ASCII"}),
        ({"code": 2, "order": "<"}, {"format": "32-bit integer", "byteOrder": "little", "textHeader": "EBCDIC"}),
        ({"code": 3}, {"format": "16-bit integer", "byteOrder": "big", "textHeader": "EBCDIC"}),
        ({"code": 8}, {"format": "8-bit integer", "byteOrder": "big", "textHeader": "EBCDIC"}),
    ],
)
def test_the_gathers_of_a_file_are_items_at_their_place(options: dict[str, Any], details: dict[str, Any], tmp_path: Path) -> None:
    traces = np.round(TRACES * 20) if "code" in options else TRACES
    content = segy(traces, ensemble=[7, 7, 8, 8, 8, 9], **options)
    result, _ = run_ingest(tmp_path, content, "line.sgy", modality="SIGNAL")
    items = items_of(result)
    assert result["format"] == "SEGY"
    assert [(item["key"], item["info"]["channels"]) for item in items] == [("cdp/7", 2), ("cdp/8", 3), ("cdp/9", 1)]
    assert "items" in result
    geometry: Any = result["items"]["summary"].get("signal")
    assert (geometry["traces"], geometry["samples"], geometry["sample_rate"]) == (6, 250, 500.0)
    assert geometry["details"].items() >= details.items()
    for item, rows in zip(items, (traces[:2], traces[2:5], traces[5:]), strict=True):
        assert item["features"]["rms"] == pytest.approx(np.sqrt((rows**2).mean()), rel=1e-5)
        assert item["features"]["peak"] == pytest.approx(np.abs(rows).max(), rel=1e-6)
        assert item["features"]["dominant_frequency"] == pytest.approx(25, abs=2)
        assert item["stored_size"] == len(rows) * geometry["details"]["traceBytes"]
    assert items[1]["byte_offset"] == 3_600 + 2 * geometry["details"]["traceBytes"]


@pytest.mark.parametrize("code", [1, 5])
@pytest.mark.parametrize("order", ["big", "little"])
def test_a_file_that_segyio_wrote_is_read_as_segyio_reads_it(code: int, order: str, tmp_path: Path) -> None:
    path = tmp_path / "line.sgy"
    spec: Any = segyio.spec()
    spec.format, spec.samples, spec.tracecount, spec.endian = code, range(0, 500, 2), 6, order
    created: Any = segyio.create(path, spec)
    with created as file:
        file.bin.update({segyio.BinField.Interval: 2_000, segyio.BinField.Format: code})
        file.text[0] = segyio.create_text_header({1: "A LINE"})
        for number, trace in enumerate(TRACES * 1.7):
            file.header[number].update({segyio.TraceField.CDP: number // 2, segyio.TraceField.TRACE_SAMPLE_INTERVAL: 2_000})
            file.trace[number] = trace.astype(np.float32)
    opened: Any = segyio.open(path, strict=False, ignore_geometry=True, endian=order)
    with opened as file:
        expected = np.array(file.trace.raw[:], dtype=np.float64)
    result, _ = run_ingest(tmp_path, path.read_bytes(), "line.sgy", modality="SIGNAL")
    items = items_of(result)
    assert len(items) == 3
    for number, item in enumerate(items):
        rows = expected[2 * number : 2 * number + 2]
        assert item["info"]["sample_rate"] == 500
        assert item["features"]["rms"] == pytest.approx(np.sqrt((rows**2).mean()), rel=1e-9)
        assert item["features"]["peak"] == pytest.approx(np.abs(rows).max(), rel=1e-9)


def test_traces_without_ensembles_are_blocks_and_a_file_in_an_archive_is_one_item(tmp_path: Path) -> None:
    result, _ = run_ingest(tmp_path, segy(np.repeat(TRACES, 40, axis=0)), "line.segy", modality="SIGNAL")
    assert [item["key"] for item in items_of(result)] == ["traces/001-100", "traces/101-200", "traces/201-240"]
    result, _ = run_ingest(tmp_path, zip_of({"a/1.sgy": segy(TRACES), "b/2.sgy": segy(TRACES * 2)}), "lines.zip", modality="SIGNAL")
    assert [(item["key"], item["label"], item["info"]["channels"]) for item in items_of(result)] == [
        ("a/1.sgy", "a", 6),
        ("b/2.sgy", "b", 6),
    ]


def test_the_trace_header_counts_where_the_binary_header_does_not_fit(tmp_path: Path) -> None:
    result, _ = run_ingest(tmp_path, segy(TRACES, samples_field=999, interval_field=0), "line.sgy", modality="SIGNAL")
    assert [issue["code"] for issue in result["issues"]] == ["SAMPLES_OF_TRACE", "INTERVAL_OF_TRACE"]
    assert items_of(result)[0]["info"]["samples"] == 250


DAMAGED: list[tuple[bytes, str]] = [
    (segy(TRACES)[:3_000], "has 3,000 bytes, and the headers alone"),
    (segy(TRACES, code_field=77), "has the format code 77 in bytes 3225-3226 (19712 if they are swapped)"),
    (
        segy(TRACES)[:-100],
        "250 samples a trace (bytes 3221-3222) of 4 bytes (format 5, bytes 3225-3226) make traces of 1,240 bytes, and the 7,340",
    ),
    (segy(TRACES, samples_field=251, trace_samples=252), "Its first trace header says 252 samples (bytes 115-116)"),
    (segy(TRACES, samples_field=0, trace_samples=9), "says 0 samples a trace in bytes 3221-3222, and 9 in the first trace header"),
    (segy(TRACES, extended_field=-1), "has -1 extended textual headers by bytes 3505-3506"),
]


@pytest.mark.parametrize(("content", "words"), DAMAGED)
def test_a_damaged_header_is_named_by_its_bytes(content: bytes, words: str, tmp_path: Path) -> None:
    error = ingest_error(tmp_path, content, "line.sgy", modality="SIGNAL")
    assert (error.code, words in error.message) == ("UNREADABLE_FILE", True), error.message
