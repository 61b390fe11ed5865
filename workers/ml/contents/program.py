"""The operations of a pipeline on the contents of items, applied to one item after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import polars as pl

from workers.ml.contents.content import Content, ContentError, ContentNode
from workers.ml.contents.decoding import decode
from workers.ml.contents.films import Film
from workers.ml.contents.places import Items
from workers.ml.errors import BadInput

ITEM_COLUMN: Final = "__item"
"""The number of a row's item, as `Items` counts them."""
PART_COLUMN: Final = "__part"
"""The number of a row's part in its item, where items are divided."""
MAX_COLUMNS: Final = 10_000
"""Columns that one step makes."""
_CHUNK_CELLS: Final = 4_000_000


class UnusableItem(BadInput):
    """An operation cannot take an item, or makes other columns of it than of those before."""

    def __init__(self, code: str, message: str, node: ContentNode, key: str) -> None:
        super().__init__(code, message, path=node.path())
        self.node = node
        self.key = key


@dataclass(frozen=True)
class Augmentation:
    """A copy that an `augment` node makes: the copy's number, and what its random generator starts from."""

    node: ContentNode
    copy: int
    seed: Sequence[int]


@dataclass(frozen=True)
class _Operation:
    node: ContentNode
    function: Callable[..., Any]

    def apply(self, content: Content) -> Any:
        """What is made of images is made of each frame of a video."""
        if isinstance(content, Film) and "IMAGE" in self.node.step.modalities:
            return content.changed(self.node, self.function)
        return self.function(content)


@dataclass
class Program:
    """Nodes that change, divide and read contents, in the order of the chain. `names` are the columns of each node that reads, once an item was read."""

    nodes: Sequence[ContentNode]
    names: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    _operations: list[_Operation] = field(init=False)
    _kinds: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self._operations = [_Operation(node, _function(node)) for node in self.nodes]
        modalities = [frozenset(modality.lower() for modality in node.step.modalities) for node in self.nodes]
        self._kinds = frozenset[str]().union(*modalities).intersection(*modalities)

    @property
    def divides(self) -> bool:
        return any(role_of(node) == "divide" for node in self.nodes)

    def rows(self, items: Items, row: int, augmentations: Sequence[Augmentation] = ()) -> list[np.ndarray]:
        """Return the values of all columns, for each part of an item; none for an item of another kind. Raises BadInput: BAD_CONTENT, DIFFERENT_SIZES, TOO_LARGE."""
        return [np.concatenate(values) for values, _ in self._run(items, row, augmentations)]

    def rows_of(self, content: Content, key: str) -> list[np.ndarray]:
        """Return the values of all columns, for each part of a content that was read already. `key` is that of the item; raises as `rows` does."""
        return [np.concatenate(values) for values, _ in self._apply(lambda: content, key, ())]

    def contents(self, items: Items, row: int) -> list[Content]:
        """Return each part of an item, as the operations leave it. Raises BadInput (BAD_CONTENT)."""
        return [content for _, content in self._run(items, row, ())]

    def _run(self, items: Items, row: int, augmentations: Sequence[Augmentation]) -> list[tuple[list[np.ndarray], Content]]:
        """Return the values that were read of each part, and its content."""
        place = items.place(row)
        return [] if place.info["kind"] not in self._kinds else self._apply(lambda: decode(items, row), place.key, augmentations)

    def _apply(
        self, read_content: Callable[[], Content], key: str, augmentations: Sequence[Augmentation]
    ) -> list[tuple[list[np.ndarray], Content]]:
        operations = [*self._operations, *(_Operation(each.node, _augmenting(each)) for each in augmentations)]
        operations.sort(key=lambda operation: operation.node.order)
        node = operations[0].node
        read: list[list[np.ndarray]] = []
        parts: list[Content] = []
        try:
            parts = [read_content()]
            read = [[]]
            for operation in operations:
                node = operation.node
                if role_of(node) == "read":
                    for values, part in zip(read, parts, strict=True):
                        values.append(self._values(node, operation.apply(part), key))
                elif role_of(node) == "divide":
                    before = read[0]
                    parts = list(operation.apply(parts[0]))
                    read = [list(before) for _ in parts]
                else:
                    parts = [operation.apply(part) for part in parts]
        except ContentError as error:
            node = error.node or node
            message = f"Step '{node.key}' cannot use the item {key[:200]!r}: it {error}"
            raise UnusableItem("BAD_CONTENT", message, node, key) from error
        return list(zip(read, parts, strict=True))

    def _values(self, node: ContentNode, columns: Any, key: str) -> np.ndarray:
        if isinstance(columns, Mapping):
            named: Mapping[str, float | None] = columns
            found = list(named)
            values = np.array([np.nan if value is None else value for value in named.values()], dtype=np.float64)
        else:
            values, found = np.asarray(columns, dtype=np.float64).reshape(-1), None
        if node.key not in self.names:
            if len(values) > MAX_COLUMNS:
                raise BadInput(
                    "TOO_LARGE",
                    f"Step '{node.key}' makes {len(values):,} columns of an item; the maximum is {MAX_COLUMNS:,}. Make the items smaller before it.",
                    path=node.path(),
                )
            numbers = range(1, len(values) + 1)
            self.names[node.key] = [f"{node.parameters.name}_{name}" for name in (numbers if found is None else found)]
        elif len(values) != len(self.names[node.key]) or (
            found is not None and self.names[node.key] != [f"{node.parameters.name}_{name}" for name in found]
        ):
            message = (
                f"Step '{node.key}' makes {len(values):,} columns of the item {key[:200]!r}, and {len(self.names[node.key]):,} of others. Link a step before it "
                "that makes all items alike, such as resize_image and grayscale."
            )
            raise UnusableItem("DIFFERENT_SIZES", message, node, key)
        return values

    def column_names(self) -> list[str]:
        return [name for node in self.nodes for name in self.names.get(node.key, ())]

    def frames(self, items: Items, rows: Iterable[int], unusable: dict[int, UnusableItem] | None = None) -> Iterator[pl.DataFrame]:
        """Yield the columns of these items with `ITEM_COLUMN` and, if they are divided, `PART_COLUMN`; no more than a chunk is in memory.

        Raises those of `rows`, unless `unusable` takes the items that an operation cannot take.
        """
        numbers: list[int] = []
        parts: list[int] = []
        values: list[np.ndarray] = []
        for row in rows:
            try:
                found = self.rows(items, row)
            except UnusableItem as error:
                if unusable is None:
                    raise
                unusable[row] = error
                continue
            for part, each in enumerate(found):
                numbers.append(row)
                parts.append(part)
                values.append(each)
            if values and len(values) * (len(values[0]) + 2) >= _CHUNK_CELLS:
                yield self._frame(numbers, parts, values)
                numbers, parts, values = [], [], []
        if values:
            yield self._frame(numbers, parts, values)

    def _frame(self, numbers: Sequence[int], parts: Sequence[int], values: Sequence[np.ndarray]) -> pl.DataFrame:
        matrix = np.stack(values)
        places = [pl.Series(ITEM_COLUMN, numbers, dtype=pl.UInt32)]
        if self.divides:
            places.append(pl.Series(PART_COLUMN, parts, dtype=pl.UInt32))
        columns = [pl.Series(name, matrix[:, index], nan_to_null=True) for index, name in enumerate(self.column_names())]
        return pl.DataFrame([*places, *columns])


def role_of(node: ContentNode) -> str | None:
    return None if node.step.content is None else node.step.content.role


def _function(node: ContentNode) -> Callable[..., Any]:
    assert node.step.content is not None
    return node.step.content.make(node.parameters)


def _augmenting(augmentation: Augmentation) -> Callable[[Content], Content]:
    function = _function(augmentation.node)
    return lambda content: function(content, np.random.default_rng(augmentation.seed), augmentation.copy)
