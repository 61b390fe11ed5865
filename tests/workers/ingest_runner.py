"""Runs the ingest body on bytes, as a child process of the worker does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from workers.ml.errors import BadInput
from workers.ml.ingest import IngestResult, ingest


class IngestRecorder:
    """A Reporter that records its calls."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, str]] = []
        self.nodes: dict[str, tuple[str, int]] = {}
        self.checkpoints: list[tuple[dict[str, Any], Path | None]] = []
        self.resume_messages: list[str] = []

    def progress(self, percent: float, step: str) -> None:
        self.steps.append((percent, step))

    def node(self, key: str, status: str, progress: int = 0, output: Any = None, error: Any = None) -> None:
        previous_status, previous_progress = self.nodes.get(key, (None, 0))
        assert previous_status in (None, "running"), f"{key} is {status} after it was {previous_status}"
        assert previous_progress <= progress <= 100
        self.nodes[key] = (status, progress)

    def metric(self, key: str, step: int, value: float) -> None:
        raise AssertionError(f"ingest has no metrics, and yet {key} is {value} at {step}")

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        self.checkpoints.append((json.loads(json.dumps(state, allow_nan=False)), file))

    def resumed(self, name: str, message: str) -> None:
        self.resume_messages.append(message)

    def restarted(self, name: str, message: str) -> None:
        raise AssertionError(f"nothing made an ingest start over, and yet: {message}")

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        raise AssertionError(f"an ingest asks nothing, and yet: {question} {arguments}")

    def log(self, message: str) -> None:
        assert message


def run_ingest(folder: Path, data: bytes, name: str = "table.csv", **changes: Any) -> tuple[IngestResult, pl.DataFrame]:
    """Return the result, which must survive JSON, and the Parquet file read back by polars."""
    source = folder / "raw"
    source.write_bytes(data)
    spec: Any = {
        "source": str(source),
        "folder": str(folder),
        "filename": name,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    recorder = IngestRecorder()
    result = ingest(spec | changes, recorder)
    percents = [percent for percent, _ in recorder.steps]
    assert percents == sorted(percents), "progress never falls"
    assert {status for status, _ in recorder.nodes.values()} <= {"completed", "skipped"}
    assert list(recorder.nodes) == ["read", "profile", "propose"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result, "the result crosses a pipe as JSON"
    assert result["sha256"] == hashlib.sha256(data).hexdigest()
    frame = pl.read_parquet(result["parquet"])
    assert (frame.height, frame.columns) == (result["row_count"], [column["name"] for column in result["columns"]])
    return result, frame


def items_of(result: IngestResult) -> list[dict[str, Any]]:
    """The items that the ingest wrote."""
    assert "items" in result
    return [json.loads(line) for line in Path(result["items"]["file"]).read_text().splitlines()]


def ingest_error(folder: Path, data: bytes, name: str = "table.csv", **changes: Any) -> BadInput:
    with pytest.raises(BadInput) as error_info:
        run_ingest(folder, data, name, **changes)
    return error_info.value


def column_types(result: IngestResult) -> dict[str, str]:
    return {column["name"]: column["type"] for column in result["columns"]}


def issue_locations(result: IngestResult) -> list[tuple[str, str | None, int | None]]:
    return [(issue["code"], issue["column"], issue["row"]) for issue in result["issues"]]
