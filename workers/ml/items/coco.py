"""Annotations as COCO has them: JSON files with `images`, `annotations` and `categories` (T.-Y. Lin et al., "Microsoft COCO", 2014; cocodataset.org)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import orjson

from workers.ml.errors import BadInput
from workers.ml.items import limits
from workers.ml.items.annotations import AnnotationLog, Annotations, Box, finite_numbers
from workers.ml.items.archive import Member, UnreadableMember
from workers.ml.items.json_arrays import Element, NotAnObject, array_elements
from workers.ml.items.paths import resolver, split_in_name, split_of_path, stem_of, suffix_of
from workers.ml.items.places import ArchiveContent, Layout, Place
from workers.ml.reading.issues import IssueLog, short_repr

_ARRAYS: Final = frozenset({"images", "annotations", "categories"})
_WORDS: Final = ("coco", "annotation", "instances", "captions", "keypoints", "labels", "image_info")
_SIZES: Final = 1 << 31

_Id = int | str


def by_coco(content: ArchiveContent) -> Layout | None:
    """The layout of an archive with a COCO file that names at least one of the items. Raises BadInput (CORRUPT_ANNOTATIONS)."""
    items = [member for member in content.members if suffix_of(member.path) in content.suffixes]
    log = AnnotationLog(content.issues, content.filename)
    files = [file for candidate in _candidates(content.members) if (file := _read(content, candidate, items)) is not None]
    if not files:
        return None
    places = {member.path: Place(split=split_of_path(member.path)) for member in items}
    for file in files:
        file.fill(places, content)
        log.extend(file.log)
    log.check()
    named = {path for file in files for path in file.paths.values()}
    content.report_unnamed(files[0].path, [member.path for member in items if member.path not in named])
    known = {file.path for file in files}
    content.report_skipped([member for member in content.members if member.path not in places and member.path not in known])
    return Layout("COCO", [(member, places[member.path]) for member in items])


def _candidates(members: Sequence[Member]) -> list[Member]:
    """JSON files in a folder `annotations` or whose name says it; of few, all. Objects come before captions and keypoints."""
    documents = [member for member in members if suffix_of(member.path) == ".json"]
    named = [
        member
        for member in documents
        if "/annotations/" in f"/{member.path.lower()}" or any(word in stem_of(member.path) for word in _WORDS)
    ]
    chosen = documents if len(documents) <= limits.MAX_MANIFEST_CANDIDATES else named[: limits.MAX_MANIFEST_CANDIDATES]
    return sorted(chosen, key=lambda member: ("keypoints" in stem_of(member.path), "captions" in stem_of(member.path)))


def _read(content: ArchiveContent, member: Member, items: Sequence[Member]) -> _File | None:
    """The file; None for one that is no COCO file, or names no item."""
    file = _File(member.path, content.filename)
    try:
        for element in array_elements(content.blocks(member), _ARRAYS):
            file.add(element)
    except (NotAnObject, UnreadableMember) as error:
        if file.is_coco():
            raise BadInput(
                "CORRUPT_ANNOTATIONS", f"{short_repr(member.path)} in {content.filename!r} cannot be read: it {error}. Write it again."
            ) from error
        return None
    if not file.is_coco():
        return None
    file.resolve(member, items)
    return file if file.paths else None


class _File:
    """One COCO file. Images, annotations and categories may be in any order, so ids are looked up once all are read."""

    def __init__(self, path: str, filename: str) -> None:
        self.path = path
        self.log = AnnotationLog(IssueLog(), filename)
        """Of this file, which may turn out to be something else."""
        self.images: dict[_Id, tuple[str, int | None, int | None]] = {}
        self.annotations: dict[_Id, Annotations] = {}
        self.categories: dict[_Id, str] = {}
        self.paths: dict[_Id, str] = {}
        """Of the images that are items."""
        self._missing: list[str] = []
        self._numbers: dict[_Id, int] = {}  # of categories, as they occur
        self._firsts: dict[_Id, tuple[int, int]] = {}  # of a category the number of its annotations, and the first one
        self._arrays: set[str] = set()
        self._split = split_in_name(stem_of(path))

    def is_coco(self) -> bool:
        return bool(self.annotations) or (bool(self.images) and len(self._arrays) > 1)

    def add(self, element: Element) -> None:
        self._arrays.add(element.name)
        try:
            value = orjson.loads(element.text)
        except orjson.JSONDecodeError as error:
            self._broken(element, f"is no valid JSON ({error})")
            return
        if not isinstance(value, dict):
            self._broken(element, "is no object")
            return
        if element.name == "images":
            self._add_image(element, value)
        elif element.name == "categories":
            self._add_category(element, value)
        else:
            self._add_annotation(element, value)

    def _broken(self, element: Element, why: str) -> None:
        self.log.total += 1
        self.log.add_broken(self.path, f"`{element.name}` {element.number:,}", why)

    def _add_image(self, element: Element, image: dict[str, Any]) -> None:
        identifier, name = _identifier(image.get("id")), image.get("file_name")
        if identifier is None or not isinstance(name, str) or not name:
            self._broken(element, "has no `id` and `file_name`")
        elif identifier in self.images:
            self._broken(element, f"has the id {identifier!r}, as an image before it")
        else:
            self.images[identifier] = (name, _pixels(image.get("width")), _pixels(image.get("height")))

    def _add_category(self, element: Element, category: dict[str, Any]) -> None:
        identifier, name = _identifier(category.get("id")), category.get("name")
        if identifier is None or not isinstance(name, str) or not name.strip():
            self._broken(element, "has no `id` and `name`")
        else:
            self.categories[identifier] = name.strip()[: limits.MAX_LABEL_LENGTH]

    def _add_annotation(self, element: Element, entry: dict[str, Any]) -> None:
        image, category, caption = _identifier(entry.get("image_id")), _identifier(entry.get("category_id")), entry.get("caption")
        if image is None:
            self._broken(element, "has no `image_id`")
            return
        if category is None and not isinstance(caption, str):
            self._broken(element, "has no `category_id`")
            return
        box = _box(entry)
        if isinstance(box, str):
            self._broken(element, box)
            return
        self.log.total += 1
        annotations = self.annotations.setdefault(image, Annotations(element.number))
        if isinstance(caption, str):
            annotations.add_caption(caption)
        if category is not None:
            area = finite_numbers([entry.get("area")], 1)
            number = self._numbers.setdefault(category, len(self._numbers))
            count, first = self._firsts.get(category, (0, element.number))
            self._firsts[category] = count + 1, first
            covered = area[0] if area is not None else box[2] * box[3] if box is not None else 0.0
            annotations.add(number, box, covered, is_crowd=entry.get("iscrowd") == 1)

    def resolve(self, member: Member, items: Sequence[Member]) -> None:
        resolve = resolver(member, items, self._split)
        for identifier, (name, _, _) in self.images.items():
            path = resolve(name)
            if path is None:
                self._missing.append(name)
            else:
                self.paths[identifier] = path

    def fill(self, places: dict[str, Place], content: ArchiveContent) -> None:
        """Give the items what the file says of them. Of two files with objects of one image, the first counts."""
        names = {number: self.categories[category] for category, number in self._numbers.items() if category in self.categories}
        for category, (count, first) in self._firsts.items():
            if category not in self.categories:
                self.log.add_broken(
                    self.path, f"`annotations` {first:,}", f"has the category {category!r}, which is not in the file", count
                )
        for image, entries in self.annotations.items():
            if image not in self.images:
                count = max(entries.count, len(entries.captions))
                why = f"is of the image {image!r}, which is not in the file"
                self.log.add_broken(self.path, f"`annotations` {entries.first:,}", why, count)
        content.report_missing(self.path, self._missing)
        again = 0
        for image, path in self.paths.items():
            place = places[path]
            place.split = self._split or place.split
            entries = self.annotations.get(image) or Annotations(0)
            if (known := place.annotations) is not None:
                if entries.count and known.count:
                    again += 1
                    continue
                captions = [*known.captions, *entries.captions]
                entries = entries if entries.count else known
                entries.captions = captions[: limits.MAX_CAPTIONS]
            entries.names = entries.names or names
            _, width, height = self.images[image]
            if width is not None and height is not None:
                entries.declared = width, height
            place.annotations = entries
            if entries.captions:
                place.texts["caption"] = entries.captions[0]
            place.label = entries.label() or place.label
        if again:
            content.issues.add(
                "SKIPPED_ANNOTATIONS",
                f"{short_repr(self.path)} has annotations of {again:,} images that another file has annotated already; those of the other file count.",
            )


def _identifier(value: Any) -> _Id | None:
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _pixels(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 0 < value < _SIZES else None


def _box(entry: dict[str, Any]) -> Box | str | None:
    """The box; None for an annotation without one, and a text that says what is wrong with it."""
    value = entry.get("bbox")
    if value is None or value == []:
        return None
    numbers = finite_numbers(value, 4)
    if numbers is None:
        return f"has the `bbox` {short_repr(value)}, which is no list of four numbers"
    left, top, width, height = numbers
    if width <= 0 or height <= 0:
        return f"has the `bbox` {short_repr(value)}, whose width and height are not positive"
    return float(left), float(top), float(width), float(height)
