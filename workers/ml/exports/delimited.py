"""CSV: UTF-8 without a byte order mark, lines that end in LF, quotes only where they are needed; an empty text is quoted, a missing value is not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from workers.ml.exports.compressing import compressed
from workers.ml.exports.source import Rows
from workers.ml.exports.texts import as_text, is_text

FORMULA = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}]"
"""What a spreadsheet takes for a formula, of text cells, also in the full width of East Asian fonts; numbers stay as they are."""

JSON_NUMBER = r"^-(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
"""A number in a column of JSON, whose cells are texts."""


def write_csv(rows: Rows, path: Path, options: dict[str, Any]) -> None:
    guard: bool = options["formulaGuard"]
    form: dict[str, Any] = {"separator": options["delimiter"], "include_header": False, "quote_style": "necessary"}
    with compressed(path, options["compression"]) as file:
        if options["header"]:
            names = pl.DataFrame(
                {str(position): [name] for position, name in enumerate(rows.types)}
            )  # two names may be equal with the guard
            _cells(names, {}, guard=guard).write_csv(file, **form)
        for frame in rows.frames():
            _cells(frame, rows.types, guard=guard).write_csv(file, null_value=options["nullText"], **form)


def _cells(frame: pl.DataFrame, types: Mapping[str, str], *, guard: bool) -> pl.DataFrame:
    def cell(name: str, dtype: pl.DataType) -> pl.Expr:
        text = as_text(name, dtype)
        if guard and is_text(dtype):
            is_formula = text.str.contains(FORMULA)
            if types.get(name) == "JSON":
                is_formula &= ~text.str.contains(JSON_NUMBER)
            text = pl.when(is_formula).then("'" + text).otherwise(text)
        return text.alias(name)

    return frame.select(cell(name, dtype) for name, dtype in frame.schema.items())
