"""What waits to be told or sent, for the polls of workers, which go through no policy."""

from __future__ import annotations

from sqlalchemy import func, literal, select

from db.tables import OutboxEvent, User, WebhookEndpoint

_IS_DUE = (WebhookEndpoint.disabled_at.is_(None), WebhookEndpoint.due_at <= func.now())
_IS_FREE = func.coalesce(WebhookEndpoint.claimed_until < func.now(), True)
_HAS_OWNER = select(User.id).where(User.id == WebhookEndpoint.owner_id, User.deleted_at.is_(None), User.disabled_at.is_(None)).exists()

HAS_EVENTS = select(literal(1)).select_from(OutboxEvent).exists()
"""Whether there are events to dispatch."""
HAS_WEBHOOKS = select(literal(1)).select_from(WebhookEndpoint).where(*_IS_DUE, _IS_FREE, _HAS_OWNER).exists()
"""Whether there are endpoints to send to."""
