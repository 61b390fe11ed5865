"""Rows of a JSON table that are arrays. The first one has the names if all its elements are texts that look like names."""

from __future__ import annotations

from typing import Any

from workers.ml.reading.column_names import clean_names
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.layout import is_header
from workers.ml.reading.reader_state import ReaderState


class ArrayRows:
    """Turns arrays into objects; `names` is None before the first array."""

    def __init__(self) -> None:
        self.names: list[str] | None = None
        self.row_count = 0

    def state(self) -> ReaderState:
        return {"names": self.names, "rows": self.row_count}

    def restore(self, state: ReaderState) -> None:
        self.names, self.row_count = state["names"], state["rows"]

    def objects(self, arrays: list[list[Any]], first_row: int, issues: IssueLog) -> tuple[list[dict[str, Any]], list[int]]:
        """Return objects and their rows, without rows that are too long. `first_row` is the row of the first array that has no names.

        Raises BadInput (TOO_MANY_COLUMNS).
        """
        if self.names is None:
            first = arrays[0]
            texts = [[item if isinstance(item, str) else str(item) for item in array] for array in arrays[:20]]
            if first and all(isinstance(item, str) for item in first) and is_header(texts):
                self.names = clean_names(first, issues)
                arrays = arrays[1:]
            else:
                issues.add(
                    "NO_HEADER",
                    "The first array looks like data, not like column names; columns are named column_1, column_2 and so on.",
                    row=1,
                )
                self.names = [f"column_{position}" for position in range(1, max(map(len, arrays)) + 1)]
        width = len(self.names)
        objects: list[dict[str, Any]] = []
        rows: list[int] = []
        for row, array in enumerate(arrays, start=first_row):
            self.row_count = row
            if len(array) != width:
                is_long = any(item is not None for item in array[width:])
                outcome = (
                    "the row was omitted"
                    if is_long
                    else "elements missing at its end were treated as missing values, and null ones dropped"
                )
                issues.add("RAGGED_ROW", f"Row {row} has {len(array):,} elements where {width:,} were expected; {outcome}.", row=row)
                if is_long:
                    continue
            objects.append({name: array[index] if index < len(array) else None for index, name in enumerate(self.names)})
            rows.append(row)
        return objects, rows
