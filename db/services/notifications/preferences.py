"""Which events people are told of, and how: what they chose, else a default that is quiet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.errors import NotFound, invalid
from db.queries.accounts import is_person
from db.queries.notifications import CHOICES, Preference
from db.tables import NotificationPreference, User
from db.tables.notifications import EmailFrequency, EventType

ALWAYS = frozenset({EventType.LOGIN_NEW_DEVICE, EventType.PASSWORD_CHANGED})
"""What cannot be switched off: it may be somebody else's doing."""
OF_ACCOUNTS = ALWAYS | {EventType.TEAM_INVITED}
"""What is told by a mail of its own, with what to do about it: it is not mailed as an event as well."""
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
MAILED_BY_DEFAULT = frozenset({EventType.STUDY_PAUSED, EventType.CREDITS_LOW, EventType.QUOTA_NEAR, EventType.WEBHOOK_DISABLED})
"""What stops work, or is about to, until somebody does something."""


def email_frequency(event_type: EventType, chosen: EmailFrequency | None) -> EmailFrequency:
    """When an event is mailed to who chose this, or nothing."""
    if event_type in OF_ACCOUNTS:
        return EmailFrequency.INSTANT
    return chosen or (EmailFrequency.INSTANT if event_type in MAILED_BY_DEFAULT else EmailFrequency.OFF)


async def set_preference(
    work: Work,
    event_type: EventType,
    *,
    in_app: bool | None = None,
    webhook: bool | None = None,
    email: bool | None = None,
    frequency: EmailFrequency | None = None,
) -> Preference:
    """Set the viewer's preference; None leaves a part of it as it is.

    Raises `InvalidInput` for an event that cannot be switched off, or for a frequency that contradicts `email`.
    """
    if event_type in ALWAYS and in_app is False:
        message = f"{event_type.name} cannot be switched off: it may be the doing of somebody else who uses your account."
        raise invalid("inApp", message=message)
    was = await _lock(work, work.viewer.id, event_type)
    mailed = email_frequency(event_type, was.email_frequency)
    chosen = replace(
        was,
        in_app=was.in_app if in_app is None else in_app,
        webhook=was.webhook if webhook is None else webhook,
        email_frequency=_frequency(mailed, email, frequency) or was.email_frequency,
    )
    if email_frequency(event_type, chosen.email_frequency) is not (chosen.email_frequency or mailed):
        message = f"{event_type.name} is told by a mail of its own, which is always sent, at once."
        raise invalid("email" if frequency is None else "emailFrequency", message=message)
    await _store(work, work.viewer.id, event_type, was, chosen, "set_notification_preference")
    return chosen


async def stop_mails(work: Work, user_id: UUID, event_types: Collection[EventType]) -> None:
    """Have these events mailed to a user no more; all else of their preferences stays. Raises `NotFound` for an account that was deleted."""
    if not await work.scalar(select(User.id).where(User.id == user_id, is_person()).with_for_update(read=True)):
        raise NotFound(str(user_id))
    for event_type in sorted(set(event_types) - OF_ACCOUNTS):
        was = await _lock(work, user_id, event_type)
        if was.email_frequency is not EmailFrequency.OFF:
            await _store(work, user_id, event_type, was, replace(was, email_frequency=EmailFrequency.OFF), "unsubscribe")


def _frequency(mailed: EmailFrequency, email: bool | None, frequency: EmailFrequency | None) -> EmailFrequency | None:
    """The frequency that is asked for, if one is. `email` alone keeps that which events are mailed by."""
    if email is None:
        return frequency
    if frequency is None:
        if not email:
            return EmailFrequency.OFF
        return EmailFrequency.INSTANT if mailed is EmailFrequency.OFF else mailed
    if email is not (frequency is not EmailFrequency.OFF):
        raise invalid("emailFrequency", message=f"`email` is {str(email).lower()}, which {frequency.name} contradicts. Give one of both.")
    return frequency


async def _lock(work: Work, user_id: UUID, event_type: EventType) -> Preference:
    """Lock the preference and return it as it is then; one that was not set is added with the defaults of the event.

    Of changes at the same time, each sees what the others have committed, so that all of them hold.
    """
    values = {"user_id": user_id, "event_type": event_type, **asdict(Preference(event_type in ON_BY_DEFAULT, webhook=True))}
    added = upsert(NotificationPreference).values(values)
    locked = added.on_conflict_do_update(index_elements=["user_id", "event_type"], set_={"event_type": added.excluded.event_type})
    row = await work.one(locked.returning(*CHOICES))
    return Preference(row.in_app, row.webhook, row.email_frequency)


async def _store(work: Work, user_id: UUID, event_type: EventType, was: Preference, chosen: Preference, action: str) -> None:
    """Write a preference that is locked."""
    values = asdict(chosen)
    is_its = (NotificationPreference.user_id == user_id, NotificationPreference.event_type == event_type)
    await work.run(update(NotificationPreference).where(*is_its).values(values))
    work.record(action, "user", user_id, user_id, {"event_type": event_type, **asdict(was)}, {"event_type": event_type, **values})
