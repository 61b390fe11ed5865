"""Add an event to the outbox, in the transaction of what it tells. Changes of rows that jobs make are told by triggers, see `trellis_add_event`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import insert

from db.core.work import Work
from db.tables import OutboxEvent
from db.tables.notifications import EventType


async def add(
    work: Work,
    event_type: EventType,
    account_id: UUID,
    *,
    recipient_id: UUID | None = None,
    subject_id: str | None = None,
    name: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event of an account. Its person, or the ADMINs of its team, are told; only `recipient_id` if that is given.

    `subject_id` is an id as the API shows it. `name` and `data` hold names and numbers, nothing of the data of users.
    """
    values = {"type": event_type, "account_id": account_id, "recipient_id": recipient_id, "subject_id": subject_id, "name": name}
    await work.run(insert(OutboxEvent).values(data=data or {}, **values))
