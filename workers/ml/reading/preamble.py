"""What stands before a table: comments, a title, `sep=;`, blank lines, notes. It is skipped and listed as an issue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from workers.ml.reading.issues import IssueLog, short_repr

_SEPARATOR_LINE: Final = re.compile(rb"\s*\"?sep=([,;|:\t^~])\"?[ ]*\r?(?:\n|\Z)", re.IGNORECASE)
_COMMENT: Final = re.compile(rb"[ \t]*(?:#|//|%)")
_MAX_LINES: Final = 200
Rows = list[list[str]]


def separator_line(text: bytes) -> tuple[bytes, int] | None:
    """Return the delimiter that a first line `sep=;` gives, as Excel writes it, and the line's length."""
    match = _SEPARATOR_LINE.match(text)
    return None if match is None else (match.group(1), match.end())


def comment_end(text: bytes, is_header: Callable[[bytes, bytes], bool]) -> int:
    """Return the offset after the comments at the beginning. `is_header` tells a last comment that has the names (`#id,name`) by the line
    and the text after it."""
    end = position = 0
    last = b""
    for _ in range(_MAX_LINES):
        stop = text.find(b"\n", position) + 1
        line = text[position : stop or len(text)]
        if not stop or (line.strip() and not _COMMENT.match(line)):
            break
        if line.strip():
            end, last = stop, line
        position = stop
    if not last or not text[end:].strip() or (last.lstrip()[:1] == b"#" and is_header(last, text[end:])):
        end -= len(last)
    return end


def table_start(rows: Rows, is_header: Callable[[Rows], bool]) -> int:
    """Return how many rows of the sample stand before the table: rows with few fields before the first full row."""
    widths = Counter(len(row) for row in rows)
    width = max(widths, key=lambda count: (widths[count], count)) if rows else 0
    if width < 2:
        return 0
    for index, row in enumerate(rows[:_MAX_LINES]):
        filled = _filled(row)
        if not filled:
            continue  # a blank row of a sheet
        if len(row) == width and filled == width:
            if index and not is_header(rows[index:]) and (width < 3 or any(_filled(before) > 1 for before in rows[:index])):
                return 0
            return index
        is_note = bool(row and row[0].strip()) and filled <= max(1, width // 2) and (width > 2 or len(row) < width)
        if not is_note:
            return 0
    return 0


def _filled(row: list[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


def add_issue(log: IssueLog, lines: list[str]) -> None:
    """List the lines that were skipped."""
    shown = [line.strip() for line in lines if line.strip()]
    if not shown:
        return
    quoted = ", ".join(short_repr(line, 80) for line in shown[:3]) + (", …" if len(shown) > 3 else "")
    count = len(shown)
    log.add(
        "SKIPPED_LINES",
        f"{'A line stands' if count == 1 else f'{count:,} lines stand'} before the table and {'was' if count == 1 else 'were'} skipped: {quoted}. "
        "If that is wrong, give the number of the header row when you upload the file.",
    )
