"""Writes the values of a select into its text.

PostgreSQL keeps the plan of a prepared statement for all values of its parameters. What is a part of the text instead is planned for as it is: a filter
or a metric that is asked for again and again has a plan that is right for it, and is neither sent nor planned anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

_PARAMETER = re.compile(r"\$([0-9]+)")
_QUOTED = re.compile(r"'(?:[^']|'')*'")
# The arguments that say which rows a list or batch has and how many are read: no plan was ever chosen for their values.
_KEYS_AND_LIMITS = re.compile(r"batch_keys?|page_parents?|page_limit|limit_[0-9]+")


@dataclass(frozen=True, slots=True)
class Constants:
    """The text, and which of the former parameters are left, in the order of the new ones."""

    text: str
    left: tuple[int, ...]


def with_constants(text: str, parameters: Sequence[tuple[str | None, str | None, Any]]) -> Constants | None:
    """Write the values of a `PreparedSelect` into its text; None if one cannot be, or if it has arguments such as the position of a cursor."""
    literals: dict[int, str] = {}
    left: list[int] = []
    for position, (argument, attribute, value) in enumerate(parameters):
        if argument is not None or attribute is not None:
            if argument is not None and not _KEYS_AND_LIMITS.fullmatch(argument):
                return None
            left.append(position)
            continue
        literal = _literal(value)
        if literal is None:
            return None
        literals[position] = literal
    if len(_PARAMETER.findall(_QUOTED.sub("", text))) != len(_PARAMETER.findall(text)):
        return None
    numbers = {position: f"${number}" for number, position in enumerate(left, 1)}

    def written(match: re.Match[str]) -> str:
        position = int(match[1]) - 1
        return literals.get(position) or numbers[position]

    return Constants(_PARAMETER.sub(written, text), tuple(left))


def _literal(value: Any) -> str | None:
    """The value in SQL. A text is written in digits, so that nothing in it can end the literal, whatever the settings of the server.

    It has to be a constant for the planner: an index is not searched for the result of a function that depends on settings, as those that decode do.
    """
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return f"({value})"
    if type(value) is float:
        return f"'{value!r}'::float8"
    if isinstance(value, UUID):
        return f"'{value.hex}'"
    if type(value) is not str or any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        return None
    digits = "".join([f"\\U{ord(character):08x}" for character in value])
    return f"E'{digits}'::text"
