"""The name that was probably meant, for messages about one that does not exist."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable

# Comparing two texts takes a time that grows with the square of their length, and a file has thousands of columns: without these bounds,
# a request that names a column which is not there could keep its process from all others for seconds.
MAX_LENGTH = 40
_MAX_DIFFERENCE = 4  # in length
_COMPARED = 20


def closest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that is most like `name`, of those that have most of their beginning and end in common; None for a long one."""
    if len(name) > MAX_LENGTH:
        return None
    similar = (each for each in names if len(each) <= MAX_LENGTH and abs(len(each) - len(name)) <= _MAX_DIFFERENCE)

    def common(other: str) -> int:
        return _common_start(name, other) + _common_start(name[::-1], other[::-1])

    return next(iter(difflib.get_close_matches(name, heapq.nlargest(_COMPARED, similar, key=common), n=1)), None)


def _common_start(one: str, other: str) -> int:
    return next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
