"""The columns of a model that are read from the contents of items, computed as in its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from pydantic import ValidationError

from workers.ml.contents.content import Content
from workers.ml.contents.named import Names
from workers.ml.contents.places import ItemFiles, Items
from workers.ml.contents.program import ITEM_COLUMN, Program, UnusableItem, role_of
from workers.ml.errors import BadInput
from workers.ml.steps.registry import STEPS
from workers.ml.steps.step import PipelineNode


@dataclass(frozen=True)
class ReadContents:
    """`columns` that were read, the row from 0 `of` which each of theirs is, and the items that could not be used, by such a row: their columns are null.

    Where rows name files: the column that names the file of each column that was read, and which rows are `without_file`, by the former.
    """

    columns: pl.DataFrame
    of: np.ndarray
    unusable: Mapping[int, UnusableItem]
    file_columns: Mapping[str, str] = field(default_factory=dict[str, str])
    without_file: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])


@dataclass(frozen=True)
class _Files:
    """What is read of the files that one column names."""

    column: str
    number: pl.Expr
    program: Program


class ContentReader:
    """Reads the columns of consecutive rows of a version. `document` is the `contents` of a signature."""

    def __init__(self, document: Mapping[str, Any], files: ItemFiles) -> None:
        """Raises BadInput (BAD_MODEL)."""
        self.items = Items(files)
        self._next = 0
        expected = {str(key): list(map(str, names)) for key, names in document["columns"].items()}
        nodes = [_node(index, step) for index, step in enumerate(document["steps"])]
        first = next((index for index, node in enumerate(nodes) if role_of(node) == "files"), len(nodes))
        self.program = Program(nodes[:first], expected)
        self._files = _files(nodes[first:], expected, self.items)
        programs = [self.program, *(each.program for each in self._files)]
        self._names = [name for program in programs for name in program.column_names()]

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self._names)

    @property
    def file_columns(self) -> list[str]:
        """The columns of a version that name files which the model reads; none if the rows are the items."""
        return list(dict.fromkeys(each.column for each in self._files))

    def read(self, frame: pl.DataFrame) -> ReadContents:
        """Read the columns of the next rows, which the frame has. An item that is divided has one for each part, and none without parts.

        Raises BadInput (MISSING_COLUMN).
        """
        rows = range(self._next, self._next + frame.height)
        self._next += frame.height
        return self.read_rows(rows, frame)

    def read_rows(self, rows: Sequence[int], frame: pl.DataFrame) -> ReadContents:
        """Read the columns of these rows, in ascending order, likewise."""
        if self._files:
            return self._read_files(frame)
        numbers = np.asarray(rows, dtype=np.int64)
        if len(numbers) and numbers[-1] >= len(self.items):
            raise RuntimeError(f"The version has at least {numbers[-1] + 1} rows and {len(self.items)} items.")
        unusable: dict[int, UnusableItem] = {}
        found = _read(self.program, self.items, rows, unusable)
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

    def _read_files(self, frame: pl.DataFrame) -> ReadContents:
        columns: list[pl.DataFrame] = []
        unusable: dict[int, UnusableItem] = {}
        without: dict[str, np.ndarray] = {}
        for each in self._files:
            if each.column not in frame.columns:
                message = (
                    f"The model reads the files that the column '{each.column}' names, and there is no such column. Choose another version."
                )
                raise BadInput("MISSING_COLUMN", message, column=each.column)
            numbers = frame.select(each.number.alias(ITEM_COLUMN))
            errors: dict[int, UnusableItem] = {}
            found = _read(each.program, self.items, numbers[ITEM_COLUMN].drop_nulls().unique(maintain_order=True).to_list(), errors)
            columns.append(numbers.join(found, on=ITEM_COLUMN, how="left", maintain_order="left").drop(ITEM_COLUMN))
            missing = numbers[ITEM_COLUMN].is_null().to_numpy()
            without[each.column] = missing | without.get(each.column, np.zeros(frame.height, dtype=bool))
            if errors:
                unusable |= {row: errors[number] for row, number in enumerate(numbers[ITEM_COLUMN].to_list()) if number in errors}
        sources = {name: each.column for each in self._files for name in each.program.column_names()}
        return ReadContents(pl.concat(columns, how="horizontal"), np.arange(frame.height), unusable, sources, without)


def _read(program: Program, items: Items, rows: Sequence[int], unusable: dict[int, UnusableItem]) -> pl.DataFrame:
    nothing = pl.DataFrame(schema={ITEM_COLUMN: pl.UInt32, **dict.fromkeys(program.column_names(), pl.Float64)})
    return pl.concat([nothing, *(frame.select(nothing.columns) for frame in program.frames(items, rows, unusable))])


def _files(nodes: Sequence[PipelineNode], expected: dict[str, list[str]], items: Items) -> list[_Files]:
    """What each node of the role "files", and those after it up to the next, are about."""
    starts = [index for index, node in enumerate(nodes) if role_of(node) == "files"]
    found: list[_Files] = []
    for start, end in pairwise([*starts, len(nodes)]):
        program = Program(nodes[start + 1 : end], expected)
        parameters = nodes[start].parameters
        if program.column_names():
            found.append(_Files(parameters.column, Names.of(items, parameters.kind).number(parameters.column), program))
    return found


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
