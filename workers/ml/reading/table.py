"""What every reader gives: frames of typed columns, in as many passes as the types need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypedDict

import polars as pl

from workers.ml.reading.issues import IssueLog

Progress = Callable[[float, str], None]
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

    def must_repeat(self) -> bool:
        """After a pass: the whole file did not bear out the types, and it has to be read again."""
        ...

    def column_types(self) -> dict[str, str]:
        """ColumnType by column name; CATEGORY is decided later, from the profile."""
        ...
