"""Snippets: the part of a text in which words were found, as plain text with marks around them.

Which entries match is PostgreSQL's decision, by the stems of several languages. Here a word is marked if it begins as one that was looked for, up to
an ending, which is what a stem leaves of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

LENGTH = 200
BEFORE = 60  # characters before the first mark
LONGEST_ENDING = 4
SHORTEST_STEM = 4
_WORD = re.compile(r"[^\W_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SPACES = re.compile(r"\s+")
_MARKS = str.maketrans({"«": None, "»": None})
OPEN, CLOSE, MORE = "«", "»", "…"


def make(title: str, body: str, words: Iterable[str]) -> str:
    """Return the part of the body in which the words are; else the title, if they are in it; else the beginning of the body.

    It has at most `LENGTH` characters, and the marks « and » around words, which are removed from the text itself.
    """
    looked_for = [folded for word in words for folded in {_fold(word), *map(_fold, _CAMEL.split(word))}]
    for text in map(_plain, (body, title)):
        found = [match.span() for match in _WORD.finditer(text) if _is_found(match[0], looked_for)]
        if found:
            return _marked(text, found)
    text = _plain(body) or _plain(title)
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1].rstrip()}{MORE}"


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text.translate(_MARKS)).strip()


def _marked(text: str, found: Sequence[tuple[int, int]]) -> str:
    start = 0 if len(text) <= LENGTH else max(0, min(found[0][0] - BEFORE, len(text) - LENGTH))
    if start:  # at the beginning of a word
        space = text.find(" ", start, found[0][0])
        start = start if space < 0 else space + 1
    end = min(len(text), start + LENGTH - 2)  # the dots at both ends count
    if len(text) <= LENGTH:
        end = len(text)
    parts = [MORE] if start else []
    position = start
    for first, last in found:
        if last > end:
            break
        parts += [text[position:first], OPEN, text[first:last], CLOSE]
        position = last
    parts.append(text[position:end])
    if end < len(text):
        parts.append(MORE)
    return "".join(parts)


def _is_found(word: str, looked_for: Sequence[str]) -> bool:
    parts = {_fold(word), *(_fold(part) for part in _CAMEL.split(word))}
    return any(_is_same(part, other) for part in parts for other in looked_for)


def _is_same(word: str, other: str) -> bool:
    """Whether a word is the other, begins with it, or differs from it in its ending alone."""
    if word.startswith(other):
        return bool(other)
    shared = 0
    for one, two in zip(word, other, strict=False):
        if one != two:
            break
        shared += 1
    return shared >= SHORTEST_STEM and max(len(word), len(other)) - shared <= LONGEST_ENDING


@lru_cache(maxsize=10_000)
def _fold(word: str) -> str:
    """In lower case and without accents."""
    if word.isascii():
        return word.lower()
    return "".join(character for character in unicodedata.normalize("NFKD", word) if not unicodedata.combining(character)).casefold()
