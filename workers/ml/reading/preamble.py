"""What stands before a table: comments, a title, `sep=;`, blank lines, notes. It is skipped and listed as an issue."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from workers.ml.reading.issues import IssueLog, short_repr

_SEPARATOR_LINE: Final = re.compile(rb"\s*\"?sep=([,;|:\t^~])\"?[ ]*\r?(?:\n|\Z)", re.IGNORECASE)
_COMMENT: Final = re.compile(rb"[ \t]*(?:#|//|%)")
_PROSE: Final = re.compile(r"\w\S* \S+ \S*\w")
"""Three words or more: a note rather than a name."""
_NUMBER_START: Final = re.compile(r"\s*[-+.,]?\d")
_MAX_LINES: Final = 200
_MAX_VALUE_ROWS: Final = 20
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
    if start := _start_of_wider_table(rows, is_header):
        return start
    widths = Counter(len(row) for row in rows)
    width = max(widths, key=lambda count: (widths[count], count)) if rows else 0
    if width < 2:
        return 0
    has_prose = False
    for index, row in enumerate(rows[:_MAX_LINES]):
        filled = _filled(row)
        if not filled:
            continue  # a blank row of a sheet
        if len(row) == width and filled == width:
            if index and not is_header(rows[index:]) and (width < 3 or any(_filled(before) > 1 for before in rows[:index])):
                return 0
            return 0 if has_prose and not _has_values(rows[index:], is_header) else index
        is_note = bool(row and row[0].strip()) and filled <= max(1, width // 2) and (width > 2 or len(row) < width)
        if not is_note and len(row) < width and any(map(_PROSE.search, row)):
            has_prose = is_note = True
        if not is_note:
            # Below a title, a header may have gaps: those of merged cells.
            is_below_title = index > 0 and 2 * filled > width and max(map(_filled, rows[:index])) == 1
            return index if is_below_title and is_header(rows[index:]) and _has_values(rows[index:], is_header) else 0
    return 0


def _start_of_wider_table(rows: Rows, is_header: Callable[[Rows], bool]) -> int:
    """Return where a table begins that is wider than all rows before it, such as the labels and values above a bank statement; 0 for others.

    It may have fewer rows than stand before it, but has a header, two rows and a value below the header that is no text.
    """
    width = len(rows[-1]) if rows else 0
    start = next((index + 1 for index in range(len(rows) - 1, -1, -1) if len(rows[index]) != width), 0)
    before = [row for row in rows[:start] if _filled(row)]
    is_wider = width > 2 and len(rows) - start > 2 and start <= _MAX_LINES and all(len(row) < width for row in before)
    are_labels = all(row[0].strip() and not _NUMBER_START.match(row[0]) for row in before)
    if not (before and is_wider and are_labels) or _filled(rows[start]) != width:
        return 0
    return start if is_header(rows[start:]) and _has_values(rows[start:], is_header) else 0


def _has_values(table: Rows, is_header: Callable[[Rows], bool]) -> bool:
    """Whether a row below the header has a number, a date or a boolean, so that the header is told from the rows."""
    return any(not is_header(table[index:]) for index in range(1, min(len(table), _MAX_VALUE_ROWS)))


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
