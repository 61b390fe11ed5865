"""A reading that is interrupted repeatedly resumes after its checkpointed rows and writes the same file as an uninterrupted one."""

from __future__ import annotations

import hashlib
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.archives import zip_of
from tests.exhaustive import exhaustive
from tests.workers.ingest_runner import IngestRecorder, column_types, issue_locations, run_ingest
from workers.ml import limits
from workers.ml.ingest import IngestResult, ingest

ROWS = 1_500


class Interrupted(BaseException):
    """Stands for a SIGKILL."""


class InterruptingRecorder(IngestRecorder):
    """Keeps parts as the worker does, of each name only the furthest one. Interrupts the reading after some blocks."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.parts: dict[str, tuple[int, dict[str, Any], bytes]] = {}
        self.blocks_left = 0
        self.restarts = 0
        self.folder = folder

    def progress(self, percent: float, step: str) -> None:
        if "rows" in step:
            self.blocks_left -= 1
            if self.blocks_left == 0:
                self.nodes.clear()  # another attempt has nodes of its own
                raise Interrupted
        super().progress(percent, step)

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        if name == "table":
            return
        assert file is not None
        assert disposable
        assert position > self.parts.get(name, (-1,))[0], "positions only grow"
        self.parts[name] = position, json.loads(json.dumps(state)), file.read_bytes()
        file.unlink()

    def restarted(self, name: str, message: str) -> None:
        self.restarts += 1
        assert message.endswith("they are read again.")
        assert name in self.parts
        self.parts.clear()

    def resumable_parts(self) -> list[dict[str, Any]]:
        """Return the parts up to the first that does not start where the previous one ends."""
        resumable: list[dict[str, Any]] = []
        while (part := self.parts.get(f"rows-{len(resumable) + 1:04}")) is not None:
            _, state, content = part
            if state["after"] != (resumable[-1]["rows"] if resumable else 0) or (resumable and state["passes"] != resumable[-1]["passes"]):
                break
            path = self.folder / f"left-{len(resumable) + 1}"
            path.write_bytes(content)
            resumable.append({**state, "path": str(path)})
        self.parts = {f"rows-{number:04}": self.parts[f"rows-{number:04}"] for number in range(1, len(resumable) + 1)}
        return resumable


def uninterrupted(folder: Path, data: bytes, name: str) -> tuple[IngestResult, str]:
    folder.mkdir()
    result, _ = run_ingest(folder, data, name)
    return comparable(result), digest(result)


def comparable(result: IngestResult) -> IngestResult:
    result["profile"]["generation_time"] = 0.0
    return result


def digest(result: IngestResult) -> str:
    return hashlib.sha256(Path(result["parquet"]).read_bytes()).hexdigest()


def interrupted_reading(
    folder: Path, data: bytes, name: str, blocks: int, recorder_class: type[InterruptingRecorder] = InterruptingRecorder
) -> tuple[IngestResult, InterruptingRecorder]:
    """Resume until done. Each attempt is interrupted after so many blocks, later if the last one made no progress."""
    folder.mkdir()
    recorder = recorder_class(folder)
    for attempt in range(400):
        output = folder / f"out-{attempt}"
        output.mkdir()
        source = output / "raw"
        source.write_bytes(data)
        parts = recorder.resumable_parts()
        spec: Any = {"source": str(source), "folder": str(output), "filename": name, "size": len(data), "sha256": None}
        spec |= {"actual_sha256": hashlib.sha256(data).hexdigest(), "checkpointing": {"interval": 0.0, "parts": parts}}
        recorder.blocks_left = blocks + attempt // 5
        try:
            result = ingest(spec, recorder)
        except Interrupted:
            continue
        assert [path.name for path in output.iterdir() if path.name != "raw"] == ["processed.parquet"]
        return comparable(result), recorder
    raise AssertionError("it never came to its end")


def quoted_csv() -> bytes:
    """Line breaks, delimiters and quotes within quotes; rows too long, too short and empty; values of the wrong type, one of them late."""
    rng = np.random.default_rng(2)
    lines = ['code,"amount",day,note\r\n']
    for row in range(ROWS):
        code = "007" if row == ROWS - 50 else str(row)
        amount = "much" if row % 997 == 5 else f"{rng.normal():.4f}"
        note = f'"He said ""{row}"",\r\nand \n\nleft{"." * int(rng.integers(0, 90))}"' if row % 3 else f"plain {row}"
        end = "\n" if row == 1_100 else "\r\n"
        tail = ",odd" if row % 700 == 3 else ",," if row % 500 == 3 else ""
        lines.append(f"{code},{amount},2024-02-{row % 28 + 1:02},{note}{tail}{end}")
        if row % 400 == 7:
            lines.append("\r\n")
            lines.append(f"{row},1\r\n")
    return "".join(lines).encode()


def broken_quotes() -> bytes:
    return b"a;b;c\n" + b"".join(b'%d;"5" pipe %d;x%d\n' % (row, row, row) for row in range(ROWS))


def late_accents(encoding: str, text: str) -> bytes:
    lines = [f"{row},{text if row > ROWS // 2 else 'plain'} {row}" for row in range(ROWS)]
    return "\n".join(["number,word", *lines]).encode(encoding)


def late_values() -> bytes:
    return "\n".join(["a,b", *(f"{10**9 + row},{row if row > ROWS // 2 else ''}" for row in range(ROWS))]).encode()


def objects(row: int) -> dict[str, Any]:
    value: dict[str, Any] = {"id": row, "x": row / 7, "at": f"2024-01-01T00:00:{row % 60:02}Z", "tags": [row, "ä\x00"], "ok": row % 2 == 0}
    if row == 1_111:
        value |= {"x": "NUL: \x00", "at": "yesterday"}
    if row > 1_000:
        value |= {"läte": "x", "whole": row}
    if row == 1_450:
        value["whole"] = 0.5
    return value


def json_lines() -> bytes:
    lines = [json.dumps(objects(row), ensure_ascii=False) for row in range(ROWS)]
    lines[900], lines[901], lines[1_200] = "{broken", "[1]", ""
    return "\n".join(lines).encode()


def json_array() -> bytes:
    return json.dumps([objects(row) for row in range(ROWS)], indent=1).encode()


def parquet() -> bytes:
    table = pa.table(
        {
            "id": np.arange(ROWS),
            "wide": pa.array([2**63 + 1 if row == 1_300 else row for row in range(ROWS)], pa.uint64()),
            "text": pa.array([f"value {row % 11}" for row in range(ROWS)]),
            "kind": pa.array(["a", "b", None] * (ROWS // 3)).dictionary_encode(),
            "list": pa.array([[row, None] for row in range(ROWS)]),
        }
    )
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=700)
    return file.getvalue()


def parquet_folder() -> bytes:
    """Of one split two files, the wide number in the last."""
    table = pq.read_table(io.BytesIO(parquet()))
    files: dict[str, bytes] = {}
    for name, start, rows in (("train-00000-of-00002", 0, 610), ("train-00001-of-00002", 610, 300), ("test-00000-of-00001", 910, ROWS)):
        file = io.BytesIO()
        pq.write_table(table.slice(start, rows), file, row_group_size=250)
        files[f"data/{name}.parquet"] = file.getvalue()
    return zip_of(files)


def odd_csv() -> bytes:
    """Units, typographic numbers, open dates, invisible lines and a sum at the end."""
    lines = ["item,t,minus,day", "a,s,\u22121,01/02/2024"]
    for row in range(ROWS):
        minus = "\u2212" if row % 50 == 7 else ""
        lines.append(f"a,{row},{minus}{row},0{1 + row % 9}/02/2024")
        if row % 200 == 11:
            lines.append("\u200b")
    return "\n".join([*lines, "Total,5,6,"]).encode()


def odd_lines() -> bytes:
    """Repeated keys, numbers that no double holds, invisible lines."""
    lines: list[str] = []
    for row in range(ROWS):
        key, number = "l" if row % 10 else "k", "1e-400" if row == 900 else row
        lines.append(f'{{"a": {row}, "o": {{"k": {row}, "{key}": "x:y"}}, "a": {row % 7}.5, "w": {number}}}')
    return "\n\u200b\n".join(["\n".join(lines[start : start + 100]) for start in range(0, ROWS, 100)]).encode()


SOURCES = {
    "quoted.csv": quoted_csv,
    "broken.csv": broken_quotes,
    "old-mac.csv": lambda: late_accents("utf-8", "ä").replace(b"\n", b"\r"),
    "latin.csv": lambda: late_accents("cp1252", "Straße"),
    "wide.csv": lambda: late_accents("utf-16", "😀"),
    "chinese.csv": lambda: late_accents("gb18030", "汉字和文字"),
    "late.csv": late_values,
    "odd.csv": odd_csv,
    "odd.jsonl": odd_lines,
    "lines.jsonl": json_lines,
    "array.json": json_array,
    "table.parquet": parquet,
    "folder.zip": parquet_folder,
}


# Of these, one for each reader and kind of blocks; and how many blocks each attempt reads.
QUICK = {"late.csv": 7, "table.parquet": 7}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use blocks of some dozen rows and row groups of some hundred."""
    monkeypatch.setattr(limits, "BLOCK_BYTES", 2_001)
    monkeypatch.setattr(limits, "SAMPLE_BYTES", 3_000)
    monkeypatch.setattr(limits, "ROW_GROUP_ROWS", 80)
    monkeypatch.setattr("workers.ml.reading.parquet._NESTED_BATCH_ROWS", 256)
    monkeypatch.setattr("workers.ml.reading.parquet._BATCH_BYTES", 3_000)
    monkeypatch.setattr("workers.ml.reading.parquet_files._MIN_CHUNK_ROWS", 1_000)


@pytest.mark.parametrize(
    ("name", "blocks"),
    [*((name, blocks) for name, blocks in QUICK.items()), *(exhaustive(name, blocks) for name in SOURCES for blocks in (3, 7, 9))],
)
def test_a_reading_broken_off_again_and_again_makes_the_same_file(tmp_path: Path, name: str, blocks: int) -> None:
    data = SOURCES[name]()
    expected_result, expected_digest = uninterrupted(tmp_path / "whole", data, name)
    result, recorder = interrupted_reading(tmp_path / "broken", data, name, blocks)
    assert digest(result) == expected_digest
    assert result | {"parquet": ""} == expected_result | {"parquet": ""}
    resumed_rows = [int(message.split()[2].replace(",", "")) for message in recorder.resume_messages]
    assert len(set(resumed_rows)) >= (2 if blocks == 3 else 1)
    assert all(
        before <= after or "again" in message
        for (before, after), message in zip(pairwise(resumed_rows), recorder.resume_messages[1:], strict=True)
    )


@pytest.mark.exhaustive
def test_the_files_of_these_tests_are_as_bad_as_they_should_be(tmp_path: Path) -> None:
    results = {name: uninterrupted(tmp_path / name, make(), name)[0] for name, make in SOURCES.items()}
    assert column_types(results["quoted.csv"]) == {"code": "STRING", "amount": "FLOAT", "day": "DATE", "note": "STRING"}
    codes = {code for code, _, _ in issue_locations(results["quoted.csv"])}
    assert codes == {"KEPT_AS_TEXT", "BAD_VALUE", "RAGGED_ROW", "MIXED_LINE_ENDS"}
    assert results["broken.csv"]["issue_count"] == ROWS
    codes = {code for code, _, _ in issue_locations(results["odd.csv"])}
    assert codes == {"BAD_VALUE", "NUMBER_SPELLING", "OPEN_DATES", "INVISIBLE_LINE", "FOOTER_ROW"}
    assert {code for code, _, _ in issue_locations(results["odd.jsonl"])} == {
        "DUPLICATE_COLUMN_NAME",
        "DUPLICATE_KEY",
        "KEPT_AS_TEXT",
        "INVISIBLE_LINE",
    }
    assert {code for code, _, _ in issue_locations(results["lines.jsonl"])} == {"BAD_JSON", "BAD_VALUE"}
    assert column_types(results["late.csv"]) == {"a": "INTEGER", "b": "INTEGER"}
    assert column_types(results["table.parquet"])["wide"] == "DECIMAL"
    for name in ("latin.csv", "wide.csv", "chinese.csv"):
        assert "\ufffd" not in "".join(pl.read_parquet(results[name]["parquet"])["word"])


def test_a_part_of_another_version_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = late_accents("utf-8", "x")
    expected_result, expected_digest = uninterrupted(tmp_path / "whole", data, "a.csv")
    installed = ["older"]

    def version(_package: str) -> str:
        return installed[-1]

    class Upgraded(InterruptingRecorder):
        def resumable_parts(self) -> list[dict[str, Any]]:
            parts = super().resumable_parts()
            if parts:
                installed.append("newer")
            return parts

    monkeypatch.setattr("workers.ml.part_checkpoints.version", version)
    result, recorder = interrupted_reading(tmp_path / "broken", data, "a.csv", 6, Upgraded)
    assert recorder.restarts == 1
    assert digest(result) == expected_digest
    assert result | {"parquet": ""} == expected_result | {"parquet": ""}


def test_a_row_longer_than_a_block_is_gone_on_after(tmp_path: Path) -> None:
    lines = [f'{row},"{"long " * (3_000 if row % 100 == 0 else 1)}\n{row}"' for row in range(600)]
    data = "\n".join(["a,b", *lines]).encode()
    expected_result, expected_digest = uninterrupted(tmp_path / "whole", data, "a.csv")
    result, _ = interrupted_reading(tmp_path / "broken", data, "a.csv", 4)
    assert (digest(result), result["row_count"]) == (expected_digest, 600)
    assert result["profile"] == expected_result["profile"]
