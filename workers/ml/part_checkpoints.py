"""The parts of a table that are kept while it is read, so that another attempt goes on after them.

Each part is Parquet with whole row groups, and says in its metadata where the reader stood when it was cut. How many of them
there are and what they hold is of no consequence for the table.
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

_FORMAT_VERSION: Final = 1
"""To be raised with each change to what marks hold, or to what becomes of a file that is read."""

_MAX_RESUME_STATE_BYTES: Final = 16 * 1024**2
# A file with that many faults in that many columns is read again rather than written down.


class PartCheckpoints:
    """`left` are the parts from which this attempt goes on, `rows` what they hold, `passes` how often the file was read before."""

    def __init__(self, settings: PartCheckpointSettings | None, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._last_checkpoint_at = time.monotonic()
        self._earlier_pass_rows = 0  # of earlier passes
        self._checkpointed_rows = 0  # rows of this pass in parts
        self._part_count = 0
        self.passes = 0
        self.parts: list[Path] = []
        self.row_count = 0

    def resume(self, reader: TableReader) -> None:
        """The reader's first pass begins after the parts that are left, if there are any."""
        parts = self._settings["parts"] if self._settings is not None else []
        if not parts or not isinstance(reader, ResumableReader):
            return
        last = parts[-1]
        checkpoint_name = _checkpoint_name(len(parts))
        if last["made_by"] != software_versions():
            self._reporter.restarted(
                checkpoint_name, "The rows that an earlier attempt kept were read by other versions of the libraries; they are read again."
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
        self._reporter.resumed(checkpoint_name, f"Goes on after {self.row_count:,} rows that an earlier attempt read{again}.")

    def checkpoint_if_due(self, sink: ParquetSink, reader: TableReader) -> None:
        """To be called where a part may be cut."""
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
        # Not with orjson: text from JSON may hold lone surrogates.
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
        """The file is read again; so many rows were read this time. Parts of the next pass take the places of those of this one."""
        self._earlier_pass_rows += row_count
        self._checkpointed_rows = self._part_count = self.row_count = 0
        self.parts = []
        self.passes += 1


def _checkpoint_callback(reporter: Reporter, name: str, position: int, state: dict[str, Any]) -> Callable[[Path], None]:
    def checkpoint(path: Path) -> None:
        # The part is needed here too, and the worker removes what it has stored.
        link = path.with_name(f"{position}.kept")
        os.link(path, link)
        reporter.checkpoint(name, position, state, link, disposable=True)

    return checkpoint


def _checkpoint_name(number: int) -> str:
    return f"{PART_CHECKPOINT_PREFIX}-{number:04}"


def software_versions() -> str:
    """What has a say in how a file is read."""
    packages = ("polars", "pyarrow", "orjson", "charset-normalizer")
    return " ".join([f"form={_FORMAT_VERSION}", f"python={python_version()}", *(f"{package}={version(package)}" for package in packages)])
