"""Reads files with the reading component alone, and names what tests expect of their columns."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from workers.ml.reading.opening import open_reader
from workers.ml.reading.raw import RawFile

Columns = dict[str, tuple[str, list[Any]]]
Places = list[tuple[str, str | None, int | None]]


def integers(*cells: int | None) -> tuple[str, list[Any]]:
    return "INTEGER", list(cells)


def floats(*cells: float | None) -> tuple[str, list[Any]]:
    return "FLOAT", list(cells)


def texts(*cells: str | None) -> tuple[str, list[Any]]:
    return "STRING", list(cells)


def dates(*cells: date | None) -> tuple[str, list[Any]]:
    return "DATE", list(cells)


def opened(folder: Path, name: str, content: str | bytes) -> Any:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_reader(RawFile(path), name, lambda _share, _step: None)[1]


def columns_and_issues(folder: Path, name: str, content: str | bytes) -> tuple[Columns, Places]:
    """Return type and cells by column, and code, column and row of the issues in order."""
    reader = opened(folder, name, content)
    frames = list(reader.frames())
    while reader.needs_another_pass():
        frames = list(reader.frames())
    frame, types = pl.concat(frames), reader.column_types()
    issues = sorted(((issue["code"], issue["column"], issue["row"]) for issue in reader.issues.entries), key=str)
    return {column: (types[column], frame[column].to_list()) for column in frame.columns}, issues
