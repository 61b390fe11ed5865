"""A worker's part in telling of events: dispatches the outbox, and sends webhooks, each endpoint in a task of its own."""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog

from db.core.work import Database
from db.services import notifications, webhooks
from db.settings import StateSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ENDPOINTS_AT_ONCE = 32  # that one worker serves
PAUSE = 0.2  # seconds between two times, however many jobs end


class Outbox:
    """`run_due` tells and sends once what is there."""

    def __init__(self, database: Database, settings: StateSettings) -> None:
        self._database = database
        self._settings = settings
        self._serving: dict[UUID, asyncio.Task[None]] = {}

    async def run_due(self) -> None:
        """Dispatch the events of the outbox, and begin to serve the endpoints that are due."""
        await notifications.dispatch(self._database)
        free = ENDPOINTS_AT_ONCE - len(self._serving)
        if free > 0:
            for endpoint_id in await webhooks.claim(self._database, free):
                task = self._serving[endpoint_id] = asyncio.create_task(self._serve(endpoint_id), name=f"webhook {endpoint_id}")
                task.add_done_callback(lambda _, endpoint_id=endpoint_id: self._serving.pop(endpoint_id, None))
        await asyncio.sleep(PAUSE)

    async def _serve(self, endpoint_id: UUID) -> None:
        try:
            await webhooks.serve(self._database, self._settings, endpoint_id)
        except Exception:  # its claim expires, then it is served again
            log.warning("webhook_turn_failed", endpoint=str(endpoint_id), exc_info=True)

    async def close(self) -> None:
        """Stop sending. What was not answered is sent again by another worker."""
        tasks = list(self._serving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
