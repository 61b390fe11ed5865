"""Passwords that guessing begins with: the frequency lists of zxcvbn. Its estimator is not used: hostile input keeps it busy for half a second."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

MAX_AFFIX = 4  # characters around a word that make no password of it, such as a year
MIN_BESIDE_NAME = 6  # characters that a password must have besides a name of its user
MIN_NAME = 3  # characters of a name that is looked for: a shorter one is a part of many words
_WORD = re.compile(rf"[\d\W_]{{0,{MAX_AFFIX}}}(.*?)[\d\W_]{{0,{MAX_AFFIX}}}", re.DOTALL)


def is_common(password: str) -> bool:
    """Whether a casefolded password is on a list, also without up to four digits or signs at either end.

    The first call takes some 30 ms.
    """
    common = _common_words()
    match = _WORD.fullmatch(password)
    return password in common or (match is not None and match[1] in common)


def is_mostly(password: str, names: Iterable[str]) -> bool:
    """Whether a casefolded password is little more than one of the names, or of the parts of an address."""
    parts = {part for name in names for part in (name.casefold(), *name.casefold().split("@"))}
    return any(len(part) >= MIN_NAME and part in password and len(password.replace(part, "")) < MIN_BESIDE_NAME for part in parts)


@cache
def _common_words() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # here, because few processes need it

    return frozenset(word for words in FREQUENCY_LISTS.values() for word in words)
