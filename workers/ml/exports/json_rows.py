"""JSON and JSON lines: an object a row. Numbers of any size keep their digits, decimals are texts, and what a JSON column holds is embedded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from workers.ml.exports.compressing import compressed
from workers.ml.exports.source import Rows
from workers.ml.exports.texts import as_text, is_text

_TEXTS_OF_FLOATS = {"NaN": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def write_json(rows: Rows, path: Path, options: dict[str, Any]) -> None:
    """One array, with a row on each line."""
    with compressed(path, options["compression"]) as file:
        before = b"[\n"
        for line in _lines(rows, options):
            file.write(before + line)
            before = b",\n"
        file.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def write_json_lines(rows: Rows, path: Path, options: dict[str, Any]) -> None:
    with compressed(path, options["compression"]) as file:
        for line in _lines(rows, options):
            file.write(line + b"\n")


def _lines(rows: Rows, options: dict[str, Any]) -> Iterator[bytes]:
    as_texts: bool = options["nonFinite"] == "text"
    names = list(rows.types)
    for frame in rows.frames():
        converters = [_converter(dtype, rows.types[name], as_texts=as_texts) for name, dtype in frame.schema.items()]
        cells = frame.select(_cell(name, dtype) for name, dtype in frame.schema.items())
        for row in cells.iter_rows():
            values = [value if convert is None else convert(value) for value, convert in zip(row, converters, strict=True)]
            yield orjson.dumps(dict(zip(names, values, strict=True)))  # which writes NaN and infinities as null


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_float() or (dtype.is_integer() and not isinstance(dtype, pl.Int128 | pl.UInt128))


def _cell(name: str, dtype: pl.DataType) -> pl.Expr:
    return pl.col(name) if dtype == pl.Boolean or _is_number(dtype) or dtype.is_nested() else as_text(name, dtype).alias(name)


def _converter(dtype: pl.DataType, column_type: str, *, as_texts: bool) -> Callable[[Any], Any] | None:
    if column_type == "JSON" and is_text(dtype):
        return _embedded
    if dtype == pl.Float32:
        return _float32_with_text if as_texts else _float32
    return _float_with_text if as_texts and dtype.is_float() else None


def _embedded(text: str | None) -> Any:
    """The value that a text of a JSON column holds, on one line; the text itself if it is no JSON."""
    if text is None:
        return None
    try:
        orjson.loads(text)
        return orjson.Fragment(json.dumps(json.loads(text), ensure_ascii=False) if "\n" in text or "\r" in text else text)
    except ValueError:
        return text


def _float_with_text(value: float | None) -> float | str | None:
    return value if value is None or value - value == 0 else _TEXTS_OF_FLOATS[str(value).replace("nan", "NaN")]


def _float32(value: float | None) -> float | None:
    """The number with the digits that a float32 has, not with those of the float64 next to it."""
    import numpy as np

    return value if value is None or value - value != 0 else float(str(np.float32(value)))


def _float32_with_text(value: float | None) -> float | str | None:
    return _float_with_text(_float32(value))
