"""Keys that an object inside of a value repeats. No member is lost: a further one gets a number behind its key, and an issue names the row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.json_numbers import REPEATED


def number_repeats(rows: list[dict[str, Any]], row_numbers: Sequence[int], issues: IssueLog) -> None:
    """Number the repeated keys inside of the values of rows; those of a row itself are columns, which `clean_names` numbers."""
    for row, members in zip(row_numbers, rows, strict=True):
        repeated: list[str] = []
        for key, value in members.items():
            members[key] = _numbered(value, repeated)
        if repeated:
            listed = ", ".join(short_repr(key) for key in dict.fromkeys(repeated[:5]))
            issues.add(
                "DUPLICATE_KEY",
                f"Row {row} has an object that repeats the {'key' if len(repeated) == 1 else 'keys'} {listed}; each further one got a number.",
                row=row,
            )


def _numbered(value: Any, repeated: list[str]) -> Any:
    if isinstance(value, list):
        return [_numbered(item, repeated) for item in value]
    if not isinstance(value, dict):
        return value
    members: dict[str, Any] = {}
    for key, item in value.items():
        name = key.rstrip(REPEATED)
        if name != key:
            repeated.append(name)
            number = 2
            while (numbered := f"{name}_{number}") in value or numbered in members:
                number += 1
            name = numbered
        members[name] = _numbered(item, repeated)
    return members
