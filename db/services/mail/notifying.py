"""Mails of events, one by one and in digests. They hold names and ids, and nothing of the data.

Whoever reads them is asked for anew when they are sent: of what they may no longer see, or want no mails of any more, they are told nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, exists, func, select, update

from db.core.policy import visible
from db.core.viewer import Viewer
from db.core.work import Work
from db.errors import MailSuppressed
from db.queries.accounts import acting_user, viewer_of_user
from db.services.mail import unsubscribing
from db.services.mail.rendering import ComposedMail, render
from db.services.mail.subjects import DIGESTS, subject_of
from db.services.notifications.texts import body_of, heading_of, title_of
from db.settings import StateSettings
from db.tables import DigestItem, EmailMessage, NotificationPreference, User
from db.tables.mail import EmailTemplate
from db.tables.notifications import EmailFrequency, EventType

SHOWN = 20  # of the events of one type that a digest lists


async def compose_notification(work: Work, settings: StateSettings, row: Row[Any]) -> ComposedMail:
    """A mail of an event or a digest, to the address that its reader has now. Raises `MailSuppressed` if they are not to have it."""
    viewer = await _reader(work, row)
    address: str = await work.scalar(select(User.email).where(User.id == row.user_id))
    if address != row.address:
        await work.run(update(EmailMessage).where(EmailMessage.id == row.id).values(address=address))
    if row.template is EmailTemplate.EVENT:
        await _require_told(work, viewer, row)
        return event_mail(settings, row.user_id, row.username, address, row)
    events = await _events_of(work, viewer, row.id)
    if not events:
        raise MailSuppressed("Its reader may no longer see what it is about, or wants no mails of it any more.")
    return digest_mail(settings, row.user_id, row.username, address, row.template, events)


def event_mail(settings: StateSettings, user_id: UUID, username: str, address: str, event: Any) -> ComposedMail:
    """The mail of one event, which has `event_type`, `subject_id`, `name` and `data`."""
    stop_url = unsubscribing.url(settings, user_id, (event.event_type,))
    subject = subject_of(EmailTemplate.EVENT, event.event_type, event.name, event.data)
    values = {"username": username, "event": _shown(event), "stop_url": stop_url, "public_url": settings.public_url}
    return render("event", address, subject, values, unsubscribing.headers(stop_url))


def digest_mail(
    settings: StateSettings, user_id: UUID, username: str, address: str, template: EmailTemplate, events: Sequence[Any]
) -> ComposedMail:
    """The mail of several events, which have `total`, of their type, and `created_at` besides; those of a type stand together."""
    groups: list[dict[str, Any]] = []
    for event_type, members in groupby(events, key=lambda event: event.event_type):
        rows = list(members)
        group = {
            "type": event_type.name,
            "heading": heading_of(event_type),
            "total": rows[0].total,
            "more": rows[0].total - len(rows),
            "events": [_shown(row) | {"time": _time(row.created_at)} for row in rows],
            "stop_url": unsubscribing.url(settings, user_id, (event_type,)),
        }
        groups.append(group)
    stop_url = unsubscribing.url(settings, user_id, {event.event_type for event in events})
    values = {
        "username": username,
        "period": DIGESTS[template],
        "groups": groups,
        "total": sum(group["total"] for group in groups),
        "stop_url": stop_url,
        "public_url": settings.public_url,
    }
    return render("digest", address, subject_of(template), values, unsubscribing.headers(stop_url))


async def _reader(work: Work, row: Row[Any]) -> Viewer:
    user = await work.first(acting_user(row.user_id))
    if user is None:
        raise MailSuppressed("The account of its reader is disabled or deleted.")
    return viewer_of_user(user)


async def _require_told(work: Work, viewer: Viewer, row: Row[Any]) -> None:
    if not await work.scalar(select(EmailMessage.id).where(EmailMessage.id == row.id, visible(EmailMessage, viewer))):
        raise MailSuppressed("Its reader may no longer see what it is about.")
    if await work.scalar(select(_is_off(viewer, row.event_type))):
        raise MailSuppressed("Its reader wants no mails of such events any more.")


async def _events_of(work: Work, viewer: Viewer, message_id: UUID) -> Sequence[Row[Any]]:
    """The events of a digest that its reader is told: by type those that are listed, the newest first, each with the `total` of its type."""
    of_type = DigestItem.event_type
    place = func.row_number().over(partition_by=of_type, order_by=(DigestItem.created_at.desc(), DigestItem.id.desc()))
    columns = (of_type, DigestItem.subject_id, DigestItem.name, DigestItem.data, DigestItem.created_at)
    numbered = (
        select(*columns, place.label("place"), func.count().over(partition_by=of_type).label("total"))
        .where(DigestItem.message_id == message_id, visible(DigestItem, viewer), ~_is_off(viewer, of_type))
        .subquery()
    )
    rows = await work.all(select(numbered).where(numbered.c.place <= SHOWN).order_by(numbered.c.event_type, numbered.c.place))
    order = list(EventType)
    return sorted(rows, key=lambda row: order.index(row.event_type))


def _is_off(viewer: Viewer, event_type: Any) -> Any:
    is_off = NotificationPreference.email_frequency == EmailFrequency.OFF
    return exists().where(NotificationPreference.user_id == viewer.id, NotificationPreference.event_type == event_type, is_off)


def _shown(event: Any) -> dict[str, str]:
    title, body = title_of(event.event_type, event.name, event.data), body_of(event.event_type, event.subject_id, event.data)
    return {"type": event.event_type.name, "title": " ".join(title.split()), "body": body}


def _time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
