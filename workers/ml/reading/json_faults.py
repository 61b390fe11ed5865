"""Says in plain words why a text is not JSON and what to do about it."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple, NoReturn

import numpy as np

from workers.ml.reading.issues import short_repr
from workers.ml.reading.json_numbers import TOO_DEEP, outside_strings

_COMMENT: Final = re.compile(r"//|/\*|#|--")
_WORD: Final = re.compile(r"[-+]?(True|False|None|undefined|NaN|nan|Infinity|inf|NULL|Null|TRUE|FALSE)\b")
_NAME: Final = re.compile(r"[^\W\d][\w$.-]*\s*:")
_ANY_WORD: Final = re.compile(r"[^\W\d]\w*")
_NUMBER: Final = re.compile(r"[+.]?\d")
_CUT: Final = "The file is cut short: upload all of it."
_DOUBLE_QUOTES: Final = "JSON has names and texts in double quotes"


class Fault(NamedTuple):
    """What was found, where in the text, and the way out."""

    found: str
    position: int
    advice: str
    is_cut: bool = False
    """The text ends too early."""


def find_fault(text: str) -> Fault | None:
    """Return the first fault of a text that has to be one JSON value; None if there is none."""
    try:
        json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        if error.pos < len(text) and text[error.pos] < " " and error.msg.startswith("Invalid control"):
            return Fault(
                f"the character {text[error.pos]!r} inside a text", error.pos, r"Write it as an escape, such as \n for a line break."
            )
        if error.msg.startswith("Unterminated string"):
            return Fault("a text without its closing quote", error.pos, _CUT, is_cut=True)
        return _fault_at(text, _skip_spaces(text, error.pos))
    except RecursionError:
        return Fault(TOO_DEEP, 0, "Write the inner values as text.")
    except ValueError as error:  # a constant
        word = str(error)
        return Fault(f"the word {word}", max(text.find(word), 0), "JSON has the words true, false and null only.")
    return None


def describe(fault: Fault, text: str) -> str:
    excerpt = text[max(0, fault.position - 20) : fault.position + 20]
    return f"{fault.found}, near {short_repr(excerpt)}"


def place_of(fault: Fault, text: str) -> int:
    """Return the index of the element with the fault; `text` is an array."""
    buffer, is_outside = outside_strings(text[: fault.position].encode("utf-8", "replace"))
    folded = buffer | 0x20  # "{" and "[" differ only in this bit, as do "}" and "]"
    depth = np.cumsum(((folded == 0x7B) & is_outside).astype(np.int32) - ((folded == 0x7D) & is_outside))
    return int(((buffer == 0x2C) & is_outside & (depth == 1)).sum())


def _fault_at(text: str, position: int) -> Fault:
    rest, before = text[position : position + 200], text[max(0, position - 200) : position].rstrip()
    quoted = short_repr(rest[:1])
    if not rest:
        return Fault("the end of the text inside a value", position, _CUT, is_cut=True)
    if _COMMENT.match(rest):
        return Fault("a comment", position, "JSON has no comments: remove them.")
    if (rest[0] in "}]" and before.endswith(",")) or re.match(r",\s*[}\]]", rest):
        return Fault("a comma before a closing bracket", position, "Remove the comma.")
    if rest[0] in "'\u2018\u2019\u201c\u201d\u00ab`":
        return Fault(f"the quote {quoted}", position, f"{_DOUBLE_QUOTES}: write the data with a JSON library instead of printing it.")
    if rest[0] == "\\" or before.endswith("\\"):
        return Fault("a backslash that begins no escape", position, r"Write a backslash inside a text as two.")
    if (word := _WORD.match(rest)) is not None:
        return Fault(f"the word {word[0]}", position, "JSON has the words true, false and null only: write the data with a JSON library.")
    if _NAME.match(rest):
        return Fault("a name without quotes", position, f"{_DOUBLE_QUOTES}.")
    if _NUMBER.match(rest):
        what = (
            "a number with a leading zero" if before.endswith("0") else f"a number that begins with {quoted}" if rest[0] in "+." else None
        )
        if what is not None:
            return Fault(what, position, "A number of JSON begins with a minus or a digit, and with 0 only before a point.")
    if before.endswith('"') and rest[0] not in '"{[}],:':
        return Fault("a quote inside a text", position, r"Write a quote inside a text as \".")
    if (word := _ANY_WORD.match(rest)) is not None:
        return Fault(f"the word {short_repr(word[0])} without quotes", position, f"{_DOUBLE_QUOTES}.")
    if rest[0] in '"{[' or _NUMBER.match(rest):
        return Fault(f"{quoted} where a comma or a colon is missing", position, "Write a comma between values and a colon after a name.")
    if rest[0] == "." and before[-1:].isdigit():
        return Fault("a number that ends with a point", position, "Write a digit after the point.")
    return Fault(f"{quoted} where a value is missing", position, "Write a value there, or null.")


def _skip_spaces(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
