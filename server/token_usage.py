"""Records when tokens were last used, behind the requests: one statement every few seconds, however many requests there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Self
from uuid import UUID

import structlog

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.accounts import record_token_use
from db.services.accounts.sessions import USE_INTERVAL

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BATCH_DELAY = 2.0  # seconds between the first use in a batch and its statement


class TokenUsage:
    """The tokens that this process has seen used. `tokens_in_use` are those of open connections, which count once a minute."""

    def __init__(self, database: Database, tokens_in_use: Callable[[], Iterable[UUID]]) -> None:
        self._database = database
        self._tokens_in_use = tokens_in_use
        self._due: dict[UUID, float] = {}
        self._pending: set[UUID] = set()
        self._has_pending = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database, tokens_in_use: Callable[[], Iterable[UUID]]) -> AsyncGenerator[Self]:
        """Record until the block ends."""
        usage = cls(database, tokens_in_use)
        recording = asyncio.create_task(usage._run(), name="token usage")
        try:
            yield usage
        finally:
            recording.cancel()
            with suppress(asyncio.CancelledError):
                await recording

    def note(self, key_id: UUID) -> None:
        """Have the use recorded, unless it was less than `USE_INTERVAL` ago."""
        now = time.monotonic()
        if now >= self._due.get(key_id, 0.0):
            self._due[key_id] = now + USE_INTERVAL.total_seconds()
            self._pending.add(key_id)
            self._has_pending.set()

    async def _run(self) -> None:
        """Write until cancelled. What cannot be written is written with the next batch."""
        interval = USE_INTERVAL.total_seconds()
        next_round = time.monotonic() + interval
        while True:
            try:
                async with asyncio.timeout(max(0.0, next_round - time.monotonic())):
                    await self._has_pending.wait()
            except TimeoutError:
                next_round = time.monotonic() + interval
                self._due = {key_id: due for key_id, due in self._due.items() if due > time.monotonic()}
                for key_id in self._tokens_in_use():
                    self.note(key_id)
                continue
            await asyncio.sleep(BATCH_DELAY)
            self._has_pending.clear()
            key_ids, self._pending = self._pending, set()
            try:
                async with self._database.work(SYSTEM) as work:
                    await record_token_use(work, key_ids)
            except Exception:  # the next batch tries again, whatever failed
                log.info("token_use_not_recorded", count=len(key_ids), exc_info=True)
                self._pending |= key_ids
