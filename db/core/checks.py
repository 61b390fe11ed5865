"""Validation of user input; each issue names the path to the field."""

from __future__ import annotations

import unicodedata
from typing import Any

import orjson

from db.errors import InvalidInput, Issue

NAME_LENGTH = 200
TEXT_LENGTH = 10_000
DOCUMENT_BYTES = 65_536
MAX_COMPOSED = 1_000  # a name of NAME_LENGTH has at most four times as many characters before it is composed

_JOINERS = frozenset("\u200c\u200d") | frozenset(map(chr, range(0xE0020, 0xE0080)))
# Format characters that are part of words and emoji: ZWNJ in Persian, ZWJ in families, tags in flags of regions.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


class Checks:
    """Collect all issues of an input, so that one response names them all."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, *path: str | int, message: str) -> None:
        self.issues.append(Issue(tuple(str(part) for part in path), message))

    def name(self, value: str, *path: str, length: int = NAME_LENGTH) -> str:
        """Validate a name: one line, not empty. Return it trimmed and in Unicode's form NFC, so that equal spellings are equal names."""
        cleaned = canonical_name(value)
        if not cleaned or _JOINERS.issuperset(cleaned):
            self.add(*path, message="A name needs at least one character that is not a space.")
        elif len(cleaned) > length:
            self.add(*path, message=f"This is {len(cleaned)} characters long; at most {length} are kept.")
        elif not cleaned.isprintable() and any(map(_is_refused, cleaned)):
            self.add(*path, message="Control characters and line breaks cannot stand in a name.")
        return cleaned

    def new_name(self, values: dict[str, Any], subject: str) -> None:
        """Validate the name among the changes of a thing that must have one, and trim it."""
        if "name" not in values:
            return
        if values["name"] is None:
            self.add("name", message=f"{subject} must have a name; leave the field out to keep the present one.")
        else:
            values["name"] = self.name(values["name"], "name")

    def text(self, value: str | None, *path: str, length: int = TEXT_LENGTH) -> str | None:
        """Validate free text; PostgreSQL cannot store NUL."""
        if value is not None and len(value) > length:
            self.add(*path, message=f"This is {len(value)} characters long; at most {length} are kept.")
        if value is not None and "\x00" in value:
            self.add(*path, message="The character NUL cannot be kept.")
        return value

    def document(self, value: Any, *path: str, size: int = DOCUMENT_BYTES) -> dict[str, Any]:
        """Validate a JSON object of bounded size; null becomes the empty object."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.add(*path, message="A JSON object is expected here, {…}.")
            return {}
        try:
            encoded = orjson.dumps(value)
        except (TypeError, orjson.JSONEncodeError):
            self.add(*path, message="This is not JSON that can be kept; integers must fit in 64 bits.")
            return {}
        if len(encoded) > size:
            self.add(*path, message=f"This is {len(encoded)} bytes of JSON; at most {size} are kept.")
        if rb"\u0000" in encoded:
            self.add(*path, message="The character NUL cannot be kept.")
        return value  # pyright: ignore[reportUnknownVariableType] - a JSON object, checked above

    def raise_if_invalid(self) -> None:
        """Raise `InvalidInput` if there are issues."""
        if self.issues:
            raise InvalidInput(self.issues)


def canonical_name(value: str) -> str:
    """Return a name as it is stored and compared: trimmed, in the composed form NFC."""
    return composed(value.strip())


def composed(text: str, length: int = MAX_COMPOSED) -> str:
    """Return the text in Unicode's form NFC, so that equal spellings are equal; a text of more than `length` characters, which no name has, as it is.

    Ordering n combining marks takes n² steps, in which the whole process stands still: minutes for the marks that fit in a request.
    """
    return text if text.isascii() or len(text) > length else unicodedata.normalize("NFC", text)


def _is_refused(character: str) -> bool:
    return character not in _JOINERS and unicodedata.category(character) in _REFUSED_CATEGORIES
