"""The options of exports: what each format takes, how it is checked, and its default."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from db.core.checks import Checks
from db.tables.exports import ExportFormat

MAX_NULL_TEXT = 20

Check = Callable[[Any, "Source"], str | None]
"""Return what is wrong with a value, and what would be valid; None for a valid one."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: the names of its columns, in order."""

    columns: Sequence[str]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a format; null is as good as left out."""

    check: Check
    default: Any = None


def _one_of(*values: str) -> Check:
    listed = ", ".join(f'"{value}"' for value in values)

    def check(value: Any, _source: Source) -> str | None:
        return None if isinstance(value, str) and value in values else f"This is not one of {listed}."

    return check


def _flag(value: Any, _source: Source) -> str | None:
    return None if isinstance(value, bool) else "This is true or false."


def _delimiter(value: Any, _source: Source) -> str | None:
    if isinstance(value, str) and len(value) == 1 and value.isascii() and not value.isalnum() and value not in '"\r\n\0':
        return None
    return 'A delimiter is one ASCII character that is no letter, digit, quote or line break, such as "," or ";".'


def _null_text(value: Any, _source: Source) -> str | None:
    if isinstance(value, str) and len(value) <= MAX_NULL_TEXT and value.isprintable() and '"' not in value:
        return None
    return f"This is a text of at most {MAX_NULL_TEXT} printable characters without quotes."


def _columns(value: Any, source: Source) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in cast("list[Any]", value)):
        return "This is a list of one or more names of columns."
    names = cast("list[str]", value)
    for name in names:
        if name not in source.columns:
            close = difflib.get_close_matches(name, source.columns, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Its columns are: {', '.join(list(source.columns)[:20])}."
            return f"The version has no column {name!r}. {hint}"
    return None if len(set(names)) == len(names) else "Each column can be named once."


_COLUMNS = Option(_columns)
_TEXT_COMPRESSION = Option(_one_of("none", "gzip"), "none")
_NON_FINITE = Option(_one_of("null", "text"), "null")

OPTIONS: Mapping[ExportFormat, Mapping[str, Option]] = {
    ExportFormat.CSV: {
        "columns": _COLUMNS,
        "delimiter": Option(_delimiter, ","),
        "header": Option(_flag, default=True),
        "nullText": Option(_null_text, ""),
        "formulaGuard": Option(_flag, default=True),
        "compression": _TEXT_COMPRESSION,
    },
    ExportFormat.JSON: {"columns": _COLUMNS, "nonFinite": _NON_FINITE, "compression": _TEXT_COMPRESSION},
    ExportFormat.JSONL: {"columns": _COLUMNS, "nonFinite": _NON_FINITE, "compression": _TEXT_COMPRESSION},
    ExportFormat.PARQUET: {"columns": _COLUMNS, "compression": Option(_one_of("zstd", "snappy", "gzip", "none"), "zstd")},
}


def validated(export_format: ExportFormat, given: Any, source: Source, checks: Checks) -> dict[str, Any]:
    """Return all options of the format, those that are left out with their defaults, and without those that then are null."""
    options = OPTIONS[export_format]
    chosen: dict[str, Any] = {}
    for name, value in checks.document(given, "options").items():
        option = options.get(name)
        if option is None:
            close = difflib.get_close_matches(name, options, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The options of {export_format.name} are: {', '.join(options)}."
            checks.add("options", name, message=f"{export_format.name} has no option {name!r}. {hint}")
        elif value is not None:
            if (message := option.check(value, source)) is None:
                chosen[name] = value
            else:
                checks.add("options", name, message=message)
    return {name: value for name, option in options.items() if (value := chosen.get(name, option.default)) is not None}
