"""A body's output: decoded to lines, excerpted for LOG events, and written to the attempt's log file.

All works on chunks instead of lines, because a body may print faster than Python can iterate over lines.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

MAX_LINE_BYTES = 64 * 1024  # bytes after which a line without an end is split
MAX_LINE_CHARS = 2_000  # characters of a line in an event
HEAD_CHARS, TAIL_CHARS = 3_000, 5_000  # characters of the first and of the last lines in an event
FILE_TAIL_CHARS = 16 * 1024  # characters of the last lines kept once the file is full


class LineDecoder:
    """Decodes chunks of bytes to whole lines of text. Invalid UTF-8 and NUL become U+FFFD."""

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, chunk: bytes) -> str:
        """Return the lines completed by this chunk, each with its newline; often none."""
        complete, end, partial = (self._partial + chunk).rpartition(b"\n")
        if len(partial) > MAX_LINE_BYTES:
            complete, end, partial = complete + end + partial, b"\n", b""
        self._partial = partial
        return _readable(complete + end) if end else ""

    def finish(self) -> str:
        """Return the last line, which had no newline."""
        partial, self._partial = self._partial, b""
        return _readable(partial + b"\n") if partial else ""


def _readable(raw: bytes) -> str:
    if b"\r" in raw:  # a progress bar redraws its line; keep what a terminal would show in the end
        raw = b"\n".join(line.rpartition(b"\r")[2] for line in raw.replace(b"\r\n", b"\n").split(b"\n"))
    return raw.decode("utf-8", "replace").replace("\x00", "\ufffd")


class Excerpt:
    """The first and last lines added since the last `take`, and the number of lines between them."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._head: list[str] = []
        self._size = 0
        self._is_full = False
        self._tail = ""
        self._lines_after_head = 0

    def __bool__(self) -> bool:
        return bool(self._head or self._lines_after_head)

    def add(self, text: str) -> None:
        """Add whole lines."""
        position = 0
        while not self._is_full and position < len(text):
            end = text.index("\n", position)
            line = text[position : min(end, position + MAX_LINE_CHARS)]
            if self._size + len(line) + 1 > HEAD_CHARS:
                self._is_full = True
                break
            self._head.append(line)
            self._size += len(line) + 1
            position = end + 1
        if position < len(text):
            self._lines_after_head += text.count("\n", position)
            self._tail = (self._tail + text[max(position, len(text) - TAIL_CHARS) :])[-TAIL_CHARS:]

    def take(self) -> str:
        """Return the excerpt and reset it. A note in place of omitted lines counts them."""
        tail_lines = self._tail.split("\n")[:-1]
        if len(tail_lines) > 1 and len(self._tail) == TAIL_CHARS:
            del tail_lines[0]  # most likely cut off at its start
        omitted = self._lines_after_head - len(tail_lines)
        note = [f"[{omitted:,} {'line was' if omitted == 1 else 'lines were'} left out here]"] if omitted else []
        excerpt = "\n".join([*self._head, *note, *(line[:MAX_LINE_CHARS] for line in tail_lines)])
        self._reset()
        return excerpt


class LogFile:
    """Timestamped lines up to `limit` bytes, then the last lines and the number of those omitted.

    The file is created with the first line. A full disk ends the log, never the job.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._file: BinaryIO | None = None
        self._size = 0
        self._tail = ""
        self._omitted_count = 0
        self._is_closed = False
        self.is_full = False

    def add(self, text: str) -> None:
        """Add whole lines with the current time."""
        timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z ")
        if self.is_full:
            self._omitted_count += text.count("\n")
            self._tail = (self._tail + _timestamped(text[-FILE_TAIL_CHARS:], timestamp))[-FILE_TAIL_CHARS:]
            return
        data = _timestamped(text, timestamp).encode()
        available = self._limit - self._size
        if len(data) > available:
            fitting = data.rfind(b"\n", 0, max(available, 0)) + 1
            line_count = data.count(b"\n", 0, fitting)
            data, remainder = data[:fitting], text.split("\n", line_count)[line_count]
            self.is_full = True
            self.add(remainder)
        self._write(data)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was printed, or nothing could be written."""
        return self._size == 0

    def close(self) -> None:
        """Write the last lines and close the file. Later lines are dropped."""
        if self._omitted_count:
            *lines, _ = self._tail.split("\n")
            if len(lines) > 1 and len(self._tail) == FILE_TAIL_CHARS:
                del lines[0]
            omitted = self._omitted_count - len(lines)
            note = f"[{omitted:,} lines were left out here: a log keeps {self._limit:,} bytes and the last lines]\n" if omitted > 0 else ""
            self._write((note + "".join(f"{line}\n" for line in lines)).encode())
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._is_closed = True

    def _write(self, data: bytes) -> None:
        if self._is_closed or not data:
            return
        try:
            if self._file is None:
                self._file = self.path.open("wb", buffering=0)
            self._size += self._file.write(data)
        except OSError:
            self._is_closed = True
            self.is_full = True


def _timestamped(text: str, timestamp: str) -> str:
    return timestamp + text[:-1].replace("\n", "\n" + timestamp) + "\n"
