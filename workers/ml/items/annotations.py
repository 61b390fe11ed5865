"""Annotations of images: objects with a category and a box, and captions."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.reading.issues import IssueLog, short_repr

Box = tuple[float, float, float, float]
"""Left, top, width and height."""
_ENTRY: Final = struct.Struct("<i5d?")
_NO_BOX: Final = (math.nan,) * 4
_TOLERANCE: Final = 1.0  # pixels by which a box may be outside, as rounding makes


class Annotations:
    """The annotations of one image, packed, since an archive may have a million. Categories are numbers until `names` are known.

    The boxes are in pixels or, if `is_relative`, in shares of the image. `declared` is the size in pixels that the file with the annotations
    says.
    """

    __slots__ = ("_areas", "_counts", "_packed", "captions", "count", "declared", "first", "is_relative", "names")

    def __init__(self, first: int, *, is_relative: bool = False) -> None:
        self.first = first
        """The number of the first annotation in its file."""
        self.is_relative = is_relative
        self.names: Mapping[int, str] = {}
        self.declared: tuple[int, int] | None = None
        self.count = 0
        self.captions: list[str] = []
        self._counts: dict[int, int] = {}
        self._areas: dict[int, float] = {}
        self._packed = bytearray()

    def add(self, category: int, box: Box | None, area: float, *, is_crowd: bool = False) -> None:
        self.count += 1
        self._counts[category] = self._counts.get(category, 0) + 1
        self._areas[category] = self._areas.get(category, 0.0) + area
        if len(self._packed) < limits.MAX_ANNOTATIONS * _ENTRY.size:
            self._packed += _ENTRY.pack(category, *(box or _NO_BOX), area, is_crowd)

    def add_caption(self, caption: str) -> None:
        if len(self.captions) < limits.MAX_CAPTIONS:
            self.captions.append(caption[: limits.MAX_METADATA_LENGTH])

    def label(self) -> str | None:
        """The one category, or the most frequent; of two that are as frequent, the one that covers more."""
        counted = [
            (count, self._areas[number], name) for number, count in self._counts.items() if (name := self.names.get(number)) is not None
        ]
        return max(counted)[2][: limits.MAX_LABEL_LENGTH] if counted else None

    def metadata(self, width: int | None, height: int | None) -> dict[str, Any]:
        """As COCO names it: each with `category`, `bbox` in pixels, `area` and `iscrowd`; relative boxes need the size of the image."""
        categories = {self.names[number]: count for number, count in sorted(self._counts.items(), key=_by_count) if number in self.names}
        result: dict[str, Any] = {
            "annotations": [entry for entry in self._entries(width, height) if entry is not None],
            "annotationCount": self.count,
            "categories": dict(list(categories.items())[: limits.MAX_METADATA_FIELDS]),
        }
        return result | ({"captions": self.captions} if self.captions else {})

    def _entries(self, width: int | None, height: int | None) -> list[dict[str, Any] | None]:
        scale = (width, height, width, height) if self.is_relative and width is not None and height is not None else None
        entries: list[dict[str, Any] | None] = []
        for category, left, top, box_width, box_height, area, is_crowd in _ENTRY.iter_unpack(self._packed):
            if category not in self.names:
                continue
            entry: dict[str, Any] = {"category": self.names[category]}
            box = [left, top, box_width, box_height]
            if not math.isnan(left) and (scale is not None or not self.is_relative):
                entry["bbox"] = box if scale is None else [round(value * side, 3) for value, side in zip(box, scale, strict=True)]
                entry["area"] = area if scale is None else round(area * scale[0] * scale[1], 3)
            if is_crowd:
                entry["iscrowd"] = True
            entries.append(entry)
        return entries

    def issues(self, width: int, height: int) -> list[tuple[str, str]]:
        """What does not fit to the image as it is."""
        found: list[tuple[str, str]] = []
        if self.declared is not None and self.declared != (width, height):
            declared = "×".join(map(str, self.declared))
            found.append(("OTHER_SIZE", f"It has {width}×{height} pixels, and its annotations are for {declared}: their boxes do not fit."))
        elif not self.is_relative and (outside := sum(map(_is_outside(width, height), _ENTRY.iter_unpack(self._packed)))):
            found.append(("BOX_OUTSIDE", f"{outside:,} of its boxes are not within its {width}×{height} pixels."))
        return found


def _by_count(entry: tuple[int, int]) -> int:
    return -entry[1]


def _is_outside(width: int, height: int) -> Any:
    def is_outside(entry: tuple[int, float, float, float, float, float, bool]) -> bool:
        _, left, top, box_width, box_height, _, _ = entry
        return (
            min(left, top) < -_TOLERANCE or left + box_width > width + _TOLERANCE or top + box_height > height + _TOLERANCE
        )  # False of no box, as of every comparison with NaN

    return is_outside


class AnnotationLog:
    """Counts annotations. One that is broken is an issue that names file and place; a file of which a tenth are is refused."""

    def __init__(self, issues: IssueLog, filename: str) -> None:
        self.total = 0
        self._broken = 0
        self._first = ""
        self._issues = issues
        self._filename = filename

    def add_broken(self, path: str, place: str, why: str, count: int = 1) -> None:
        """`count` annotations, which are counted in `total` already, are broken for one reason."""
        self._broken += count
        message = f"{short_repr(path)}{', ' if place else ''}{place}: it {why}"
        self._first = self._first or message
        self._issues.add("BROKEN_ANNOTATION", f"{message}. It is left out.")
        self._issues.add_uncounted(count - 1)

    def extend(self, other: AnnotationLog) -> None:
        self.total += other.total
        self._broken += other._broken
        self._first = self._first or other._first
        self._issues.extend(other._issues)

    def check(self) -> None:
        """Raises BadInput (CORRUPT_ANNOTATIONS)."""
        if self._broken > limits.MAX_CORRUPT_SHARE * self.total:
            raise BadInput(
                "CORRUPT_ANNOTATIONS",
                f"{self._broken:,} of {self.total:,} annotations in {self._filename!r} cannot be read; at most a tenth may be. First {self._first}.",
            )


def finite_numbers(values: Any, count: int) -> Sequence[float] | None:
    """`values` if they are a list of so many finite numbers."""
    if not isinstance(values, list) or len(values) != count:
        return None
    if any(isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) for value in values):
        return None
    return values
