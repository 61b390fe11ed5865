"""Conversion of values to what JSON and PostgreSQL's jsonb can store."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any


def json_value(value: Any, text_limit: int = 1_000) -> Any:
    """Convert `value` to JSON types: NaN and infinities to null, dates and times to ISO 8601, durations to seconds, bytes to hexadecimal;
    a decimal to a number if that keeps its digits, else to text.

    Text longer than `text_limit` characters is truncated with "…"; NUL becomes U+FFFD, because jsonb rejects it.
    """
    match value:
        case None | bool():
            return value
        case int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case str():
            text = value if len(value) <= text_limit else value[: text_limit - 1] + "…"
            return text.replace("\0", "\ufffd")
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value) if Decimal(repr(float(value))) == value else f"{value:f}"
        case bytes():
            return json_value(value[:text_limit].hex(), text_limit)
        case dict():
            return {str(key): json_value(item, text_limit) for key, item in value.items()}
        case list() | tuple():
            return [json_value(item, text_limit) for item in value]
        case _:
            return json_value(str(value), text_limit)
