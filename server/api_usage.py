"""Records the operations of this process behind the requests: a transaction every few seconds, however many operations there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Self

import structlog
from sqlalchemy.exc import IntegrityError

from db.errors import Unavailable
from db.services import usage
from db.services.accounts.user_agents import MAX_LENGTH as MAX_USER_AGENT_LENGTH
from server import metrics

if TYPE_CHECKING:
    from db.core.work import Database
    from graph.execution.observation import Observation

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BATCH_DELAY = 2.0  # seconds between the first operation of a batch and its transaction
MAX_RECORDS = 10_000  # operations kept one by one while PostgreSQL does not take them; all others are only counted
MAX_REFUSED = 1_000  # of a batch, requests with tokens that are not valid, of which most are nobody's
CLOSE_TIMEOUT = 3.0  # seconds for what is left when the process ends


class ApiUsage:
    """The operations of this process that have ended and are not written yet."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._names = usage.OperationNames()
        self._batch = usage.UsageBatch()
        self._unwritten: usage.UsageBatch | None = None  # its last try failed, or its answer was lost
        self._refused: list[tuple[bytes, Observation]] = []
        self._has_operations = asyncio.Event()
        self._writing = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database) -> AsyncGenerator[Self]:
        """Record until the block ends, then write what is left."""
        recorder = cls(database)
        recording = asyncio.create_task(recorder._run(), name="api usage")
        try:
            yield recorder
        finally:
            recording.cancel()
            with suppress(asyncio.CancelledError):
                await recording
            await recorder._close()

    def note(self, observation: Observation) -> None:
        """Have an operation recorded. A subscription counts in percentiles with the time until it began, not with that for which it was open."""
        phases, seconds = observation.phases, observation.seconds
        is_stream = observation.type == "subscription"
        is_known = observation.type != "unknown"  # else the name is any text that a client sent
        client = observation.client
        record = usage.RequestRecord(
            time.time(),
            observation.viewer_id,
            observation.api_key_id,
            observation.session_id,
            observation.name[: usage.MAX_NAME_LENGTH] if is_known and observation.name else None,
            observation.type,
            observation.cost or 0,
            seconds,
            observation.error_codes[0] if observation.error_codes else None,
            observation.request_bytes,
            observation.response_bytes,
            client.address,
            client.user_agent[:MAX_USER_AGENT_LENGTH] if client.user_agent else None,
            phases.get("parse", 0.0) + phases.get("validate", 0.0) if is_stream else seconds,
        )
        waiting = len(self._batch.records) + (len(self._unwritten.records) if self._unwritten is not None else 0)
        self._batch.add(record, self._names, keeps_record=waiting < MAX_RECORDS)
        self._has_operations.set()

    def note_refused(self, token_sha256: bytes, observation: Observation) -> None:
        """Have a request recorded that came with a token that is valid no more, if it was somebody's; beyond a bound it is not."""
        if len(self._refused) < MAX_REFUSED:
            self._refused.append((token_sha256, observation))
            self._has_operations.set()

    async def _note_owners(self) -> None:
        """Record the refused requests whose tokens were somebody's."""
        refused, self._refused = self._refused, []
        if not refused:
            return
        try:
            owners = await usage.owners_of_tokens(self._database, {token for token, _ in refused})
        except BaseException:
            self._refused = [*refused, *self._refused][:MAX_REFUSED]
            raise
        for token, observation in refused:
            if token in owners:
                observation.viewer_id, observation.api_key_id, observation.session_id = owners[token]
                self.note(observation)

    async def flush(self) -> None:
        """Write all operations that have ended. Raises what the database raises; nothing is lost then, and the next call tries again."""
        async with self._writing:
            if self._unwritten is not None:
                await self._write(self._unwritten, is_retry=True)
            self._has_operations.clear()
            await self._note_owners()
            if self._batch:
                self._unwritten, self._batch = self._batch, usage.UsageBatch()
                metrics.USAGE_OMITTED.inc(self._unwritten.omitted)
                await self._write(self._unwritten, is_retry=False)

    async def _write(self, batch: usage.UsageBatch, *, is_retry: bool) -> None:
        try:
            await usage.write(self._database, batch, is_retry=is_retry)
        except IntegrityError:
            lost = await usage.drop_unknown_users(self._database, batch)
            if not lost:
                raise
            metrics.USAGE_LOST.inc(lost)
            log.warning("api_usage_of_unknown_users", count=lost)
            if batch:
                await usage.write(self._database, batch, is_retry=False)
        self._unwritten = None

    async def _run(self) -> None:
        """Write until cancelled. What cannot be written is tried again with the next batch."""
        while True:
            await self._has_operations.wait()
            await asyncio.sleep(BATCH_DELAY)
            await self._try_to_flush()

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except Unavailable as error:
            self._has_operations.set()
            log.warning("api_usage_not_written", reason=error.detail)
        except Exception:  # the next batch tries again, whatever failed
            self._has_operations.set()
            log.warning("api_usage_not_written", exc_info=True)

    async def _close(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._try_to_flush()
        lost = self._batch.requests + (self._unwritten.requests if self._unwritten is not None else 0)
        if lost:
            metrics.USAGE_LOST.inc(lost)
            log.warning("api_usage_lost", count=lost)
