"""Queries of notifications: a viewer reads their own, those of teams they have left excepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Row, bindparam, func, select

from db.core.batch import rows_by_key
from db.core.criteria import Equals, Filters
from db.core.listing import Listing
from db.core.page import Sort, decode_cursor, encode_cursor
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import Inbox, Notification, NotificationPreference
from db.tables.notifications import EmailFrequency, EventType

MAX_UNREAD = 1_000  # that are counted
AT_ONCE = 200  # that a stream reads
_STREAM = Sort("NOTIFICATION", Notification.sequence, Notification.id, descending=False, kind="int")

CHOICES = (NotificationPreference.in_app, NotificationPreference.webhook, NotificationPreference.email_frequency)
_COLUMNS = [column for column in Notification.__table__.c if column.name != "recipient_id"]


@dataclass(frozen=True, slots=True)
class Preference:
    """Whether an event is told in the list of notifications, and sent to the user's own webhooks that are for it; and when it is mailed.

    Without a frequency, the default of the event holds.
    """

    in_app: bool
    webhook: bool
    email_frequency: EmailFrequency | None = None


def notifications(viewer: Viewer) -> Rows:
    """The viewer's own notifications, for admins too."""
    return select(*_COLUMNS).where(Notification.recipient_id == viewer.id, visible(Notification, viewer))


by_id = rows_by_key(notifications, Notification.id)


def _is_read(condition: Equals) -> Any:
    yield Notification.read_at.is_not(None) if condition.value else Notification.read_at.is_(None)


listing = Listing(
    notifications, lambda _: Sort("createdAt", Notification.created_at, Notification.id), Filters(Notification, is_read=_is_read)
)


def _unread(viewer: Viewer) -> Rows:
    some = select(Notification.id).where(
        Notification.recipient_id == viewer.id, visible(Notification, viewer), Notification.read_at.is_(None)
    )
    return select(func.count().label("unread")).select_from(some.limit(MAX_UNREAD).subquery())


_UNREAD = PreparedRows(_unread)


async def unread(database: Database, viewer: Viewer) -> int:
    """How many of the viewer's notifications are not read, up to `MAX_UNREAD`."""
    (row,) = await _UNREAD(database, viewer)
    return row.unread


async def last_sequence(database: Database, viewer: Viewer) -> int:
    """The number of the viewer's last notification; 0 before the first."""
    rows = await database.rows(select(Inbox.last_sequence).where(Inbox.user_id == viewer.id))
    return rows[0].last_sequence if rows else 0


async def after(database: Database, viewer: Viewer, sequence: int) -> Sequence[Row[Any]]:
    """The viewer's next notifications, in the order of their numbers."""
    later = notifications(viewer).where(Notification.sequence > bindparam("sequence", sequence, type_=BigInteger))
    return await database.rows(later.order_by(Notification.sequence).limit(AT_ONCE))


def cursor_of(row: Row[Any]) -> str:
    """The cursor of a notification in a stream."""
    return encode_cursor(_STREAM, row.sequence, row.id)


def sequence_of(cursor: str) -> int:
    """The number of the notification that a cursor is of. Raises `InvalidCursor`."""
    sequence, _ = decode_cursor(_STREAM, cursor)
    return sequence


def _preferences(viewer: Viewer) -> Rows:
    """The viewer's own, for admins too."""
    return select(NotificationPreference.event_type, *CHOICES).where(
        NotificationPreference.user_id == viewer.id, visible(NotificationPreference, viewer)
    )


_PREFERENCES = PreparedRows(_preferences)


async def preferences(database: Database, viewer: Viewer) -> dict[EventType, Preference]:
    """What the viewer chose, by type of event, where they did."""
    return {row.event_type: Preference(row.in_app, row.webhook, row.email_frequency) for row in await _PREFERENCES(database, viewer)}
