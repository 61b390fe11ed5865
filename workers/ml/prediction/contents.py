"""The columns of a model that are read from the contents of items, computed as in its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from workers.ml.contents.places import ItemFiles, Items
from workers.ml.contents.program import ITEM_COLUMN, Program, role_of
from workers.ml.errors import BadInput
from workers.ml.steps.registry import STEPS
from workers.ml.steps.step import PipelineNode


class ContentReader:
    """Reads the columns of consecutive rows of a version. `document` is the `contents` of a signature."""

    def __init__(self, document: Mapping[str, Any], files: ItemFiles) -> None:
        """Raises BadInput (BAD_MODEL)."""
        self._items = Items(files)
        self._program = Program([_node(index, step) for index, step in enumerate(document["steps"])])
        self._expected = {str(key): list(map(str, names)) for key, names in document["columns"].items()}
        self._next = 0

    @property
    def width(self) -> int:
        """The number of columns."""
        return sum(map(len, self._expected.values()))

    def read(self, count: int) -> tuple[np.ndarray, pl.DataFrame]:
        """Return the columns of the next rows, and the row, from 0, that each of theirs belongs to: an item that is divided has one for each part.

        Raises BadInput: BAD_CONTENT, DIFFERENT_SIZES.
        """
        rows = range(self._next, self._next + count)
        self._next += count
        self._check_count(rows.stop)
        frames = list(self._program.frames(self._items, rows))
        self._check_columns()
        found = pl.concat(frames) if frames else pl.DataFrame(schema={ITEM_COLUMN: pl.UInt32, **dict.fromkeys(self._names(), pl.Float64)})
        if not self._program.divides:  # items of another kind have no values
            found = pl.DataFrame({ITEM_COLUMN: pl.Series(rows, dtype=pl.UInt32)}).join(
                found, on=ITEM_COLUMN, how="left", maintain_order="left"
            )
        return found[ITEM_COLUMN].to_numpy().astype(np.int64) - rows.start, found.select(self._names())

    def _names(self) -> list[str]:
        return [name for names in self._expected.values() for name in names]

    def _check_count(self, rows: int) -> None:
        if rows > len(self._items):
            raise RuntimeError(f"The version has at least {rows} rows and {len(self._items)} items.")

    def _check_columns(self) -> None:
        for key, names in self._program.names.items():
            if names != self._expected.get(key):
                raise BadInput(
                    "DIFFERENT_SIZES",
                    f"The step '{key}' of the model makes {len(names):,} columns of these items, and made {len(self._expected.get(key, [])):,} of those it was "
                    "trained on. Choose a version with items of the same size.",
                )


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
