"""JSON with every digit of its whole numbers: orjson, which is fast, turns those beyond 64 bits into floats."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_ESCAPE: Final = re.compile(rb"(\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2})|(\\u[dD][89a-fA-F][\da-fA-F]{2})|\\.", re.DOTALL)
_MAX_INT_TEXT: Final = 4_000  # Python converts at most 4,300 digits


def loads(text: bytes) -> Any:
    """Parse strict JSON. Raises `orjson.JSONDecodeError`."""
    value = orjson.loads(text)
    return json.loads(text, parse_int=_whole) if _LONG_NUMBER.search(text) else value


def loads_with_constants(text: bytes) -> Any:
    """Parse JSON with NaN and Infinity, as Python writes them. Raises `ValueError` or `RecursionError`."""
    return json.loads(text, parse_int=_whole)


def without_half_characters(text: bytes) -> bytes:
    """Replace escapes of unpaired surrogates, which JSON's grammar allows and no text holds, by U+FFFD."""
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[2] else escape[0], text)


def dumps(value: Any) -> str:
    """Write a value as JSON, with whole numbers of any length and infinities as null."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if value - value == 0 else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case _:
            return value


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_INT_TEXT else digits
