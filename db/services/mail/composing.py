"""What mails say. They are plain text, made when a mail is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

from sqlalchemy import Row, func, or_, select

from db.core.work import Work
from db.errors import NotFound
from db.services import account_tokens
from db.settings import StateSettings
from db.tables import ApiKey, EmailMessage, User
from db.tables.accounts import TokenPurpose
from db.tables.mail import EmailTemplate

MAX_KEYS = 100  # listed in a mail


@dataclass(frozen=True, slots=True)
class ComposedMail:
    """A mail as it is sent."""

    address: str
    subject: str
    text: str


async def compose(work: Work, settings: StateSettings, message_id: UUID) -> ComposedMail:
    """Compose a mail; the time of its token begins. Raises `NotFound`, or `NoSecretKey` if it has a token."""
    columns = (EmailMessage.user_id, EmailMessage.address, EmailMessage.template, EmailMessage.token_id, User.username)
    row = await work.first(select(*columns).join(User, User.id == EmailMessage.user_id).where(EmailMessage.id == message_id))
    if row is None:
        raise NotFound(str(message_id))
    match row.template:
        case EmailTemplate.PASSWORD_RESET:
            subject, paragraphs = "Reset your password", await _password_reset(work, settings, row)
        case _:
            subject, paragraphs = "Your password was changed", await _password_changed(work, row)
    text = "\n\n".join([f"Hello {row.username},", *paragraphs, settings.public_url]).rstrip() + "\n"
    return ComposedMail(row.address, f"Trellis: {subject}", text)


async def _password_reset(work: Work, settings: StateSettings, row: Row[Any]) -> list[str]:
    token = account_tokens.token_text(settings, row.token_id, TokenPurpose.RESET_PASSWORD)
    await account_tokens.activate(work, row.token_id)
    return [
        "somebody, we hope you, asked to reset the password of your account. If it was not you, ignore this mail: nothing has changed.",
        f"{_how_to_use(settings, token, 'reset-password', 'resetPassword')} It is valid once, for 30 minutes.",
    ]


async def _password_changed(work: Work, row: Row[Any]) -> list[str]:
    is_valid = (ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))
    statement = select(ApiKey.prefix, ApiKey.name).where(ApiKey.user_id == row.user_id, *is_valid).order_by(ApiKey.created_at.desc())
    keys = await work.all(statement.limit(MAX_KEYS))
    changed = "the password of your account was changed, and your other sessions have ended."
    paragraphs = [f"{changed} If it was not you, reset your password now, and tell whoever runs this Trellis."]
    if keys:
        lines = "\n".join(f"  {key.prefix}…  {' '.join(key.name.split())}" for key in keys)
        paragraphs.append(f"These API keys stay valid. Revoke those that you do not know:\n{lines}")
    return paragraphs


def _how_to_use(settings: StateSettings, token: str, page: str, mutation: str) -> str:
    """A link, whose fragment reaches no server's log; without a public address, the mutation that takes the token."""
    if settings.public_url:
        return f"Open this link to go on:\n\n  {settings.public_url.rstrip('/')}/{page}#token={quote(token)}\n\n"
    return f"To go on, pass this token to the mutation `{mutation}`:\n\n  {token}\n\n"
