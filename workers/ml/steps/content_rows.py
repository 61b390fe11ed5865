"""How what is read from the contents of items comes into the rows of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from workers.ml.bundle import Bundle
from workers.ml.columns import Column, Derivation
from workers.ml.contents.program import ITEM_COLUMN, PART_COLUMN, Augmentation, Program, role_of
from workers.ml.contents.state import Contents
from workers.ml.errors import BadInput
from workers.ml.steps.step import PipelineNode

_REPORTED_ITEMS = 100


def add_columns(bundle: Bundle, contents: Contents, node: PipelineNode) -> list[str]:
    """Add the columns of a node that reads to the rows of the bundle; where items are divided, a row for each part.

    Raises BadInput: NO_ROWS, NAME_TAKEN, TOO_LARGE, BAD_CONTENT, DIFFERENT_SIZES.
    """
    column = contents.item_column(node)
    program = Program([*(each for each in contents.beside(node) if role_of(each) != "read"), node])
    path = bundle.folder / f"contents-{node.index}.parquet"
    rows = bundle.lazy.select(column).drop_nulls().unique(maintain_order=True).collect(engine="streaming").to_series().to_list()
    names = _write(bundle, contents, node, program, rows, path)
    for name in names:
        if not bundle.is_free(name):
            raise BadInput(
                "NAME_TAKEN",
                f"Step '{node.key}' makes the column '{name}', but there is one of that name. Set another name.",
                column=name,
                path=node.path("name"),
            )
    multiplies = program.divides and not contents.is_divided
    keys = [column, PART_COLUMN] if program.divides and contents.is_divided else [column]
    # An item without parts has no row; one of another kind keeps its row, without values, and so does a row without an item.
    found = pl.scan_parquet(path).rename({ITEM_COLUMN: column})
    bundle.lazy = bundle.lazy.join(found, on=keys, how="inner" if multiplies else "left", maintain_order="left_right")
    if multiplies:
        contents.is_divided = True
        bundle.extra_columns.add(PART_COLUMN)
    contents.names[node.key] = names
    for name in names:
        bundle.columns[name] = Column(name, "FLOAT", "number")
        bundle.derivations.append(Derivation(name, (), {"content": node.key}, None, f"read by step '{node.key}' from the item"))
    bundle.check_size(bundle.count(), len(bundle.columns), node)
    return names


def _write(bundle: Bundle, contents: Contents, node: PipelineNode, program: Program, rows: Sequence[int], path: Path) -> list[str]:
    """Write the columns of the items of these rows, and return their names. Raises BadInput: NO_ROWS, TOO_LARGE, and those of `Program.rows`."""
    writer: pq.ParquetWriter | None = None
    try:
        for frame in program.frames(contents.items, _reported(bundle, node, rows)):
            if writer is None:
                bundle.check_size(len(rows), frame.width + len(bundle.columns), node)
            table = frame.to_arrow()
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", use_dictionary=False)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        kinds = " or ".join(modality.lower() for modality in node.step.modalities)
        message = f"No row has an item of the kind {kinds} that step '{node.key}' could read. Filter fewer rows, or look at what divides the items."
        raise BadInput("NO_ROWS", message, path=node.path())
    return program.names[node.key]


def _reported(bundle: Bundle, node: PipelineNode, rows: Sequence[int]) -> Iterator[int]:
    """Yield the rows, and report how many are done."""
    start, end = bundle.progress_span
    percent = 0
    for done, row in enumerate(rows):
        if done % _REPORTED_ITEMS == 0 and done:
            bundle.reporter.progress(start + (end - start) * done / len(rows), f"{node.step.title}: {done:,} of {len(rows):,} items")
            if 100 * done // len(rows) > percent:
                percent = 100 * done // len(rows)
                bundle.reporter.node(node.key, "running", percent)
        yield row


@dataclass
class Copies:
    """The copies that one node makes, each when it is first learned from: those of validation rows only in a fold of a cross-validation. A row without
    an item has none."""

    contents: Contents
    bundle: Bundle
    node: PipelineNode
    columns: set[str]
    _copies: dict[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of the copies of these rows. Raises BadInput: BAD_CONTENT, DIFFERENT_SIZES, TOO_LARGE."""
        missing = [row for row in dict.fromkeys(rows.tolist()) if row not in self._copies]
        if missing:
            self._make(missing)
        return np.array([copy for row in rows.tolist() for copy in self._copies[row]], dtype=np.int64)

    def _make(self, rows: list[int]) -> None:
        bundle, contents, node = self.bundle, self.contents, self.node
        bundle.check_size(bundle.frame.height + len(rows) * node.parameters.copies, bundle.frame.width, node)
        program = Program(contents.beside(node))
        items = bundle.frame[contents.item_column(node)]
        originals: list[int] = []
        values: list[np.ndarray] = []
        made_by: list[tuple[Augmentation, ...]] = []
        start, end = bundle.progress_span
        for done, row in enumerate(rows):
            if done % _REPORTED_ITEMS == 0 and done:
                bundle.reporter.progress(start + (end - start) * done / len(rows), f"{node.step.title}: {done:,} of {len(rows):,} items")
            if (item := items[row]) is None:
                continue
            earlier = contents.augmented.get(row, ())
            for copy in range(node.parameters.copies):
                # A generator for each copy, so that it does not depend on which others are made.
                seed = [bundle.random_state, node.index, item, *(each.copy for each in earlier), copy]
                augmentations = (*earlier, Augmentation(node, copy, seed))
                for each in program.rows(contents.items, item, augmentations):
                    originals.append(row)
                    values.append(each)
                    made_by.append(augmentations)
        copies = bundle.frame[originals]
        if values:
            matrix = np.stack(values)
            names = enumerate(program.column_names())
            copies = copies.with_columns(
                [pl.Series(name, matrix[:, index], nan_to_null=True) for index, name in names if name in self.columns]
            )
        first = bundle.append_rows(copies)
        contents.augmented |= {first + number: augmentations for number, augmentations in enumerate(made_by)}
        self._copies |= dict.fromkeys(rows, ())
        for number, row in enumerate(originals):
            self._copies[row] = (*self._copies[row], first + number)


def copies_of(bundle: Bundle, contents: Contents, node: PipelineNode) -> Copies:
    """Raises BadInput (NOT_SUPPORTED)."""
    path = ["definition", "nodes", str(node.index), "step"]
    if contents.divided_by is not None:
        message = f"Step '{node.key}' copies whole items, and step '{contents.divided_by.key}' divides them. Remove one of the steps."
        raise BadInput("NOT_SUPPORTED", message, path=path)
    later = [each for each in contents.beside(node) if role_of(each) == "read" and each.order > node.order]
    made = {name for each in later for name in contents.names[each.key]}
    for derivation in bundle.derivations:
        if made & set(derivation.sources) and derivation.name in bundle.frame.columns:
            raise BadInput(
                "NOT_SUPPORTED",
                f"The column '{derivation.name}' is computed from columns that are read from items, and step '{node.key}' cannot compute it of the copies it "
                "makes. Remove one of the steps.",
                column=derivation.name,
                path=path,
            )
    return Copies(contents, bundle, node, made & set(bundle.frame.columns))
