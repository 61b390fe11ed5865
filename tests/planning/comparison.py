"""Comparison of two responses to one operation, as far as the GraphQL specification determines them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

Position = tuple[str | int, ...]


@dataclass(frozen=True)
class Difference:
    """What differs, for the message of a failed test."""

    what: str
    planned: Any
    expected: Any

    def __str__(self) -> str:
        return f"{self.what}\n planned: {self.planned}\nexpected: {self.expected}"


def compare(planned: bytes, expected: bytes) -> Difference | None:
    """Return the difference of two response bodies; None if they are equal.

    Data and order of fields must be the same to the byte. Errors may come in any order. Of several failing fields below one position
    that becomes null, the specification asks for the error of any one of them.
    """
    planned_data, planned_errors = _parts(planned)
    expected_data, expected_errors = _parts(expected)
    if planned_data != expected_data:
        return Difference("data", planned_data, expected_data)
    data = None if planned_data is None else orjson.loads(planned_data)
    planned_nulls, expected_nulls = _by_null(data, planned_errors), _by_null(data, expected_errors)
    if planned_nulls.keys() != expected_nulls.keys():
        return Difference("positions of errors", planned_nulls, expected_nulls)
    for position, error in planned_nulls.items():
        other = expected_nulls[position]
        if error != other and (_path(error) == position or _path(other) == position):
            return Difference(f"error at {position}", error, other)
    return None


def _parts(body: bytes) -> tuple[bytes | None, list[dict[str, Any]]]:
    response = orjson.loads(body)
    errors = response.get("errors", [])
    for error in errors:
        error.get("extensions", {}).pop("requestId", None)
    if set(response) - {"data", "errors", "extensions"} or list(response) not in (
        ["data"],
        ["errors", "data"],
        ["errors"],
        ["data", "extensions"],
    ):
        raise AssertionError(f"a response with the members {list(response)}")
    return (orjson.dumps(response["data"]) if "data" in response else None), errors


def _path(error: dict[str, Any]) -> Position:
    return tuple(error.get("path") or ())


def _by_null(data: Any, errors: list[dict[str, Any]]) -> dict[Position, dict[str, Any]]:
    """The errors by the position that each made null; none below another such position."""
    by_null: dict[Position, dict[str, Any]] = {}
    for number, error in enumerate(errors):
        if "path" in error:
            by_null.setdefault(_null_position(data, _path(error)), error)
        else:
            by_null[(f"error {number}",)] = error
    return {
        position: error for position, error in by_null.items() if not any(position[:length] in by_null for length in range(len(position)))
    }


def _null_position(data: Any, path: Position) -> Position:
    for length, key in enumerate(path):
        if data is None:
            return path[:length]
        data = data[key]
    return path
