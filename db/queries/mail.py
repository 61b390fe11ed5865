"""Queries of mails: a viewer reads of their own, those about teams they have left excepted."""

from __future__ import annotations

from sqlalchemy import exists, func, select

from db.core.batch import rows_by_key
from db.core.criteria import Filters
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import EmailMessage, SuppressedAddress

_NAMES = {
    "id", "event_type", "name", "data", "status", "error", "created_at", "sent_at", "provider", "message_id", "delivered_at",
    "opened_at", "clicked_at",
}  # fmt: skip
_COLUMNS = [column for column in EmailMessage.__table__.c if column.name in _NAMES]
_PUBLISHED = (EmailMessage.address.label("recipient"), EmailMessage.template.label("template_key"), EmailMessage.tries.label("attempts"))


def messages(viewer: Viewer) -> Rows:
    """The mails to the viewer, for admins too."""
    return select(*_COLUMNS, *_PUBLISHED).where(EmailMessage.user_id == viewer.id, visible(EmailMessage, viewer))


by_id = rows_by_key(messages, EmailMessage.id)
listing = Listing(messages, lambda _: Sort("createdAt", EmailMessage.created_at, EmailMessage.id), Filters(EmailMessage))


def suppression(address: str) -> Rows:
    """The `reason` for which an address is sent nothing; no row if it is."""
    return select(SuppressedAddress.reason).where(SuppressedAddress.address == func.lower(address))


def is_suppressed(address: str) -> Rows:
    """One row: whether an address `is_suppressed`."""
    return select(exists(suppression(address)).label("is_suppressed"))
