"""What every reader gives: frames of typed columns, in as many passes as the types need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypedDict, runtime_checkable

import polars as pl

from workers.ml.reading.issues import IssueLog
from workers.ml.reading.reader_state import ReaderState

ProgressCallback = Callable[[float, str], None]
"""Share of the pass that is done, 0 to 1, and what is being done."""


class ColumnOut(TypedDict):
    """As `Column` is served; `type` is a ColumnType."""

    name: str
    type: str
    nullable: bool


class TableReader(Protocol):
    issues: IssueLog
    """Complete after the last pass."""

    def frames(self) -> Iterator[pl.DataFrame]:
        """One pass over the file: frames with the same columns and types, in the file's order."""
        ...

    def needs_another_pass(self) -> bool:
        """After a pass: the whole file did not bear out the types, and it has to be read again."""
        ...

    def column_types(self) -> dict[str, str]:
        """ColumnType by column name; CATEGORY is decided later, from the profile."""
        ...


@runtime_checkable
class ResumableReader(TableReader, Protocol):
    """A reader of anything but workbooks, which are read as a whole."""

    def state(self) -> ReaderState | None:
        """Where the pass stands after the frame given last, earlier passes included; None where nobody can go on from here."""
        ...

    def resume_from(self, state: ReaderState) -> None:
        """The next pass gives the frames after the mark, which another reader of the same file made, and only those."""
        ...
