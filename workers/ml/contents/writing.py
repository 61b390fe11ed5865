"""Writes the contents of a pipeline's items to a file, from which a version with items is read as from an upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from workers.ml.contents.content import Content, ContentError, ContentNode
from workers.ml.contents.places import ItemPlace, Items
from workers.ml.contents.program import ITEM_COLUMN, PART_COLUMN, Program, role_of
from workers.ml.contents.traces import file_of_gathers, held_back, quality_of
from workers.ml.contents.writers import ArchiveWriter, Features, SegyWriter, Writer, WrittenFile
from workers.ml.errors import BadInput
from workers.ml.items.reading import Described, ItemsResult, Progress, read_items
from workers.ml.items.signal_kind import SignalKind
from workers.ml.reading.issues import Issue
from workers.ml.reading.raw import RawFile

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

_FILED: Final = ("label", "split", "severity", "group")


@dataclass(frozen=True, slots=True)
class WrittenItems:
    """What reading the file gave, as of an ingest."""

    format: str
    size: int
    sha256: str
    items: ItemsResult
    issues: list[Issue]
    issue_count: int


def write_contents(bundle: Bundle, node: ContentNode) -> tuple[WrittenFile, dict[str, Any]]:
    """Write the contents of the items of all rows, as they are at `node`; return the file and the output of the node.

    Raises BadInput: NO_ITEMS, NO_ROWS, BAD_CONTENT, TOO_LARGE.
    """
    contents = bundle.contents_for(node)
    contents.add(node)
    program = Program([each for each in contents.nodes if role_of(each) in ("change", "divide", "write")])
    path = bundle.folder / "written"
    writer: Writer | None = None
    features: list[Features] = []
    total = _HeldBack()
    try:
        for place, content, row in _contents(bundle, program, contents.items, is_divided=contents.is_divided):
            if writer is None:
                file = None if program.divides else file_of_gathers(contents.items, place)
                writer = ArchiveWriter(path, [name for name in _FILED if name in row]) if file is None else SegyWriter(file, path)
            try:
                writer.add(place, content, row)
            except ContentError as error:
                message = f"Step '{node.key}' cannot write the item {place.key[:200]!r}: it {error}"
                raise BadInput("BAD_CONTENT", message, path=node.path()) from error
            total.add(content)
            made = {name: row[name] for names in contents.names.values() for name in names}
            features.append(made | (quality_of(content) or {}))
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise BadInput("NO_ROWS", f"No row is left for step '{node.key}' to write. Filter fewer rows.", path=node.path())
    keys = writer.keys()
    if len(keys) != len(features):
        raise BadInput(
            "BAD_CONTENT",
            f"Step '{node.key}' writes {len(features):,} gathers, of which neighbours have one number, so that {len(keys):,} would be read. Filter no rows before it.",
            path=node.path(),
        )
    written = WrittenFile(path, writer.filename, writer.content_type, dict(zip(keys, features, strict=True)))
    return written, {"items": len(features), "bytes": path.stat().st_size, **total.summary()}


def _contents(bundle: Bundle, program: Program, items: Items, *, is_divided: bool) -> Iterator[tuple[ItemPlace, Content, dict[str, Any]]]:
    """Yield the contents in the order of the rows, with the row of each. The parts of an item that is divided here for the first time share its row."""
    bundle.check_size(bundle.count(), len(bundle.columns))
    kept = {*bundle.columns, ITEM_COLUMN, PART_COLUMN}
    frame = bundle.lazy.select(name for name in bundle.lazy.collect_schema().names() if name in kept).collect(engine="streaming")
    start, end = bundle.progress_span
    parts: list[Content] = []
    current: int | None = None
    for done, row in enumerate(frame.iter_rows(named=True)):
        number = int(row[ITEM_COLUMN])
        if number != current:
            parts, current = program.contents(items, number), number
            bundle.reporter.progress(start + (end - start) * done / frame.height, f"Write the items: {done:,} of {frame.height:,} rows")
        place = items.place(number)
        for content in [parts[row[PART_COLUMN]]] if is_divided else parts:
            yield place, content, row


class _HeldBack:
    """The quality of all traces that were held back, together."""

    def __init__(self) -> None:
        self._traces = 0
        self._samples = 0
        self._power = self._error = self._peak = 0.0

    def add(self, content: Content) -> None:
        pair = held_back(content)
        if pair is None:
            return
        truth, estimate = pair
        self._traces += truth.shape[1]
        self._samples += truth.size
        self._power += float(np.sum(truth**2))
        self._error += float(np.sum((truth - estimate) ** 2))
        self._peak = max(self._peak, float(np.abs(truth).max()))

    def summary(self) -> dict[str, Any]:
        if not self._traces:
            return {}
        error = self._error / self._samples
        found: dict[str, Any] = {"held_back_traces": self._traces, "mse": error}
        if error and self._power:
            found |= {"snr": float(10 * np.log10(self._power / self._error)), "psnr": float(10 * np.log10(self._peak**2 / error))}
        return found


class _WrittenSignals(SignalKind):
    """Signals that also have the features that a pipeline made of them."""

    def __init__(self, features: Mapping[str, Features]) -> None:
        super().__init__()
        self._features = features

    def describe(self, content: bytes, path: str) -> Described:
        described = super().describe(content, path)
        return replace(described, features={**described.features, **self._features.get(path, {})})


def read_written(written: WrittenFile, folder: Path, table: Path, progress: Progress) -> WrittenItems:
    """Read the file as an ingest does, and write the table of its items to `table`. Raises BadInput: see `read_items`."""
    raw = RawFile(written.path)
    format_name, items, result = read_items(raw, written.filename, folder, _WrittenSignals(written.features), progress)
    items.write_table(table)
    return WrittenItems(format_name, raw.size, raw.sha256(), result, items.issues.entries, items.issues.count)
