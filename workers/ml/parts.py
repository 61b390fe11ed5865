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

from workers.ml.part_states import SERIES, Keeping, PartState
from workers.ml.reading.table import MarkingReader, TableReader
from workers.ml.reporting import Reporter
from workers.ml.writing import ParquetSink, part_note

_FORM: Final = 1
"""To be raised with each change to what marks hold, or to what becomes of a file that is read."""

_MOST_NOTED: Final = 16 * 1024**2
# A file with that many faults in that many columns is read again rather than written down.


class Parts:
    """`left` are the parts from which this attempt goes on, `rows` what they hold, `passes` how often the file was read before."""

    def __init__(self, keeping: Keeping | None, report: Reporter) -> None:
        self._keeping = keeping
        self._report = report
        self._cut_at = time.monotonic()
        self._rows_before = 0  # of earlier passes
        self._cut = 0  # rows of this pass in parts
        self._number = 0
        self.passes = 0
        self.left: list[Path] = []
        self.rows = 0

    def go_on(self, reader: TableReader) -> None:
        """The reader's first pass begins after the parts that are left, if there are any."""
        left = self._keeping["left"] if self._keeping is not None else []
        if not left or not isinstance(reader, MarkingReader):
            return
        last = left[-1]
        name = _name(len(left))
        if last["made_by"] != made_by():
            self._report.restarted(
                name, "The rows that an earlier attempt kept were read by other versions of the libraries; they are read again."
            )
            return
        note = json.loads(part_note(Path(last["path"])))
        reader.go_on(note["reader"])
        self._rows_before = note["rows_before"]
        self._number = len(left)
        self._cut = self.rows = last["rows"]
        self.passes = last["passes"]
        self.left = [Path(part["path"]) for part in left]
        again = " again" if self.passes else ""
        self._report.resumed(name, f"Goes on after {self.rows:,} rows that an earlier attempt read{again}.")

    def keep_if_due(self, sink: ParquetSink, reader: TableReader) -> None:
        """To be called where a part may be cut."""
        keeping = self._keeping
        if keeping is None or time.monotonic() - self._cut_at < keeping["every"] or not isinstance(reader, MarkingReader):
            return
        mark = reader.mark()
        if mark is None:
            return
        # Not with orjson: text from JSON may hold lone surrogates.
        note = json.dumps({"reader": mark, "rows_before": self._rows_before}).encode()
        if len(note) > _MOST_NOTED:
            return
        self._number += 1
        position = self._rows_before + sink.row_count
        state: PartState = {"passes": self.passes, "after": self._cut, "rows": sink.row_count, "made_by": made_by()}
        sink.cut(note, _handing_over(self._report, _name(self._number), position, dict(state)))
        self._cut = sink.row_count
        self._cut_at = time.monotonic()

    def repeat(self, rows: int) -> None:
        """The file is read again; so many rows were read this time. Parts of the next pass take the places of those of this one."""
        self._rows_before += rows
        self._cut = self._number = self.rows = 0
        self.left = []
        self.passes += 1


def _handing_over(report: Reporter, name: str, position: int, state: dict[str, Any]) -> Callable[[Path], None]:
    def hand_over(path: Path) -> None:
        # The part is needed here too, and the worker removes what it has stored.
        kept = path.with_name(f"{position}.kept")
        os.link(path, kept)
        report.checkpoint(name, position, state, kept, disposable=True)

    return hand_over


def _name(number: int) -> str:
    return f"{SERIES}-{number:04}"


def made_by() -> str:
    """What has a say in how a file is read."""
    packages = ("polars", "pyarrow", "orjson", "charset-normalizer")
    return " ".join([f"form={_FORM}", f"python={python_version()}", *(f"{package}={version(package)}" for package in packages)])
