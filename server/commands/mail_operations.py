"""Reads of `trellis mail`, as the viewer SYSTEM, who sees everything."""

from __future__ import annotations

from uuid import UUID

from db.core.criteria import Criteria, Equals
from db.core.page import Slice
from db.core.viewer import SYSTEM
from db.errors import NotFound, StateError
from db.queries import operations
from db.services import mail
from db.settings import StateSettings
from db.tables.mail import EmailStatus
from server.commands.operations import open_database
from server.commands.user_operations import RowPage


class NoSuchMail(StateError):
    """No mail has this id."""


async def list_mails(settings: StateSettings, status: str | None, limit: int, after: str | None) -> RowPage:
    """A page of mails. Raises `InvalidCursor`."""
    criteria = None if status is None else Criteria.of(status=Equals(EmailStatus(status)))
    async with open_database(settings) as database:
        return RowPage.of(await operations.mails.page(database, SYSTEM, Slice(limit, after), criteria))


async def compose(settings: StateSettings, mail_id: str) -> mail.ComposedMail:
    """A mail as it would be sent now. Raises `NoSuchMail` or `NoSecretKey`."""
    try:
        async with open_database(settings) as database, database.work(SYSTEM) as work:
            return await mail.compose(work, settings, UUID(mail_id))
    except (NotFound, ValueError):
        raise NoSuchMail(f"No mail has the id {mail_id!r}. `trellis mail list` shows them.") from None
