"""The columns of a model that are read from the contents of items, computed as in its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from workers.ml.contents.content import Content
from workers.ml.contents.places import ItemFiles, Items
from workers.ml.contents.program import ITEM_COLUMN, Program, UnusableItem, role_of
from workers.ml.errors import BadInput
from workers.ml.steps.registry import STEPS
from workers.ml.steps.step import PipelineNode


@dataclass(frozen=True)
class ReadContents:
    """`columns` that were read, the row from 0 `of` which each of theirs is, and the items that could not be used, by such a row: their columns are null."""

    columns: pl.DataFrame
    of: np.ndarray
    unusable: Mapping[int, UnusableItem]


class ContentReader:
    """Reads the columns of consecutive rows of a version. `document` is the `contents` of a signature."""

    def __init__(self, document: Mapping[str, Any], files: ItemFiles) -> None:
        """Raises BadInput (BAD_MODEL)."""
        self.items = Items(files)
        expected = {str(key): list(map(str, names)) for key, names in document["columns"].items()}
        self.program = Program([_node(index, step) for index, step in enumerate(document["steps"])], expected)
        self._names = self.program.column_names()
        self._next = 0

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self._names)

    def read(self, count: int) -> ReadContents:
        """Read the columns of the next rows. An item that is divided has one for each part, and none without parts."""
        rows = range(self._next, self._next + count)
        self._next += count
        return self.read_rows(rows)

    def read_rows(self, rows: Sequence[int]) -> ReadContents:
        """Read the columns of these rows, in ascending order, likewise."""
        numbers = np.asarray(rows, dtype=np.int64)
        if len(numbers) and numbers[-1] >= len(self.items):
            raise RuntimeError(f"The version has at least {numbers[-1] + 1} rows and {len(self.items)} items.")
        unusable: dict[int, UnusableItem] = {}
        nothing = pl.DataFrame(schema={ITEM_COLUMN: pl.UInt32, **dict.fromkeys(self._names, pl.Float64)})
        found = pl.concat([nothing, *(frame.select(nothing.columns) for frame in self.program.frames(self.items, rows, unusable))])
        kept = set(found[ITEM_COLUMN].to_list()) | unusable.keys() if self.program.divides else numbers.tolist()
        of_rows = pl.DataFrame({ITEM_COLUMN: pl.Series(sorted(kept), dtype=pl.UInt32)})
        found = of_rows.join(found, on=ITEM_COLUMN, how="left", maintain_order="left_right")
        of = np.searchsorted(numbers, found[ITEM_COLUMN].to_numpy())
        return ReadContents(found.drop(ITEM_COLUMN), of, {int(np.searchsorted(numbers, row)): error for row, error in unusable.items()})

    def read_content(self, row: int, content: Content) -> pl.DataFrame:
        """Read the columns of an item with another content than its own, a row for each of its parts. Raises `UnusableItem`."""
        values = self.program.rows_of(content, self.items.place(row).key)
        if not values:
            return pl.DataFrame(schema=dict.fromkeys(self._names, pl.Float64))
        return pl.DataFrame(np.stack(values), schema=self._names, orient="row").fill_nan(None)


def _node(index: int, document: Mapping[str, Any]) -> PipelineNode:
    step = STEPS.get(document["step"])
    if step is None or step.content is None:
        raise BadInput("BAD_MODEL", f"The model needs the step '{document['step']}', which this worker does not have. Train it again.")
    try:
        parameters = step.parameters.model_validate(document["parameters"])
    except ValidationError as error:
        raise BadInput(
            "BAD_MODEL", f"The step '{document['step']}' no longer takes the parameters that the model was trained with. Train it again."
        ) from error
    node = PipelineNode(document["key"], index, index, step, parameters)
    if role_of(node) == "augment":
        raise BadInput("BAD_MODEL", f"The step '{document['step']}' makes copies to learn from, and computes no columns.")
    return node
