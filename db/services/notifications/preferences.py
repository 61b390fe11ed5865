"""Which events people are told of: what they chose, else a default that is quiet."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.errors import invalid
from db.queries.notifications import Preference, preference_of
from db.tables import NotificationPreference
from db.tables.notifications import EventType

ALWAYS = frozenset({EventType.LOGIN_NEW_DEVICE, EventType.PASSWORD_CHANGED})
"""What cannot be switched off: it may be somebody else's doing."""
_OFF_BY_DEFAULT = frozenset(
    {
        EventType.JOB_COMPLETED,  # what most jobs make is told by an event of its own
        EventType.JOB_CANCELLED,
        EventType.SCHEMA_PROPOSED,  # by each ingest
        EventType.VERSION_FAILED,  # its job has failed, and so has that of an export
        EventType.EXPORT_FAILED,
        EventType.RUN_COMPLETED,  # whoever's code it is knows
        EventType.RUN_FAILED,
    }
)
ON_BY_DEFAULT = frozenset(EventType) - _OFF_BY_DEFAULT


async def set_preference(work: Work, event_type: EventType, *, in_app: bool | None, webhook: bool | None) -> Preference:
    """Set the viewer's preference; None leaves a part of it as it is. Raises `InvalidInput` for an event that cannot be switched off."""
    if event_type in ALWAYS and in_app is False:
        message = f"{event_type.name} cannot be switched off: it may be the doing of somebody else who uses your account."
        raise invalid("inApp", message=message)
    user_id = work.viewer.id
    existing = await work.first(preference_of(user_id, event_type))
    was = (
        Preference(event_type in ON_BY_DEFAULT, webhook=True) if existing is None else Preference(existing.in_app, webhook=existing.webhook)
    )
    chosen = Preference(was.in_app if in_app is None else in_app, webhook=was.webhook if webhook is None else webhook)
    values = asdict(chosen)
    statement = upsert(NotificationPreference).values(user_id=user_id, event_type=event_type, **values)
    await work.run(statement.on_conflict_do_update(index_elements=["user_id", "event_type"], set_=values))
    before, after = {"event_type": event_type, **asdict(was)}, {"event_type": event_type, **values}
    work.record("set_notification_preference", "user", user_id, user_id, before, after)
    return chosen
