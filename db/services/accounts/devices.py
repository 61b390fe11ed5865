"""Known devices: a user is told by mail of a sign-in from a browser, kind of device and network that is new to the account."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import Boolean, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.networks import ClientInfo, wide_network
from db.core.work import Work
from db.services import events
from db.services.accounts import user_agents
from db.services.mail.sending import queue_mail
from db.tables import KnownDevice
from db.tables.mail import EmailTemplate
from db.tables.notifications import EventType

MAX_MAILS = 10  # an hour to one user: a client can give itself any name
_HOUR = timedelta(hours=1)


async def note_device(work: Work, user_id: UUID, email: str, session_id: UUID, client: ClientInfo, *, is_first_sign_in: bool) -> None:
    """Remember where a session began, and tell its user if the device is new, except at the very first sign-in. The user's row is locked."""
    user_agent = user_agents.shortened(client.user_agent)
    values = {
        "user_id": user_id,
        "network": wide_network(client.address),
        "browser": user_agents.browser(user_agent) or "",
        "device": user_agents.device(user_agent) or "",
    }
    seen = upsert(KnownDevice).values(values)
    seen = seen.on_conflict_do_update(index_elements=list(values), set_={"last_seen_at": func.now()})
    is_new = await work.scalar(seen.returning(literal_column("old.user_id IS NULL", Boolean)))
    if not is_new or is_first_sign_in:
        return
    lately = select(func.count()).where(KnownDevice.user_id == user_id, KnownDevice.created_at > func.now() - _HOUR)
    if await work.scalar(lately) <= MAX_MAILS:
        await queue_mail(work, EmailTemplate.NEW_DEVICE, email, user_id, session_id=session_id)
        subject_id = f"session_{session_id.hex}"
        await events.add(work, EventType.LOGIN_NEW_DEVICE, user_id, recipient_id=user_id, subject_id=subject_id)
