"""Paths of members: what their extension, name and folders say, and which member a text names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from workers.ml.items.archive import Member
from workers.ml.split_names import SPLITS

_SPLIT_WORD: Final = re.compile(rf"(?<![a-z])({'|'.join(sorted(SPLITS, key=len, reverse=True))})(?:[-_]?\d{{4}})?(?![a-z])", re.IGNORECASE)


def suffix_of(path: str) -> str:
    name = path.rpartition("/")[2]
    return "." + name.rpartition(".")[2].lower() if "." in name else ""


def stem_of(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0].lower()


def split_folder(folders: list[str]) -> tuple[str | None, list[str]]:
    """The split that the first folder, or the last, is named for, and the other folders."""
    for index in (0, len(folders) - 1):
        if folders and (split := SPLITS.get(folders[index].lower())) is not None:
            return split, folders[:index] + folders[index + 1 :]
    return None, folders


def split_of_path(path: str) -> str | None:
    """The split that a folder of the path is, or has in its name, such as `train2017`."""
    folders = path.split("/")[:-1]
    return split_folder(folders)[0] or next(filter(None, map(split_in_name, folders)), None)


def split_in_name(name: str) -> str | None:
    """The split that a name has as a word, as `instances_train2017` and `train-000001` have."""
    word = _SPLIT_WORD.search(name)
    return None if word is None else SPLITS[word[1].lower()]


def clean_name(cell: str) -> str:
    """What a cell says of a file, in the form in which it is compared with paths. `workers.ml.contents.named` does the same of whole columns."""
    return cell.replace("\\", "/").removeprefix("./").lstrip("/")


def resolver(table: Member, others: Iterable[Member], split: str | None = None) -> Callable[[Any], str | None]:
    """Find a file by its path from the table's folder or from the top, or by its name alone if no other file has it, or none of that split."""
    folder = table.path.rpartition("/")[0]
    paths = {member.path for member in others}
    by_name: dict[str, str | None] = {}
    in_split: dict[str, str | None] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        by_name[name] = None if name in by_name else path
        if split is not None and split_of_path(path) == split:
            in_split[name] = None if name in in_split else path

    def resolve(value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        clean = clean_name(value)
        for path in (f"{folder}/{clean}" if folder else clean, clean):
            if path in paths:
                return path
        name = clean.rpartition("/")[2]
        return by_name.get(name) or in_split.get(name)

    return resolve
