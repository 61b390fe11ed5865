"""Values between MLflow's protocol, where parameters are texts and times milliseconds, and the rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from db.tables.experiments import RunStatus
from server.mlflow.errors import invalid

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_MILLISECONDS = 253_402_300_799_000  # the end of the year 9999

TO_STATUS: Mapping[str, RunStatus] = {
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.PENDING,
    "FINISHED": RunStatus.COMPLETED,
    "FAILED": RunStatus.FAILED,
    "KILLED": RunStatus.CANCELLED,
}
FROM_STATUS: Mapping[RunStatus, str] = {status: name for name, status in TO_STATUS.items()}


def artifact_uri(owner: str, path: str = "") -> str:
    """The address of the files of the run or the model version with this id, which clients resolve against that of the server."""
    return f"mlflow-artifacts:/{owner}/artifacts" + (f"/{path}" if path else "")


def stored(text: str) -> Any:
    """A parameter's value as it is kept: a number where that has exactly this text, so that lists sort and filter by it, else the text."""
    try:
        number = int(text)
        if str(number) == text and -(2**63) <= number < 2**63:
            return number
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return text
    return value if math.isfinite(value) and repr(value) == text else text


def shown(value: Any) -> str:
    """A parameter's text: that of a number as Python writes it, a text as it is, else JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    return orjson.dumps(value).decode()


def flattened(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of all parameters; names of nested ones have dots."""
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{name}.")  # pyright: ignore[reportUnknownArgumentType] - JSON
        else:
            yield f"{prefix}{name}", shown(value)


KEY_LENGTH, TAG_LENGTH = 250, 8_000


def tags_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Values by key, of a list of objects with `key` and `value`. Raises `MlflowError`."""
    return dict(pair(entry, TAG_LENGTH) for entry in entries)


def pair(entry: Mapping[str, Any], length: int) -> tuple[str, str]:
    """Key and value, a text of at most this length. Raises `MlflowError`."""
    key, value = entry.get("key"), entry.get("value", "")
    if not isinstance(key, str) or not isinstance(value, str) or not 1 <= len(key) <= KEY_LENGTH:
        raise invalid(f"A key is a text of 1 to {KEY_LENGTH} characters, and a value is a text; this is {str(key)[:KEY_LENGTH]!r}.")
    if len(value) > length or "\x00" in value or "\x00" in key:
        raise invalid(f"The value of '{key}' exceeds the maximum length of {length} characters, or has the character NUL.")
    return key, value


def milliseconds(moment: datetime | None) -> int | None:
    """Since 1970."""
    return None if moment is None else (moment - _EPOCH) // _MILLISECOND


def moment(value: int | None, name: str) -> datetime | None:
    """The time so many milliseconds after 1970. Raises `MlflowError` for one that is negative, or after the year 9999."""
    if value is None:
        return None
    if not 0 <= value <= MAX_MILLISECONDS:
        raise invalid(f"Invalid value {value} for parameter '{name}' supplied: it is no time in milliseconds since 1970.")
    return _time(value)


@lru_cache(maxsize=1_024)
def _time(milliseconds: int) -> datetime:
    """The points of a step have one time, and a batch has many such."""
    return _EPOCH + milliseconds * _MILLISECOND


_MILLISECOND = datetime(1970, 1, 1, microsecond=1_000, tzinfo=UTC) - _EPOCH


def metric_value(value: Any) -> float:
    """A number, or the texts `NaN`, `Infinity` and `-Infinity`, which JSON has no numbers for."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise invalid(f"Invalid value {value!r} for parameter 'value' supplied: it is no number.")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise invalid(f"Invalid value {value!r} for parameter 'value' supplied: it is no number.") from None


def json_number(value: float | None) -> float | str:
    """A number, or the text that stands for one that JSON cannot write."""
    if value is None or math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")
