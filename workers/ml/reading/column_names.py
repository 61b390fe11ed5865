"""Cleaning of column names: non-empty, unique, at most 200 characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.issues import IssueLog, short_repr


def clean_names(raw: Iterable[str], issues: IssueLog) -> list[str]:
    """Return trimmed, unique names: an empty one becomes `column_<position>`, a duplicate gets `_2`, `_3`…; each such change is an issue.

    Raises BadInput (TOO_MANY_COLUMNS).
    """
    names = [composed_name(name) for name in raw]  # two spellings of a name are one name
    check_width(len(names))
    original_names = set(names)
    used_names: set[str] = set()
    cleaned: list[str] = []
    for position, original in enumerate(names, start=1):
        name = original.replace("\0", "").strip()
        if len(name) > limits.MAX_NAME_LENGTH:
            shortened = name[: limits.MAX_NAME_LENGTH]
            issues.add(
                "LONG_COLUMN_NAME",
                f"The name of column {position} has {len(name):,} characters; it was shortened to {short_repr(shortened)}.",
                column=shortened,
            )
            name = shortened
        if not name:
            name = _unused_name(f"column_{position}", used_names | original_names)
            issues.add("EMPTY_COLUMN_NAME", f"Column {position} has no name; it was named {name!r}.", column=name)
        elif name in used_names:
            renamed = _unused_name(name, used_names | original_names, first=2)
            issues.add(
                "DUPLICATE_COLUMN_NAME",
                f"Column {position} has the same name as another column, {name!r}; it was renamed {renamed!r}.",
                column=renamed,
            )
            name = renamed
        used_names.add(name)
        cleaned.append(name)
    return cleaned


def composed_name(name: str) -> str:
    """The name in its NFC form, without spaces and byte order marks around it."""
    name = unicodedata.normalize("NFC", name).strip()
    while name.startswith("\ufeff") or name.endswith("\ufeff"):
        name = name.strip("\ufeff").strip()
    return name


def check_width(width: int, *, is_at_least: bool = False) -> None:
    """Raises BadInput (TOO_MANY_COLUMNS); `is_at_least` if `width` is only a lower bound."""
    if width > limits.MAX_COLUMNS:
        raise BadInput(
            "TOO_MANY_COLUMNS",
            f"The file has {'at least ' if is_at_least else ''}{width:,} columns; "
            f"the maximum is {limits.MAX_COLUMNS:,}. Drop columns, or turn columns into rows, and upload again.",
        )


def _unused_name(name: str, used_names: set[str], first: int = 1) -> str:
    if first == 1 and name not in used_names:
        return name
    number = max(first, 2)
    while f"{name}_{number}" in used_names:
        number += 1
    return f"{name}_{number}"
