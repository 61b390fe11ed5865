"""Queue mails with the change that they tell of, and send those that wait."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Double, Interval, case, func, insert, literal_column, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import MailSuppressed, MailVoid
from db.queries.mail import suppression
from db.services.mail import smtp
from db.services.mail.composing import compose
from db.services.mail.rendering import ComposedMail
from db.settings import StateSettings
from db.tables import EmailMessage
from db.tables.mail import EmailStatus, EmailTemplate, SuppressionReason
from db.tables.notifications import EventType

MAX_PER_RUN = 500
_EVENTS = {EmailTemplate.PASSWORD_CHANGED: EventType.PASSWORD_CHANGED, EmailTemplate.NEW_DEVICE: EventType.LOGIN_NEW_DEVICE}
"""The events that are told by mails of accounts."""
_VERIFYING = {EmailTemplate.VERIFY_REGISTRATION, EmailTemplate.VERIFY_NEW_EMAIL, EmailTemplate.PASSWORD_RESET}
"""What is sent to an address that has bounced, too: their links verify it."""
MAX_AGE = timedelta(days=3)  # after which a mail that could not be sent has failed
MAX_SENDING = timedelta(minutes=5)  # after which the process that sent a mail is known to have died
FIRST_BACKOFF = 15  # seconds
MAX_DOUBLINGS = 8  # of the backoff: an hour


async def queue_mail(
    work: Work,
    template: EmailTemplate,
    address: str,
    user_id: UUID | None = None,
    token_id: UUID | None = None,
    *,
    registration_id: UUID | None = None,
    invitation_id: UUID | None = None,
    session_id: UUID | None = None,
) -> None:
    """Add a mail, which is sent after the commit. It is to a user, or about a registration or an invitation."""
    values = {"template": template, "address": address, "user_id": user_id, "token_id": token_id, "session_id": session_id}
    values |= {"account_id": user_id, "event_type": _EVENTS.get(template)}
    await work.run(insert(EmailMessage).values(**values, registration_id=registration_id, invitation_id=invitation_id))


async def send_pending(database: Database, settings: StateSettings) -> int:
    """Send the mails that are due, one after the other over one connection; return how many. Stops at the first that the server cannot take now.

    Those of accounts go first: who waits to reset a password does not wait for a thousand events.
    A mail is marked as SENDING before it is sent: whatever happens then, it is never sent twice.
    """
    async with database.work(SYSTEM) as work:
        await _give_up(work)
    client = smtp.SmtpClient(settings.smtp_url.get_secret_value())
    try:
        return await _send_due(database, settings, client)
    finally:
        await asyncio.to_thread(client.close)


async def _send_due(database: Database, settings: StateSettings, client: smtp.SmtpClient) -> int:
    sent = 0
    while sent < MAX_PER_RUN:
        async with database.work(SYSTEM) as work:
            message_id = await _claim(work)
            if message_id is None:
                break
            try:
                mail = await compose(work, settings, message_id)
                await _require_deliverable(work, message_id, mail.address)
            except MailVoid as error:
                status = EmailStatus.SUPPRESSED if isinstance(error, MailSuppressed) else EmailStatus.FAILED
                is_void = {"status": status, "error": error.message}
                await work.run(update(EmailMessage).where(EmailMessage.id == message_id).values(is_void))
                continue
        if not await _deliver(database, settings, client, message_id, mail):
            break
        sent += 1
    return sent


async def _give_up(work: Work) -> None:
    """Mark mails whose sender died as UNCERTAIN, and those that are too old as FAILED."""
    is_abandoned = (EmailMessage.status == EmailStatus.SENDING) & (EmailMessage.run_after < func.now() - MAX_SENDING)
    died = "The process that sent it ended before the server's answer was known."
    await work.run(update(EmailMessage).where(is_abandoned).values(status=EmailStatus.UNCERTAIN, error=died))
    is_old = (EmailMessage.status == EmailStatus.PENDING) & (EmailMessage.tries > 0) & (EmailMessage.created_at < func.now() - MAX_AGE)
    await work.run(update(EmailMessage).where(is_old).values(status=EmailStatus.FAILED))


async def _claim(work: Work) -> UUID | None:
    due = (
        select(EmailMessage.id)
        .where(EmailMessage.status == EmailStatus.PENDING, EmailMessage.run_after <= func.now())
        .order_by(EmailMessage.is_notification, EmailMessage.run_after, EmailMessage.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    values: dict[str, Any] = {"status": EmailStatus.SENDING, "tries": EmailMessage.tries + 1, "run_after": func.now()}
    return await work.scalar(update(EmailMessage).where(EmailMessage.id == due.scalar_subquery()).values(values).returning(EmailMessage.id))


async def _require_deliverable(work: Work, message_id: UUID, address: str) -> None:
    """Raise `MailSuppressed` if the address has bounced, unless the mail is one that verifies it anew."""
    reason: SuppressionReason | None = await work.scalar(suppression(address))
    if reason is None or await work.scalar(select(EmailMessage.template).where(EmailMessage.id == message_id)) in _VERIFYING:
        return
    happened = "takes no mails" if reason is SuppressionReason.BOUNCED else "has reported mails as unwanted"
    raise MailSuppressed(
        f"A provider tells that the address {happened}. Verify it anew by `changeEmail`, with the same address, or set another."
    )


async def _deliver(database: Database, settings: StateSettings, client: smtp.SmtpClient, message_id: UUID, mail: ComposedMail) -> bool:
    """Send a mail and record the outcome; False if the server takes none now."""
    domain = parseaddr(settings.mail_from)[1].partition("@")[2] or "localhost"
    goes_on = True
    name = f"<{message_id.hex}@{domain}>"
    try:
        await asyncio.to_thread(client.deliver, settings.mail_from, name, mail)
        values: dict[str, Any] = {"status": EmailStatus.SENT, "sent_at": func.now(), "error": None}
    except smtp.Refused as error:
        values = {"status": EmailStatus.FAILED, "error": str(error)}
    except smtp.Uncertain as error:
        values = {"status": EmailStatus.UNCERTAIN, "error": str(error)}
    except smtp.NotSent as error:
        doublings = func.least(EmailMessage.tries - 1, MAX_DOUBLINGS)
        backoff = func.power(2, doublings, type_=Double) * literal_column(f"interval '{FIRST_BACKOFF} seconds'", Interval)
        values, goes_on = {"status": EmailStatus.PENDING, "error": str(error), "run_after": func.now() + backoff}, False
    # The provider may have told more of it already; that stays.
    is_ours = EmailMessage.status.in_((EmailStatus.SENDING, EmailStatus.UNCERTAIN))
    values |= {"status": case((is_ours, values["status"]), else_=EmailMessage.status)}
    values |= {"message_id": name, "provider": urlsplit(settings.smtp_url.get_secret_value()).hostname}
    async with database.work(SYSTEM) as work:
        await work.run(update(EmailMessage).where(EmailMessage.id == message_id).values(values))
    return goes_on
