"""The header `Range` of a request for a single range of bytes (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

_SINGLE = re.compile(r"bytes=[ \t]*(?:([0-9]{1,40})-([0-9]{1,40})?|-([0-9]{1,40}))[ \t]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """The bytes from `start` to `end`, which is not among them, of `size`."""

    start: int
    end: int
    size: int

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


class Unsatisfiable(Exception):
    """The range begins after the last byte, or asks for none."""


def requested_range(headers: Headers, size: int, etag: str) -> ByteRange | None:
    """Return the range that is asked for; None for all bytes.

    All bytes are the answer to several ranges, other units and what is no range, as a server may choose, and to an `If-Range` that does not name
    this `etag`: the client has a part of something else. Raises `Unsatisfiable`.
    """
    match = _SINGLE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), size if last is None else min(int(last) + 1, size)
        if last is not None and int(last) < start:
            return None
    if start >= size:
        raise Unsatisfiable
    return ByteRange(start, end, size)
