"""JSON as it comes from anywhere: read to a limit, and taken only where it means the same to everybody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any, cast

import orjson
from starlette.requests import Request

from server.protocol.refusals import Refused, bad_request

DEPTH = 64
LONG = 64 * 1024
DIGITS = 19  # of the longest integers that fit into 64 bits; some of 19 and 20 digits do not

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
# Digits that were taken are not given back, or a number of n digits would be looked at n times over; a sign behind an `e` is an exponent's.
_LONG = re.compile(rb"(?<![0-9.eE+\-])-?[0-9]{%d,}+(?![.eE])" % DIGITS)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


async def read(request: Request, limit: int) -> bytes:
    """The body. Raises `Refused` with 413 as soon as it is known to be longer than `limit` bytes, before reading where it says so itself."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_long(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_long(limit)
    return bytes(body)


def _too_long(limit: int) -> Refused:
    return Refused(413, "PAYLOAD_TOO_LARGE", f"The body is longer than the {limit:,} bytes that are taken.", {"Connection": "close"})


async def object_in(text: bytes, what: str) -> dict[str, Any]:
    """As `parsed`; a long text is looked at in a thread, where others get their turn after a few milliseconds."""
    return parsed(text, what) if len(text) <= LONG else await asyncio.to_thread(parsed, text, what)


def parsed(text: bytes, what: str) -> dict[str, Any]:
    """The object. Raises `Refused` for what is no JSON object in UTF-8, and for what two readers could take for different ones."""
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
    bare = _STRING.sub(b'""', text)
    if _deeper_than(DEPTH, bare):
        raise bad_request(f"{what} is nested deeper than {DEPTH} levels.")
    for digits in _LONG.findall(bare):
        if len(digits) > DIGITS + 2 or not -(2**63) <= int(digits) < 2**64:
            raise bad_request(f"{what} holds an integer that does not fit into 64 bits. Send it as a string.")
    found = cast("dict[str, Any]", value)
    if bare.count(b":") != _keys(found):
        raise bad_request(f"{what} holds an object that has a key twice.")
    return found


def _deeper_than(levels: int, bare: bytes) -> bool:
    """Take the innermost brackets away, again and again. `bare` is JSON without what its strings hold."""
    brackets = bare.translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return bool(brackets)


def _keys(value: object) -> int:
    """How many members the objects in it have, together."""
    found, left = 0, [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            members = cast("dict[str, Any]", one)
            found += len(members)
            parts: Iterable[object] = members.values()
        elif isinstance(one, list):
            parts = cast("list[object]", one)
        else:
            continue
        left += [part for part in parts if isinstance(part, (dict, list))]
    return found
