"""The custom scalars: serialization into results and parsing of inputs.

A parser raises `ValueError` with a part of a sentence; graphql-core adds the variable or argument and the value.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NewType, TypeAlias, cast

import orjson
import strawberry
from strawberry.types.scalar import ScalarDefinition

if TYPE_CHECKING:  # fields take the values of rows and documents unconverted
    BigInt: TypeAlias = int
    Duration: TypeAlias = float
    JSON: TypeAlias = Any
    MetricValue: TypeAlias = float
else:
    BigInt = NewType("BigInt", int)
    Duration = NewType("Duration", float)
    JSON = NewType("JSON", object)
    MetricValue = NewType("MetricValue", float)

_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
MAX_JSON_DEPTH = 64
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})


def serialize_datetime(value: object) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise TypeError(f"DateTime needs an aware datetime, not {value!r}.")
    utc_time = value if value.tzinfo is UTC else value.astimezone(UTC)
    return utc_time.isoformat(timespec="microseconds")[:-6] + "Z"


def is_encoded_alike(type_: Any) -> bool:
    """Whether `encode_json` writes times in UTC as `serialize_datetime` would, which takes ten times as long: those with microseconds."""
    return type_.coerce_output_value is serialize_datetime


def is_integer(type_: Any) -> bool:
    """Whether it is BigInt, which has the range of PostgreSQL's `bigint`."""
    return type_.coerce_output_value is serialize_integer


def encode_json(value: object) -> bytes:
    """Encode a result. Its times may still be `datetime`, in UTC, and what PostgreSQL wrote is `orjson.Fragment`.

    Raises `TypeError` for what has no representation in JSON or UTF-8.
    """
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def parse_datetime(value: object) -> datetime:
    """Parse RFC 3339 only; fractions of a second are truncated to microseconds."""
    if isinstance(value, str) and (match := _RFC3339.fullmatch(value)):
        fraction = (match[1] or "")[:7]
        try:
            return datetime.fromisoformat(f"{value[:10]}T{value[11:19]}{fraction}{match[2].upper()}").astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("give a time in RFC 3339 format, with an offset: 2026-01-31T12:00:00Z")


def serialize_integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not _MIN_INT64 <= value <= _MAX_INT64:
        raise TypeError(f"BigInt needs a 64-bit integer, not {value!r}.")
    return value


def parse_integer(value: object) -> int:
    """Parse a JSON number without a fraction, or a string of digits, within 64 bits."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not _MIN_INT64 <= value <= _MAX_INT64:
        raise ValueError("give a whole number of at most 64 bits, as a number or a string of digits")
    return value


def serialize_duration(value: object) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"Duration needs seconds, not {value!r}.")
    return float(value)


def parse_duration(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("give seconds as a number")
    return float(value)


def parse_metric_value(value: object) -> float:
    """Accept a number, or a text for one that JSON does not have."""
    if isinstance(value, str) and value in _NOT_FINITE:
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError('give a number, or one of the texts "NaN", "Infinity" and "-Infinity"')  # noqa: TRY004 - what graphql-core adds the place to
    try:
        return float(value)
    except OverflowError:
        raise ValueError("it is beyond what a 64-bit floating-point number can hold") from None


def serialize_json(value: object) -> Any:
    """Return the value with NaN and infinities, which JSON lacks, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): serialize_json(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [serialize_json(item) for item in cast("list[Any]", value)]
    return value


def parse_json(value: object) -> Any:
    """Accept any JSON value that PostgreSQL can store: at most 64 levels, finite numbers, integers within 64 bits, no NUL in texts."""
    _check_json(value, 0)
    return value


def _check_json(value: object, depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} levels deep; flatten it")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("it contains a character that cannot be stored, NUL or half of a surrogate pair; remove it")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("it contains NaN or an infinity, which JSON does not have; use null")
    elif isinstance(value, int):
        if not _MIN_INT64 <= value <= _MAX_INT64:
            raise ValueError("it contains an integer of more than 64 bits; send it as a string")
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[Any, Any]", value).items():
            _check_json(key, depth + 1)
            _check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            _check_json(item, depth + 1)


SCALARS: Mapping[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="A time in RFC 3339 format, in UTC with microseconds: `2026-01-31T12:00:00.000000Z`. Inputs may have any offset.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=serialize_datetime,
        parse_value=parse_datetime,
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A 64-bit integer, written as a JSON number (JavaScript reads it exactly up to 2^53). Inputs may also be strings of digits.",
        serialize=serialize_integer,
        parse_value=parse_integer,
    ),
    JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value: object, array, string, number, boolean or null. NaN and infinities become null.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=serialize_json,
        parse_value=parse_json,
    ),
    MetricValue: strawberry.scalar(
        name="MetricValue",
        description='The value of a metric: a number, or one of the texts "NaN", "Infinity" and "-Infinity" for what JSON has no number for.',
        serialize=float,
        parse_value=parse_metric_value,
    ),
    Duration: strawberry.scalar(
        name="Duration",
        description="A duration in seconds, with fractions.",
        serialize=serialize_duration,
        parse_value=parse_duration,
    ),
}
