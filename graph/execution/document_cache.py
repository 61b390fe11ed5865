"""A cache by document: clients send the same few again and again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

MAX_ENTRIES = 1_000  # a small document with its plan takes some 60 kB; one that is not kept, 6 times the CPU of a request
MAX_DOCUMENT_CHARACTERS = 20_000  # longer documents are rare, and caching them would cost more memory than it saves time
MAX_TOTAL_CHARACTERS = 1_000_000  # of all entries; a parsed document takes some fifty times the bytes of its text


class DocumentCache(Generic[V]):
    """An LRU cache by the text of a document and whatever else the value depends on: at most a thousand entries and a million characters."""

    def __init__(self) -> None:
        self._entries: OrderedDict[tuple[str, Hashable], tuple[V, int]] = OrderedDict()
        self._characters = 0

    def get(self, text: str | None, extra_key: Hashable = None) -> V | None:
        if text is None:
            return None
        entry = self._entries.get((text, extra_key))
        if entry is None:
            return None
        self._entries.move_to_end((text, extra_key))
        return entry[0]

    def put(self, text: str | None, value: V, extra_key: Hashable = None, *, characters: int | None = None) -> None:
        """Add a value. `characters` is its size where that is not the length of `text`."""
        if text is None:
            return
        size = len(text) if characters is None else characters
        if size > MAX_DOCUMENT_CHARACTERS:
            return
        _, replaced_size = self._entries.pop((text, extra_key), (None, 0))
        self._entries[text, extra_key] = value, size
        self._characters += size - replaced_size
        while len(self._entries) > MAX_ENTRIES or self._characters > MAX_TOTAL_CHARACTERS:
            _, (_, evicted_size) = self._entries.popitem(last=False)
            self._characters -= evicted_size
