"""Look-ups of single rows that several requests of one viewer send at the same moment: one statement serves them all.

A statement is sent after the last of them has come, so none reads an older state than if it had sent its own. Whoever came first sends it. If it
fails, or its request is cancelled, each of the others sends its own, and so has its own error and its own timeout. The statement is counted for
the request that sent it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_KEYS = 100  # of one statement


@dataclass(slots=True)
class _Gathering:
    """The keys for the next statement, and those who wait for it besides its sender."""

    keys: list[Any]
    waiters: list[asyncio.Future[Mapping[Any, Any] | None]] = field(default_factory=list[Any])


class SharedReads:
    """The look-ups of a process that have not been sent yet."""

    def __init__(self) -> None:
        self._gatherings: dict[Hashable, _Gathering] = {}

    async def rows(self, reader: Hashable, key: Any, read: Callable[[Sequence[Any]], Awaitable[Mapping[Any, Any]]]) -> Mapping[Any, Any]:
        """Return the row of a key, if there is one, and perhaps those of others. Equal readers would send the same statement for equal keys."""
        gathering = self._gatherings.get(reader)
        if gathering is not None and len(gathering.keys) < MAX_KEYS:
            waiter = asyncio.get_running_loop().create_future()
            gathering.keys.append(key)
            gathering.waiters.append(waiter)
            rows = await waiter
            return await read([key]) if rows is None else rows
        gathering = self._gatherings[reader] = _Gathering([key])
        rows = None
        try:
            await asyncio.sleep(0)  # whoever is ready to run now joins
            self._end(reader, gathering)
            rows = await read(list(dict.fromkeys(gathering.keys)) if gathering.waiters else gathering.keys)
            return rows
        finally:
            self._end(reader, gathering)
            for waiter in gathering.waiters:
                if not waiter.done():
                    waiter.set_result(rows)

    def _end(self, reader: Hashable, gathering: _Gathering) -> None:
        if self._gatherings.get(reader) is gathering:
            del self._gatherings[reader]
