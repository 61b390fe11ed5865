"""Checkpoints of a partially read table, from which a later attempt resumes.

Each part is a Parquet file of whole row groups, with the reader's state at its end in its metadata. The resulting table does not
depend on how many parts there are or where they were cut.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any, Final

from workers.ml.parquet_writer import ParquetSink, part_resume_state
from workers.ml.part_state import PART_CHECKPOINT_PREFIX, PartCheckpointSettings, PartState
from workers.ml.reading.table_reader import ResumableReader, TableReader
from workers.ml.reporting import Reporter

_FORMAT_VERSION: Final = 2
"""Raise it with each change to the format of reader states or to the result of reading a file; older checkpoints are then discarded."""

_MAX_RESUME_STATE_BYTES: Final = 16 * 1024**2
# A state that large comes from very many issues in very many columns; reading the file again is cheaper than storing it.


class PartCheckpoints:
    """`parts` are the files this attempt resumes from, `row_count` their rows, `passes` the number of completed passes over the file."""

    def __init__(self, settings: PartCheckpointSettings | None, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._last_checkpoint_at = time.monotonic()
        self._earlier_pass_rows = 0  # of earlier passes
        self._checkpointed_rows = 0  # rows of this pass that are in checkpointed parts
        self._part_count = 0
        self.passes = 0
        self.parts: list[Path] = []
        self.row_count = 0

    def resume(self, reader: TableReader) -> None:
        """Make the reader's next pass start after the stored parts, if there are any and they can be used."""
        parts = self._settings["parts"] if self._settings is not None else []
        if not parts or not isinstance(reader, ResumableReader):
            return
        last = parts[-1]
        checkpoint_name = _checkpoint_name(len(parts))
        if last["made_by"] != software_versions():
            self._reporter.restarted(
                checkpoint_name, "The rows stored by an earlier attempt were read with other library versions; they are read again."
            )
            return
        resume_state = json.loads(part_resume_state(Path(last["path"])))
        reader.resume_from(resume_state["reader"])
        self._earlier_pass_rows = resume_state["rows_before"]
        self._part_count = len(parts)
        self._checkpointed_rows = self.row_count = last["rows"]
        self.passes = last["passes"]
        self.parts = [Path(part["path"]) for part in parts]
        again = " again" if self.passes else ""
        self._reporter.resumed(checkpoint_name, f"Resumes after {self.row_count:,} rows that an earlier attempt read{again}.")

    def checkpoint_if_due(self, sink: ParquetSink, reader: TableReader) -> None:
        """End the current part and report it as a checkpoint if the interval has passed. Call only between row groups."""
        settings = self._settings
        if (
            settings is None
            or time.monotonic() - self._last_checkpoint_at < settings["interval"]
            or not isinstance(reader, ResumableReader)
        ):
            return
        reader_state = reader.state()
        if reader_state is None:
            return
        # json, not orjson: text from JSON files may contain lone surrogates, which orjson rejects.
        resume_state = json.dumps({"reader": reader_state, "rows_before": self._earlier_pass_rows}).encode()
        if len(resume_state) > _MAX_RESUME_STATE_BYTES:
            return
        self._part_count += 1
        position = self._earlier_pass_rows + sink.row_count
        state: PartState = {"passes": self.passes, "after": self._checkpointed_rows, "rows": sink.row_count, "made_by": software_versions()}
        sink.end_part(resume_state, _checkpoint_callback(self._reporter, _checkpoint_name(self._part_count), position, dict(state)))
        self._checkpointed_rows = sink.row_count
        self._last_checkpoint_at = time.monotonic()

    def start_next_pass(self, row_count: int) -> None:
        """Start another pass, after one of `row_count` rows. The parts of the next pass replace those of this one."""
        self._earlier_pass_rows += row_count
        self._checkpointed_rows = self._part_count = self.row_count = 0
        self.parts = []
        self.passes += 1


def _checkpoint_callback(reporter: Reporter, name: str, position: int, state: dict[str, Any]) -> Callable[[Path], None]:
    def checkpoint(path: Path) -> None:
        # The worker deletes a disposable file once it is uploaded, but this body still needs the part: hand over a hard link.
        link = path.with_name(f"{position}.kept")
        os.link(path, link)
        reporter.checkpoint(name, position, state, link, disposable=True)

    return checkpoint


def _checkpoint_name(number: int) -> str:
    return f"{PART_CHECKPOINT_PREFIX}-{number:04}"


def software_versions() -> str:
    """Versions of everything that affects how a file is read."""
    packages = ("polars", "pyarrow", "orjson", "charset-normalizer")
    return " ".join([f"form={_FORMAT_VERSION}", f"python={python_version()}", *(f"{package}={version(package)}" for package in packages)])
