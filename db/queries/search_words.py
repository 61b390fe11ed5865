"""What somebody typed into the search, as texts in the syntax of PostgreSQL's `websearch_to_tsquery`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from db.core.checks import composed

MAX_LENGTH = 256

# As `trellis_split_words` splits the titles and bodies: between aB, ABc, a1 and 1a.
_SPLITS = (
    re.compile(r"([^\W\d_])(?=\d)"),
    re.compile(r"(\d)(?=[^\W\d_])"),
)
_PHRASE_OR_WORD = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+))')
_IN_WORDS = "LMN"  # Unicode's categories of letters, marks and numbers


@dataclass(frozen=True, slots=True)
class Form:
    """A query, what stands before its last word, and this word if it may be the beginning of one; texts are empty where there is none."""

    query: str = ""
    head: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class SearchWords:
    """A query as it was typed, and with its identifiers split if that differs. `words` are those to be found.

    `has_operators`: it excludes something, or has a phrase or OR. So it is meant as it was typed.
    """

    typed: Form
    split: Form
    words: tuple[str, ...]
    has_operators: bool


def parse(text: str) -> SearchWords:
    """Read a query of at most `MAX_LENGTH` characters. Whatever it is, there is an answer."""
    parts: list[tuple[str, str, str]] = []  # whether it is excluded, quoted, its text
    for match in _PHRASE_OR_WORD.finditer(composed(text)):
        cleaned = _cleaned(match["word"] if match["phrase"] is None else match["phrase"])
        if cleaned:
            parts.append(("-" if match["minus"] else "", "" if match["phrase"] is None else '"', cleaned))
    is_or = [not quote and part.lower() == "or" for _, quote, part in parts]
    has_operators = any(is_or) or any(minus or quote for minus, quote, _ in parts)
    may_continue = bool(parts) and not text[-1].isspace() and not (parts[-1][0] or parts[-1][1])
    found = tuple(word for (minus, _, part), other in zip(parts, is_or, strict=True) if not (minus or other) for word in part.split())
    forms = [
        _form([(minus, quote, split(part)) for minus, quote, part in parts], may_continue=may_continue)
        for split in (str, _split_identifiers)
    ]
    return SearchWords(forms[0], forms[1] if forms[1] != forms[0] else Form(), found, has_operators)


def _form(parts: list[tuple[str, str, str]], *, may_continue: bool) -> Form:
    texts = [_quoted(*part) for part in parts]
    query = " ".join(texts)
    if not may_continue:
        return Form(query)
    *before, last = parts[-1][2].split()
    if last.lower() == "or" or (len(last) == 1 and last.isascii()):  # a single letter begins half of all words
        return Form(query)
    return Form(query, " ".join([*texts[:-1], *(word for word in before if word.lower() != "or")]), last)


def _quoted(minus: str, quote: str, text: str) -> str:
    """The words of one identifier are quoted if it is excluded, of which only the first would be, or if one of them is "or"."""
    if not quote and " " in text and (minus or "or" in text.lower().split()):
        quote = '"'
    return f"{minus}{quote}{text}{quote}"


def _cleaned(text: str) -> str:
    """Words and numbers, with a space for all that stands between them: punctuation, symbols, and what cannot be stored."""
    kept = "".join(character if unicodedata.category(character)[0] in _IN_WORDS else " " for character in text)
    return " ".join(kept.split())


def _split_identifiers(text: str) -> str:
    characters: list[str] = []
    for position, character in enumerate(text):
        before, after = text[position - 1 : position], text[position + 1 : position + 2]
        if before and character.isupper() and (before.islower() or (before.isupper() and after.islower())):
            characters.append(" ")
        characters.append(character)
    split = "".join(characters)
    for boundary in _SPLITS:
        split = boundary.sub(r"\1 ", split)
    return split
