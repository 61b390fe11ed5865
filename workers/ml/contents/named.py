"""Which item a cell of a table names, where the items are the files of an archive with the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from workers.ml.contents.places import Items


@dataclass(frozen=True, slots=True)
class Names:
    """The numbers of items by what cells call them: by paths, and by the name of a file alone, whatever folder is before it."""

    paths: Mapping[str, int]
    names: Mapping[str, int]

    @classmethod
    def of(cls, items: Items, kind: str | None) -> Names:
        """Of the items of a kind, or of all. What the cells of the version call each is in its `info`, unless it is the key."""
        paths: dict[str, int] = {}
        names: dict[str, int] = {}
        for number, place in enumerate(items.all()):
            if kind not in (None, place.info["kind"]):
                continue
            for name in place.info.get("names", [place.key]):
                if name.startswith("/"):
                    names[name[1:]] = number
                else:
                    paths[name] = number
        return cls(paths, names)

    def number(self, column: str) -> pl.Expr:
        """The number of the item that each cell names, null without one. Cells are read as the ingest read them (`workers.ml.items.paths`)."""
        clean = pl.col(column).cast(pl.String).str.replace_all("\\", "/", literal=True).str.strip_prefix("./").str.strip_chars_start("/")
        return pl.coalesce(_looked_up(clean, self.paths), _looked_up(clean.str.split("/").list.last(), self.names))


def _looked_up(cells: pl.Expr, numbers: Mapping[str, int]) -> pl.Expr:
    if not numbers:
        return pl.when(cells.is_null()).then(None).otherwise(None).cast(pl.UInt32)  # a literal would be one value for all rows
    found: Any = np.fromiter(numbers.values(), np.uint32, len(numbers))
    return cells.replace_strict(pl.Series(list(numbers)), pl.Series(found), default=None, return_dtype=pl.UInt32)
