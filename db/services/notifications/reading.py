"""Mark notifications as read."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update

from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, invalid
from db.tables import Notification

MAX_IDS = 1_000


async def mark_read(work: Work, ids: Collection[UUID] | None, before: datetime | None) -> int:
    """Mark these of the viewer's notifications, or all that were created before a time; return how many were not read yet.

    Raises `InvalidInput` unless one of both is given, `NotFound` for an id of no notification of the viewer's; then none is marked.
    """
    if (ids is None) == (before is None):
        raise invalid("ids", message="Give the ids of the notifications, or the time before which all are read; one of both.")
    is_own = (Notification.recipient_id == work.viewer.id, visible(Notification, work.viewer))
    if ids is not None:
        if len(ids) > MAX_IDS:
            raise invalid("ids", message=f"At most {MAX_IDS:,} notifications are marked at once; give `before` to mark more.")
        existing = {row.id for row in await work.all(select(Notification.id).where(Notification.id.in_(ids), *is_own))}
        for key in ids:
            if key not in existing:
                raise NotFound(str(key))
    chosen = Notification.id.in_(ids) if ids is not None else Notification.created_at < before
    statement = update(Notification).where(*is_own, Notification.read_at.is_(None), chosen).values(read_at=func.now())
    marked = await work.run(statement)
    if marked:
        work.record("mark_notifications_read", "user", work.viewer.id, work.viewer.id, after={"marked": marked})
    return marked
