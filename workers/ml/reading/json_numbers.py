"""JSON with all that it says: orjson, which is fast, turns whole numbers beyond 64 bits into floats, fractions near zero into zero, and
takes the last of the members of an object that have one key."""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import numpy as np
import orjson

_LONG_NUMBER: Final = re.compile(rb"\d{19}")
_TINY_NUMBER: Final = re.compile(rb"[eE]-\d{3}")
_HUGE_NUMBER: Final = re.compile(rb"[eE]\+?\d{3}|\d{309}")
_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_ESCAPE: Final = re.compile(rb"(\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2})|(\\u[dD][89a-fA-F][\da-fA-F]{2})|\\.", re.DOTALL)
_ZERO: Final = re.compile(r"-?[0.]*(?:[eE].*)?")
_MAX_INT_TEXT: Final = 4_000  # Python converts at most 4,300 digits
TOO_DEEP: Final = "its values are nested too deeply"
REPEATED: Final = "\0"
"""Stands after the key of a further member of an object with the same key: `clean_names` removes it and numbers the column."""


class WideNumber(str):
    """A number as it is written, which no double holds."""

    __slots__ = ()


def loads(text: bytes, repeated: list[str] | None = None) -> Any:
    """Parse strict JSON; add the keys that an object repeats to `repeated`. Raises `orjson.JSONDecodeError`."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        if _HUGE_NUMBER.search(text) and without_half_characters(text) == text:
            try:
                return _loads_all(text, repeated, parse_constant=_refuse)
            except (ValueError, RecursionError):
                pass
        raise
    if not _is_changed(text, value):
        return value
    try:
        return _loads_all(text, repeated)
    except RecursionError as error:
        raise orjson.JSONDecodeError(TOO_DEEP, "", 0) from error


def loads_with_constants(text: bytes, repeated: list[str] | None = None) -> Any:
    """Parse JSON with NaN and Infinity, as Python writes them. Raises `ValueError` or `RecursionError`."""
    return _loads_all(text, repeated)


def _loads_all(text: bytes, repeated: list[str] | None, **options: Any) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) == len(pairs):
            return result
        result = {}
        for key, value in pairs:
            name = key
            while name in result:
                name += REPEATED
            if name != key and repeated is not None:
                repeated.append(key)
            result[name] = value
        return result

    return json.loads(text, parse_int=_whole, parse_float=_fraction, object_pairs_hook=members, **options)


def without_half_characters(text: bytes) -> bytes:
    """Replace escapes of unpaired surrogates, which JSON's grammar allows and no text holds, by U+FFFD."""
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[2] else escape[0], text)


def outside_strings(text: bytes) -> tuple[Any, Any]:
    """Return the bytes of `text`, which begins outside of a string, and which of them are outside of strings."""
    unescaped = _ESCAPED.sub(b"__", text) if b"\\" in text else text
    buffer = np.frombuffer(unescaped, np.uint8)
    return buffer, ~np.bitwise_xor.accumulate(buffer == 0x22)


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


def _is_changed(text: bytes, value: Any) -> bool:
    """Whether `value` may lack something that `text` says."""
    if _LONG_NUMBER.search(text):
        return True
    if (b"e-" in text or b"E-" in text) and _TINY_NUMBER.search(text):
        return True
    # A repeated key costs a colon at least, in the text that is written from the value; an escaped colon would be one more.
    colons = text.count(b":")
    if colons == _top_members(value):
        return False
    try:
        return rb"\u003" in text or orjson.dumps(value).count(b":") != colons
    except TypeError:  # it writes fewer levels than it reads
        return True


def _top_members(value: Any) -> int:
    if isinstance(value, dict):
        return len(value)
    return sum(map(len, value)) if isinstance(value, list) and value and set(map(type, value)) == {dict} else 0


def _whole(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_INT_TEXT else WideNumber(digits)


def _fraction(text: str) -> float | str:
    value = float(text)
    return WideNumber(text) if value - value != 0 or (value == 0 and not _ZERO.fullmatch(text)) else value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
