"""What waits to be told or sent. A read of workers, which goes through no policy."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, func, literal, select

from db.core.work import Database
from db.tables import OutboxEvent, WebhookEndpoint

_IS_DUE = (WebhookEndpoint.disabled_at.is_(None), WebhookEndpoint.due_at <= func.now())
_IS_FREE = func.coalesce(WebhookEndpoint.claimed_until < func.now(), True)
_DUE = select(
    select(literal(1)).select_from(OutboxEvent).exists().label("has_events"),
    select(literal(1)).select_from(WebhookEndpoint).where(*_IS_DUE, _IS_FREE).exists().label("has_webhooks"),
)


async def due(database: Database) -> Row[Any]:
    """Whether there are events to dispatch (`has_events`), and endpoints to send to (`has_webhooks`), in one statement."""
    (row,) = await database.rows(_DUE)
    return row
