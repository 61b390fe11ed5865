"""Documents that were parsed and validated before; clients send the same few again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

KEPT = 256
LONGEST = 20_000  # characters; longer documents are rare, and kept they would cost more memory than time
TOGETHER = 1_000_000  # characters of all that is kept; parsed, a document takes some fifty times the bytes of its text


class Documents(Generic[V]):
    """The values last used, at most 256 and of a million characters, each by the text of its document and whatever else it depends on."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Hashable], tuple[V, int]] = OrderedDict()
        self._characters = 0

    def get(self, text: str | None, rest: Hashable = None) -> V | None:
        if text is None:
            return None
        found = self._kept.get((text, rest))
        if found is None:
            return None
        self._kept.move_to_end((text, rest))
        return found[0]

    def keep(self, text: str | None, value: V, rest: Hashable = None, *, characters: int | None = None) -> None:
        """`characters` is the length of what is kept, where that is not `text`."""
        if text is None:
            return
        size = len(text) if characters is None else characters
        if size > LONGEST:
            return
        _, before = self._kept.pop((text, rest), (None, 0))
        self._kept[text, rest] = value, size
        self._characters += size - before
        while len(self._kept) > KEPT or self._characters > TOGETHER:
            _, (_, left) = self._kept.popitem(last=False)
            self._characters -= left
