"""Column names that are present, unique and short."""

from __future__ import annotations

from collections.abc import Iterable

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.issues import IssueLog, shown


def clean_names(raw: Iterable[str], issues: IssueLog) -> list[str]:
    """Names as they will be used: trimmed; an empty one becomes `column_<position>`, a repeated one gets `_2`, `_3`…; each change is an issue.

    Raises BadInput (TOO_MANY_COLUMNS).
    """
    names = list(raw)
    check_width(len(names))
    taken = {name.strip() for name in names}
    used: set[str] = set()
    cleaned: list[str] = []
    for position, original in enumerate(names, start=1):
        name = original.replace("\0", "").strip()
        if len(name) > limits.MAX_NAME_LENGTH:
            cut = name[: limits.MAX_NAME_LENGTH]
            issues.add(
                "LONG_COLUMN_NAME", f"The name of column {position} has {len(name):,} characters; it was cut to {shown(cut)}.", column=cut
            )
            name = cut
        if not name:
            name = _free(f"column_{position}", used | taken)
            issues.add("EMPTY_COLUMN_NAME", f"Column {position} has no name; it was named {name!r}.", column=name)
        elif name in used:
            renamed = _free(name, used | taken, first=2)
            issues.add(
                "DUPLICATE_COLUMN_NAME",
                f"Column {position} is the second to be named {name!r}; it was renamed {renamed!r}.",
                column=renamed,
            )
            name = renamed
        used.add(name)
        cleaned.append(name)
    return cleaned


def check_width(width: int, *, is_at_least: bool = False) -> None:
    """Raises BadInput (TOO_MANY_COLUMNS); `is_at_least` where the counting stopped early."""
    if width > limits.MAX_COLUMNS:
        raise BadInput(
            "TOO_MANY_COLUMNS",
            f"The file has {'at least ' if is_at_least else ''}{width:,} columns; "
            f"at most {limits.MAX_COLUMNS:,} are taken. Drop columns, or turn columns into rows, and upload again.",
        )


def _free(name: str, taken: set[str], first: int = 1) -> str:
    if first == 1 and name not in taken:
        return name
    number = max(first, 2)
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
