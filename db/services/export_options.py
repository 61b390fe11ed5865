"""The options of exports: what each format takes, how it is checked, and its default."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from db.core.checks import Checks
from db.core.suggestions import closest
from db.tables.datasets import Modality
from db.tables.exports import ExportFormat

LABEL, SPLIT = "label", "split"  # the columns of what an archive says of an item
MAX_NULL_TEXT = 20
MIN_SHARD_BYTES, MAX_SHARD_BYTES, SHARD_BYTES = 1_000_000, 100_000_000_000, 1_000_000_000
MIN_SHARD_ROWS, MAX_SHARD_ROWS, SHARD_ROWS = 1_000, 100_000_000, 1_000_000

Check = Callable[[Any, "Source"], str | None]
"""Return what is wrong with a value, and what would be valid; None for a valid one."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is exported: the names of its columns, in order, None while they are not known; the one that models predict, if it is known; and the modality of
    its items, if it has any.

    `is_one_file` if these are parts of one file, which cannot be read without it.
    """

    columns: Sequence[str] | None
    target: str | None = None
    items_of: Modality | None = None
    is_one_file: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a format; null is as good as left out. The value of `of_source`, if it has one, is the default."""

    check: Check
    default: Any = None
    of_source: Callable[[Source], Any] | None = None


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


def _shard_rows(value: Any, _source: Source) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and MIN_SHARD_ROWS <= value <= MAX_SHARD_ROWS:
        return None
    return f"This is an integer from {MIN_SHARD_ROWS:,} to {MAX_SHARD_ROWS:,}."


def _shard_bytes(value: Any, _source: Source) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and MIN_SHARD_BYTES <= value <= MAX_SHARD_BYTES:
        return None
    return f"This is an integer from {MIN_SHARD_BYTES:,} to {MAX_SHARD_BYTES:,}."


def _contents(value: Any, source: Source) -> str | None:
    if not isinstance(value, bool):
        return "This is true or false."
    if value and source.items_of is None:
        return "The version has no items, only a table. Leave this out, or choose a version that was read from an archive of items."
    return None


def _column(value: Any, source: Source) -> str | None:
    return _unknown(value, source) if isinstance(value, str) else "This is the name of a column."


def _columns(value: Any, source: Source) -> str | None:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in cast("list[Any]", value)):
        return "This is a list of one or more names of columns."
    names = cast("list[str]", value)
    message = next((message for name in names if (message := _unknown(name, source)) is not None), None)
    return message or (None if len(set(names)) == len(names) else "Each column can be named once.")


def _unknown(name: str, source: Source) -> str | None:
    if source.columns is None or name in source.columns:
        return None
    close = closest(name, source.columns)
    hint = f"Did you mean {close!r}?" if close is not None else f"Its columns are: {', '.join(list(source.columns)[:20])}."
    return f"The version has no column {name[:100]!r}. {hint}"


def _target(source: Source) -> str | None:
    """The target of the dataset, if the version has such a column."""
    return source.target if source.columns is not None and source.target in source.columns else None


CONTENTS: Mapping[ExportFormat, frozenset[Modality]] = {
    ExportFormat.HUGGINGFACE: frozenset({Modality.IMAGE, Modality.AUDIO, Modality.VIDEO}),
    ExportFormat.PYTORCH: frozenset({Modality.IMAGE, Modality.AUDIO, Modality.VIDEO, Modality.SIGNAL, Modality.TEXT}),
}
"""The formats that items have, by their modality."""


def contents_problem(export_format: ExportFormat, source: Source) -> str | None:
    """Return why the items have no files in this format, and what to do instead; None if they do."""
    instead = "Leave `contents` out to export their table"
    if source.items_of is Modality.MULTIMODAL:
        return f"The rows of a MULTIMODAL version name several items each, which no format of files by item can say. {instead}, or download the version's own file."
    if source.is_one_file:
        return f"The items are gathers of one SEG-Y file, which are no files by themselves. {instead}, or download the version's own file."
    if source.items_of is not None and source.items_of not in CONTENTS[export_format]:
        others = [each.name for each, modalities in CONTENTS.items() if source.items_of in modalities]
        return f"The libraries of {export_format.name} read no folder of {source.items_of.name} items. {instead}{f', or choose {others[0]}' if others else ''}."
    return None


def _contents_default(export_format: ExportFormat) -> Callable[[Source], bool | None]:
    """The files where the format has them, so that nobody who exports images gets numbers instead; not said of a version without items."""
    return lambda source: None if source.items_of is None else contents_problem(export_format, source) is None


_COLUMNS = Option(_columns)
_TEXT_COMPRESSION = Option(_one_of("none", "gzip"), "none")
_NON_FINITE = Option(_one_of("null", "text"), "null")
_LEARNING = {
    "columns": _COLUMNS,
    "target": Option(_column, of_source=_target),
    "splitColumn": Option(_column),
    "archive": Option(_flag, default=True),
}
_SHARDS = {"shardRows": Option(_shard_rows, SHARD_ROWS)}


def _items(export_format: ExportFormat) -> dict[str, Option]:
    return {"contents": Option(_contents, of_source=_contents_default(export_format)), "shardBytes": Option(_shard_bytes, SHARD_BYTES)}


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
    ExportFormat.HUGGINGFACE: _LEARNING | _SHARDS | _items(ExportFormat.HUGGINGFACE),
    ExportFormat.PYTORCH: _LEARNING | _items(ExportFormat.PYTORCH),
    ExportFormat.TENSORFLOW: _LEARNING | _SHARDS,
    ExportFormat.ONNX: {},
}


def _check_null_text(chosen: Mapping[str, Any], checks: Checks) -> None:
    """The text is written as it is, neither quoted nor guarded."""
    null_text: str = chosen.get("nullText", "")
    if chosen.get("delimiter", "\0") in null_text:
        checks.add(
            "options", "nullText", message="The text contains the delimiter, so it would be two cells. Choose another text or delimiter."
        )
    if chosen.get("formulaGuard") and len(null_text) > 1 and null_text[0] in "=+-@":
        message = "A spreadsheet takes this text for a formula. Choose another one, or set `formulaGuard` to false."
        checks.add("options", "nullText", message=message)


def _settle_contents(
    options: Mapping[str, Option], chosen: dict[str, Any], given: Mapping[str, Any], source: Source, checks: Checks
) -> None:
    """Items are cut by bytes and a table by rows. Archives of items are not packed once more unless that is asked for; what the upload says is their target
    and their split.
    """
    is_of_items = bool(chosen.get("contents"))
    unused, used = ("shardRows", "shardBytes") if is_of_items else ("shardBytes", "shardRows")
    if "contents" in options and given.get(unused) is not None:
        what = "the contents of items, whose archives are cut by `shardBytes`" if is_of_items else "a table"
        what += ", whose files are cut by `shardRows`" if used == "shardRows" and used in options else ""
        checks.add("options", unused, message=f"This export has {what}. Leave this out, or choose the other by `contents`.")
    chosen.pop(unused, None)
    if is_of_items:
        if given.get("archive") is None:
            chosen["archive"] = False
        columns = source.columns or ()
        if "target" not in chosen and LABEL in columns:
            chosen["target"] = LABEL
        if "splitColumn" not in chosen and SPLIT in columns:
            chosen["splitColumn"] = SPLIT  # also where some items have none


def validated(export_format: ExportFormat, given: Any, source: Source, checks: Checks) -> dict[str, Any]:
    """Return all options of the format, those that are left out with their defaults, and without those that then are null."""
    options = OPTIONS[export_format]
    chosen: dict[str, Any] = {}
    document = checks.document(given, "options")
    for name, value in document.items():
        option = options.get(name)
        if option is None:
            close = difflib.get_close_matches(name, options, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Its options are: {', '.join(options)}." if options else "It has none."
            checks.add("options", name, message=f"{export_format.name} has no option {name!r}. {hint}")
        elif value is not None:
            if (message := option.check(value, source)) is None:
                chosen[name] = value
            else:
                checks.add("options", name, message=message)
    for name, option in options.items():
        value = option.default if option.of_source is None else option.of_source(source)
        if name not in chosen and value is not None:
            chosen[name] = value
    _check_null_text(chosen, checks)
    _settle_contents(options, chosen, document, source, checks)
    names: list[str] | None = chosen.get("columns")
    for name in ("target", "splitColumn"):
        if names is not None and chosen.get(name, names[0]) not in names:
            if document.get(name) is not None:
                checks.add("options", name, message=f"The column {chosen[name]!r} is not among `columns`; name it there, too.")
            del chosen[name]
    if chosen.get("target", 0) == chosen.get("splitColumn"):
        checks.add("options", "splitColumn", message="The target cannot be the column of the splits.")
    return {name: chosen[name] for name in options if name in chosen}
