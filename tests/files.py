"""Excel and Parquet files with given cells."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq


def workbook(*hidden: str, since: datetime | None = None, shown: str | None = None, **sheets: list[list[Any]]) -> bytes:
    """Return an Excel file with these sheets. `since` is the first day that it counts from, `shown` the number format of its first column."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    if since is not None:
        book.epoch = since
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        sheet.sheet_state = "hidden" if name in hidden else "visible"
        for row in rows:
            sheet.append(row)
        for cell in sheet["A"][1:] if shown else ():
            cell.number_format = shown
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def parquet(**columns: Any) -> bytes:
    """Return a Parquet file with these columns."""
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()
