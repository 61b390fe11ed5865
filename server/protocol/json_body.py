"""Read and parse untrusted JSON: limited in size and depth, and rejected where parsers could disagree on its meaning."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import Iterable
from typing import Any, cast

import orjson
from starlette.requests import Request

from server.protocol.http_errors import HttpError, bad_request

MAX_DEPTH = 64
THREAD_THRESHOLD = 64 * 1024
MAX_INTEGER_DIGITS = 19  # of integers that surely fit into 64 bits; those of 19 and 20 digits are checked by value

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# Possessive `{n,}+`: with backtracking, a number of n digits would take n scans. A sign behind an `e` belongs to an exponent.
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+\-])-?[0-9]{%d,}+(?![.eE])" % MAX_INTEGER_DIGITS)
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_DIGITS = b"0" * MAX_INTEGER_DIGITS
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


async def read(request: Request, limit: int) -> bytes:
    """Read the body. Raises `HttpError` 413 as soon as it exceeds `limit` bytes, or before reading by its Content-Length."""
    content_length = request.headers.get("content-length", "0")
    if content_length.isdecimal() and int(content_length[:20]) > limit:
        raise _too_long(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_long(limit)
    return bytes(body)


def _too_long(limit: int) -> HttpError:
    return HttpError(413, "PAYLOAD_TOO_LARGE", f"The body is longer than the {limit:,} bytes that are taken.", {"Connection": "close"})


async def parse_object_async(text: bytes, what: str) -> dict[str, Any]:
    """`parse_object`, in a thread for long texts, so that the event loop is not blocked."""
    return parse_object(text, what) if len(text) <= THREAD_THRESHOLD else await asyncio.to_thread(parse_object, text, what)


def parse_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object. Raises `HttpError` if it is none in UTF-8, and for duplicate keys, integers beyond 64 bits and deep nesting."""
    text = text.removeprefix(codecs.BOM_UTF8)  # RFC 8259, 8.1: files that Windows programs write begin with it, and some services send them
    if not text.strip():
        raise bad_request(f"{what} is empty. Send a JSON object: " + '{"query": "…", "variables": {…}}.')
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"{what} is not JSON in UTF-8: {error}.") from None
    if isinstance(value, list):
        raise bad_request(f"{what} is a list. Send one operation a request: a JSON object.")
    if not isinstance(value, dict):
        raise bad_request(f"{what} must be a JSON object.")
    members = cast("dict[str, Any]", value)
    is_shallow = text.count(b"{") + text.count(b"[") <= MAX_DEPTH
    if is_shallow and _is_plain(text, members):
        return members
    without_strings = _without_strings(text)
    if _is_deeper_than(MAX_DEPTH, without_strings):
        raise bad_request(f"{what} is nested deeper than {MAX_DEPTH} levels.")
    if not is_shallow and _is_plain(text, members):
        return members
    for digits in _long_integers(without_strings):
        if len(digits) > MAX_INTEGER_DIGITS + 2 or not -(2**63) <= int(digits) < 2**64:
            raise bad_request(f"{what} holds an integer that does not fit into 64 bits. Send it as a string.")
    if without_strings.count(b":") != _count_keys(members):
        raise bad_request(f"{what} holds an object that has a key twice.")
    return members


def _is_plain(text: bytes, value: dict[str, Any]) -> bool:
    """Whether the text is what a writer would make of its value, as that of most clients is: then it has no key twice and no large integer."""
    try:
        return orjson.dumps(value) == text
    except TypeError:  # half of a surrogate pair
        return False


def _without_strings(text: bytes) -> bytes:
    """JSON with its strings emptied."""
    # Without escapes, each quotation mark begins or ends a string: several times faster than the expression.
    return _STRING.sub(b'""', text) if b"\\" in text else b'""'.join(text.split(b'"')[::2])


def _is_deeper_than(levels: int, without_strings: bytes) -> bool:
    """Remove innermost pairs of brackets `levels` times. `without_strings` is JSON with its strings emptied."""
    brackets = without_strings.translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return bool(brackets)


def _long_integers(without_strings: bytes) -> list[bytes]:
    """Integers of at least `MAX_INTEGER_DIGITS` digits. Most texts have no such row of digits, which is found sooner than by the expression."""
    return _LONG_INTEGER.findall(without_strings) if _DIGITS in without_strings.translate(_ZEROS) else []


def _count_keys(value: object) -> int:
    """The number of members of all objects in it."""
    count, stack = 0, [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            members = cast("dict[str, Any]", current)
            count += len(members)
            children: Iterable[object] = members.values()
        elif isinstance(current, list):
            children = cast("list[object]", current)
        else:
            continue
        stack += [part for part in children if isinstance(part, (dict, list))]
    return count
