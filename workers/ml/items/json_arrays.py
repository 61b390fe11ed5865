"""The elements of arrays that are values of a JSON object, without the whole in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

_STRING: Final = rb'"[^"\\]*(?:\\.[^"\\]*)*+"|"'
_TOKEN: Final = re.compile(_STRING + rb"|[{}\[\],:]", re.DOTALL)
_BRACKET: Final = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_MAX_ELEMENT_BYTES: Final = 32 * 1024 * 1024
_ELEMENT_DEPTH: Final = 2


class NotAnObject(Exception):
    """The text is not a JSON object, or is not complete; the message says how."""


class Element(NamedTuple):
    """`number` counts the elements of the array from 1."""

    name: str
    number: int
    text: bytes


def array_elements(blocks: Iterable[bytes], names: frozenset[str]) -> Iterator[Element]:
    """Yield the text of each element of the arrays with these names. Raises `NotAnObject`.

    Only brackets and strings are looked at, so the text of an element may be no valid JSON.
    """
    scanner = _Scanner(names)
    for block in blocks:
        yield from scanner.feed(block)
    scanner.finish()


class _Scanner:
    """Keeps what was fed from the start of the current element, or of a string whose end is to come."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._buffer = bytearray()
        self._position = 0  # of the next token
        self._start = 0  # of the current element
        self._depth = 0
        self._key = self._last_string = ""
        self._number = 0
        self._is_selected = self._is_ended = False

    def feed(self, block: bytes) -> Iterator[Element]:
        is_first = not self._buffer and not self._depth
        self._buffer += block.removeprefix(b"\xef\xbb\xbf") if is_first else block
        while True:
            token = (_BRACKET if self._depth > _ELEMENT_DEPTH else _TOKEN).search(self._buffer, self._position)
            if token is None or token[0] == b'"':
                break  # the end of the string is in the next block
            self._position = token.end()
            element = self._take(token[0], token.start())
            if element is not None:
                yield element
        if token is None and self._depth and not self._is_selected:
            self._position = len(self._buffer)  # numbers and blanks
        kept = self._start if self._is_selected else self._position
        del self._buffer[:kept]
        self._position -= kept
        self._start = 0
        if len(self._buffer) > _MAX_ELEMENT_BYTES:
            raise NotAnObject(f"has a value of more than {_MAX_ELEMENT_BYTES:,} bytes")

    def _take(self, text: bytes, begin: int) -> Element | None:
        if self._is_ended or (self._depth == 0 and (text != b"{" or self._buffer[:begin].strip())):
            raise NotAnObject("is no JSON object")
        if text in (b"{", b"["):
            self._depth += 1
            if self._depth == _ELEMENT_DEPTH and text == b"[" and self._key in self._names:
                self._is_selected, self._number, self._start = True, 0, self._position
        elif text in (b"}", b"]"):
            self._depth -= 1
            self._is_ended = self._depth == 0
            if self._depth == _ELEMENT_DEPTH - 1 and self._is_selected:
                self._is_selected = False
                return self._element(begin) if self._buffer[self._start : begin].strip() else None
        elif self._depth == _ELEMENT_DEPTH and text == b"," and self._is_selected:
            return self._element(begin)
        elif self._depth == 1 and text == b":":
            self._key = self._last_string
        elif self._depth == 1 and text.startswith(b'"'):
            self._last_string = text[1:-1].decode("utf-8", "replace")
        return None

    def _element(self, end: int) -> Element:
        self._number += 1
        element = Element(self._key, self._number, bytes(self._buffer[self._start : end]).strip())
        self._start = self._position
        return element

    def finish(self) -> None:
        if not self._is_ended:
            place = f" in `{self._key}`" if self._key else ""
            raise NotAnObject(f"is cut off{place}" if self._depth else "is no JSON object")
