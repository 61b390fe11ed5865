"""What a body says: its lines made readable, the beginning and the end of them for events, and the whole as a file.

Everything here works on chunks, not on lines, since a body may print faster than Python can look at lines.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

LONGEST = 64 * 1024  # bytes after which a line without an end is broken
LINE = 2_000  # characters of a line that an event shows
HEAD, TAIL = 3_000, 5_000  # characters that an event shows of the first and of the last lines
END = 16 * 1024  # characters of the last lines that a file keeps which is full


class Lines:
    """Makes whole lines of text out of chunks of bytes. Bytes that are no UTF-8, and NULs, become U+FFFD."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> str:
        """The lines that are whole now, each with its end; often none."""
        whole, end, rest = (self._rest + chunk).rpartition(b"\n")
        if len(rest) > LONGEST:
            whole, end, rest = whole + end + rest, b"\n", b""
        self._rest = rest
        return _readable(whole + end) if end else ""

    def finish(self) -> str:
        """What was left without an end."""
        rest, self._rest = self._rest, b""
        return _readable(rest + b"\n") if rest else ""


def _readable(whole: bytes) -> str:
    if b"\r" in whole:  # a bar that draws itself again and again: what a terminal would show in the end
        whole = b"\n".join(line.rpartition(b"\r")[2] for line in whole.replace(b"\r\n", b"\n").split(b"\n"))
    return whole.decode("utf-8", "replace").replace("\x00", "\ufffd")


class Excerpt:
    """The first and the last lines of what was added since it was last taken, and how many lie between them."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._head: list[str] = []
        self._size = 0
        self._is_full = False
        self._tail = ""
        self._behind = 0

    def __bool__(self) -> bool:
        return bool(self._head or self._behind)

    def add(self, text: str) -> None:
        """`text` is whole lines."""
        at = 0
        while not self._is_full and at < len(text):
            end = text.index("\n", at)
            line = text[at : min(end, at + LINE)]
            if self._size + len(line) + 1 > HEAD:
                self._is_full = True
                break
            self._head.append(line)
            self._size += len(line) + 1
            at = end + 1
        if at < len(text):
            self._behind += text.count("\n", at)
            self._tail = (self._tail + text[max(at, len(text) - TAIL) :])[-TAIL:]

    def take(self) -> str:
        """The excerpt, which begins anew. Lines left out are counted where they stood."""
        shown = self._tail.split("\n")[:-1]
        if len(shown) > 1 and len(self._tail) == TAIL:
            del shown[0]  # most likely the end of a line only
        left_out = self._behind - len(shown)
        note = [f"[{left_out:,} {'line was' if left_out == 1 else 'lines were'} left out here]"] if left_out else []
        excerpt = "\n".join([*self._head, *note, *(line[:LINE] for line in shown)])
        self._begin()
        return excerpt


class LogFile:
    """All lines with their times, up to `limit` bytes; then the last ones and how many were left out.

    The file is made with the first line. A disk that is full ends the log, never the job.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._file: BinaryIO | None = None
        self._size = 0
        self._end = ""
        self._left_out = 0
        self._is_closed = False
        self.is_full = False

    def add(self, text: str) -> None:
        """`text` is whole lines, all of now."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z ")
        if self.is_full:
            self._left_out += text.count("\n")
            self._end = (self._end + _timed(text[-END:], now))[-END:]
            return
        told = _timed(text, now).encode()
        room = self._limit - self._size
        if len(told) > room:
            fitting = told.rfind(b"\n", 0, max(room, 0)) + 1
            kept = told.count(b"\n", 0, fitting)
            told, rest = told[:fitting], text.split("\n", kept)[kept]
            self.is_full = True
            self.add(rest)
        self._write(told)

    @property
    def is_empty(self) -> bool:
        """Nothing was said, or nothing could be written."""
        return self._size == 0

    def close(self) -> None:
        """What is added after this is not kept."""
        if self._left_out:
            *lines, _ = self._end.split("\n")
            if len(lines) > 1 and len(self._end) == END:
                del lines[0]
            left_out = self._left_out - len(lines)
            note = (
                f"[{left_out:,} lines were left out here: a log keeps {self._limit:,} bytes and the last lines]\n" if left_out > 0 else ""
            )
            self._write((note + "".join(f"{line}\n" for line in lines)).encode())
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._is_closed = True

    def _write(self, told: bytes) -> None:
        if self._is_closed or not told:
            return
        try:
            if self._file is None:
                self._file = self.path.open("wb", buffering=0)
            self._size += self._file.write(told)
        except OSError:
            self._is_closed = True
            self.is_full = True


def _timed(text: str, now: str) -> str:
    return now + text[:-1].replace("\n", "\n" + now) + "\n"
