"""Occlusion (M. Zeiler and R. Fergus, 2014): how a prediction changes when a part of an item is hidden by its mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from workers.ml.contents.content import Content, ContentError
from workers.ml.contents.decoding import decode
from workers.ml.errors import BadInput
from workers.ml.explaining.contributions import class_labels
from workers.ml.explaining.outputs import Outputs
from workers.ml.prediction.contents import ContentReader, ReadContents
from workers.ml.prediction.features import FeatureReader
from workers.ml.prediction.predictor import Predictor

PATCHES = 12  # along the longer side of an image
WINDOWS = 40
BATCH = 150  # contents that are predicted at once


@dataclass(frozen=True)
class Occlusion:
    """`effects` are how much the prediction falls when a part is hidden, rows × columns of patches, or of windows one row.

    `bounds` are the limits of the patches along both axes, in pixels, or in samples with (0, 1) as the first. `content` is the item as it was read.
    """

    content: Content
    bounds: tuple[Sequence[int], Sequence[int]]
    effects: np.ndarray
    prediction: float
    label: str | None


class ExplainedItem:
    """An item of a version: the number of its row, and the columns of that row in the version's table."""

    def __init__(self, contents: ContentReader, row: int, table: pl.DataFrame, signature: Mapping[str, Any], predictor: Predictor) -> None:
        self.contents, self.row, self.predictor, self.target = contents, row, predictor, signature["output"].get("target")
        self._table = table
        self._reader = FeatureReader(signature, predictor)

    def decode(self) -> Content:
        """Raises BadInput (BAD_CONTENT)."""
        try:
            return decode(self.contents.items, self.row)
        except ContentError as error:
            key = self.contents.items.place(self.row).key
            raise BadInput("BAD_CONTENT", f"The item {key[:200]!r} {error}") from error

    def features(self, contents: Sequence[Content]) -> tuple[pl.DataFrame, np.ndarray]:
        """Return what the model takes of the item with each of these contents, and which content each row is of: it has one for each part.

        Raises BadInput: BAD_CONTENT, NO_PREDICTIONS.
        """
        found = [self.contents.read_content(self.row, content) for content in contents]
        of = np.repeat(np.arange(len(found)), [each.height for each in found])
        rows = np.zeros(len(of), dtype=np.int64)
        batch = self._reader.read_contents(self._table[rows], ReadContents(pl.concat(found), rows, {}))
        of = of[batch.can_predict]
        if len(np.unique(of)) < len(contents):
            reasons = " ".join(str(issue["message"]) for issue in self._reader.issues.to_list()[:3])
            message = f"The model cannot predict the item, or the item with a hidden part. {reasons}"
            raise BadInput("NO_PREDICTIONS", message.rstrip())
        return batch.features, of


def occlusion(item: ExplainedItem, label: str | None, progress: Callable[[float], None]) -> Occlusion:
    """Raises BadInput: BAD_CONTENT, NO_PREDICTIONS, NOT_SUPPORTED."""
    content = item.decode()
    if label is None and item.predictor.classes is not None:
        probabilities = item.predictor.predict(item.features([content])[0]).probabilities
        label = class_labels(item.predictor)[int(np.asarray(probabilities).mean(axis=0).argmax())]
    outputs = Outputs.of(item.predictor, label, item.target)
    bounds = _bounds(content)
    effects = np.zeros((len(bounds[0]) - 1, len(bounds[1]) - 1))
    hidden = _hidden(content, bounds)
    whole, done = 0.0, 0
    while batch := list(islice(hidden, BATCH)):
        features, of = item.features([content, *batch])
        # Of an item that is divided, the mean over its parts.
        means = np.bincount(of, outputs.numbers(features)[0]) / np.bincount(of)
        whole = float(means[0])
        effects.reshape(-1)[done : done + len(batch)] = whole - means[1:]
        done += len(batch)
        progress(done / effects.size)
    return Occlusion(content, bounds, effects, whole, label)


def _bounds(content: Content) -> tuple[list[int], list[int]]:
    if content.kind != "image":
        return [0, 1], _limits(len(content.values), WINDOWS)
    height, width = content.values.shape[:2]
    side = max(1, -(-max(height, width) // PATCHES))
    return _limits(height, -(-height // side)), _limits(width, -(-width // side))


def _limits(length: int, parts: int) -> list[int]:
    """Divide a length evenly into parts of at least 1."""
    return np.unique(np.linspace(0, length, min(parts, length) + 1).round().astype(int)).tolist()


def _hidden(content: Content, bounds: tuple[Sequence[int], Sequence[int]]) -> Iterator[Content]:
    """Yield the content with each part hidden by the mean of all, row by row."""
    is_image = content.kind == "image"
    mean = content.values.mean(axis=(0, 1) if is_image else 0)
    for row in range(len(bounds[0]) - 1):
        for column in range(len(bounds[1]) - 1):
            values = content.values.copy()
            across = slice(bounds[1][column], bounds[1][column + 1])
            values[(slice(bounds[0][row], bounds[0][row + 1]), across) if is_image else across] = mean
            yield replace(content, values=values)
