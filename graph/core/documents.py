"""Documents that were parsed and validated before; clients send the same few again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

KEPT = 256
LONGEST = 20_000  # characters; longer documents are rare, and kept they would cost more memory than time


class Documents(Generic[V]):
    """The values last used, at most 256, each by the text of its document and whatever else it depends on."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Hashable], V] = OrderedDict()

    def get(self, text: str | None, rest: Hashable = None) -> V | None:
        if text is None:
            return None
        found = self._kept.get((text, rest))
        if found is not None:
            self._kept.move_to_end((text, rest))
        return found

    def keep(self, text: str | None, value: V, rest: Hashable = None) -> None:
        if text is None or len(text) > LONGEST:
            return
        self._kept[text, rest] = value
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
