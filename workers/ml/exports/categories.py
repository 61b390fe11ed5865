"""Values of text columns as numbers: the position of each among the distinct values in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from workers.ml.exports.source import Rows

MAX_CATEGORIES = 10_000


@dataclass(frozen=True)
class Categories:
    """The distinct values of each column in order, as texts; None for a column with more than `MAX_CATEGORIES`."""

    values: Mapping[str, Sequence[str] | None]

    def codes(self, name: str) -> pl.Expr:
        """The position of each value as Int64, null for a missing one. Only for a column with values that are known."""
        values = self.values[name]
        assert values is not None
        return pl.col(name).cast(pl.String).cast(pl.Enum(list(values))).to_physical().cast(pl.Int64)


def find_categories(rows: Rows, columns: Sequence[str]) -> Categories:
    """Read the distinct values of these columns. Numbers and booleans are ordered as such."""
    found: dict[str, set[str] | None] = {name: set() for name in columns}
    numbers: set[str] = set()
    for frame in rows.scan(columns) if columns else ():
        numbers = {name for name, dtype in frame.schema.items() if dtype.is_integer()}
        for name in columns:
            known = found[name]
            if known is not None:
                known |= set(frame.get_column(name).cast(pl.String).unique().drop_nulls().to_list())
                if len(known) > MAX_CATEGORIES:
                    found[name] = None
    return Categories(
        {name: None if values is None else sorted(values, key=int if name in numbers else None) for name, values in found.items()}
    )
