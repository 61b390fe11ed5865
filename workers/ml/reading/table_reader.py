"""Protocols of the readers: frames of typed columns, in as many passes as type inference needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypedDict, runtime_checkable

import polars as pl

from workers.ml.reading.issues import IssueLog
from workers.ml.reading.reader_state import ReaderState

ProgressCallback = Callable[[float, str], None]
"""Takes the completed share of the pass, 0 to 1, and a description for users."""


class ColumnOut(TypedDict):
    """Served as `Column`; `type` is a ColumnType."""

    name: str
    type: str
    nullable: bool


class TableReader(Protocol):
    """Reads one file. Call `frames` and `needs_another_pass` alternately until the latter returns False."""

    issues: IssueLog
    """Complete after the last pass."""

    def frames(self) -> Iterator[pl.DataFrame]:
        """Make one pass over the file: yield frames in file order, normally with the same columns and types.

        If a frame differs, the pass was in vain and `needs_another_pass` will return True. Raises BadInput.
        """
        ...

    def needs_another_pass(self) -> bool:
        """Call after a pass: revise the types and return whether the file has to be read again with them."""
        ...

    def column_types(self) -> dict[str, str]:
        """Return the ColumnType by column name; CATEGORY is determined later from the profile."""
        ...


@runtime_checkable
class ResumableReader(TableReader, Protocol):
    """A reader that can resume within a file: all but the Excel reader, which loads the whole workbook."""

    def state(self) -> ReaderState | None:
        """Return the state after the last yielded frame, including earlier passes; None if reading cannot resume here."""
        ...

    def resume_from(self, state: ReaderState) -> None:
        """Make the next pass yield only the frames after `state`, which another reader of the same file returned."""
        ...
