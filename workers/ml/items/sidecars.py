"""Files beside each item that say its label, its caption and its metadata, as WebDataset and trainers of captioned images have them.

WebDataset (github.com/webdataset/webdataset) takes the members of a tar whose paths are equal up to the first dot of the name for one sample.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import orjson

from workers.ml.items import limits
from workers.ml.items.annotations import AnnotationLog
from workers.ml.items.archive import Member, UnreadableMember
from workers.ml.items.paths import split_in_name, suffix_of
from workers.ml.items.places import ArchiveContent, Layout, Place

_SUFFIXES: Final = (".cls", ".json", ".txt", ".caption")
_MIN_SHARE: Final = 0.5
"""Of the items that have such a file."""


def by_sidecars(content: ArchiveContent, by_folders: Layout) -> Layout | None:
    """Add what the files say to what the folders say. Raises BadInput (CORRUPT_ANNOTATIONS)."""
    suffixes = [suffix for suffix in _SUFFIXES if suffix not in content.suffixes]
    files = {member.path: member for member in content.members if suffix_of(member.path) in suffixes}
    if not files:
        return None
    beside = [
        [files[path] for suffix in suffixes if (path := _beside(member.path, suffix, files)) is not None] for member, _ in by_folders.items
    ]
    if not beside or sum(map(bool, beside)) < _MIN_SHARE * len(beside):
        return None
    log = AnnotationLog(content.issues, content.filename)
    split = split_in_name(content.filename)
    in_sample = Counter(_sample(member.path) for member, _ in by_folders.items)
    items: list[tuple[Member, Place]] = []
    for (member, of_folder), found in zip(by_folders.items, beside, strict=True):
        place = Place(of_folder.label, of_folder.split or split, of_folder.severity)
        items.append((member, place))
        if in_sample[sample := _sample(member.path)] > 1:
            place.metadata["group"] = sample
        for file in found:
            _fill(content, file, place, log)
    log.check()
    used = {member.path for member, _ in by_folders.items} | {file.path for found in beside for file in found}
    content.report_skipped([member for member in content.members if member.path not in used])
    return Layout("WebDataset", items)


def _sample(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def _beside(path: str, suffix: str, files: dict[str, Member]) -> str | None:
    """`a.left.png` has `a.left.json` or `a.json` beside it."""
    return next((candidate for stem in (path.rpartition(".")[0], _sample(path)) if (candidate := stem + suffix) in files), None)


def _fill(content: ArchiveContent, file: Member, place: Place, log: AnnotationLog) -> None:
    log.total += 1
    suffix = suffix_of(file.path)
    try:
        text = content.read_small(file)
        value: Any = orjson.loads(text) if suffix == ".json" else text.replace("\0", "").strip()
    except UnreadableMember as error:
        log.add_broken(file.path, "", str(error))
    except UnicodeDecodeError:
        log.add_broken(file.path, "", "is no text in UTF-8")
    except orjson.JSONDecodeError as error:
        log.add_broken(file.path, f"line {error.lineno}", f"is no valid JSON ({error.msg})")
    else:
        if suffix == ".json" and not isinstance(value, dict):
            log.add_broken(file.path, "", "is no JSON object")
        elif suffix == ".json":
            place.fill(value)
        elif suffix == ".cls" and not value:
            log.add_broken(file.path, "", "is empty")
        elif suffix == ".cls":
            place.label = value[: limits.MAX_LABEL_LENGTH]
        else:
            place.texts["caption"] = value[: limits.MAX_TEXT_CELL] or None
