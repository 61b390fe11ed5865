"""Tokens that are sent by mail: valid once, for 30 minutes after the mail was sent, and void when the address or the password changes.

Those of registrations and invitations are made and read in the same way; their rows, and how long they are valid, are their own.

The secret is the HMAC-SHA-256 of the row's id under `TRELLIS_SECRET_KEY`, so the database alone, or a copy of it, opens no account.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, or_, select, update

from db.core.sql import Rows
from db.core.work import Database, Work
from db.errors import InvalidInput, NoSecretKey, invalid
from db.settings import StateSettings
from db.tables import AccountToken, User
from db.tables.accounts import TokenPurpose

LIFETIME = timedelta(minutes=30)
REGISTRATION = "registration"
INVITATION = "invitation"


async def create_token(work: Work, user_id: UUID, purpose: TokenPurpose, email: str, new_email: str | None = None) -> UUID:
    """Create a token, which is valid once `activate` was called; return its id. `email` is the address that the user has now."""
    values = {"user_id": user_id, "purpose": purpose, "email": email, "new_email": new_email}
    return await work.scalar(insert(AccountToken).values(values).returning(AccountToken.id))


async def activate(work: Work, token_id: UUID) -> None:
    """Begin the token's time: its mail is about to be sent."""
    await work.run(update(AccountToken).where(AccountToken.id == token_id).values(expires_at=func.now() + LIFETIME))


def token_text(settings: StateSettings, row_id: UUID, purpose: str) -> str:
    """Return the token of a row as it stands in a mail. `purpose` is a `TokenPurpose`, REGISTRATION or INVITATION. Raises `NoSecretKey`."""
    key = settings.secret_key.get_secret_value()
    if not key:
        raise NoSecretKey
    mac = hmac.digest(key.encode(), f"{purpose}:{row_id.hex}".encode(), hashlib.sha256)
    return f"{row_id.hex}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


async def find_owner(database: Database, settings: StateSettings, token: str, purpose: TokenPurpose) -> Row[Any]:
    """Return the token's `id` and `new_email`, and its user's `user_id`, `email` and `username`. Raises `InvalidInput` if it is not valid."""
    row_id = read_token(settings, token, purpose)
    if row_id is None:
        raise not_valid()
    rows = await database.rows(_valid_token(row_id))
    if not rows:
        raise not_valid()
    return rows[0]


def read_token(settings: StateSettings, token: str, purpose: str) -> UUID | None:
    """Return the id of the row that a token was made for; None if it was not made here for this purpose. The row may have ended."""
    try:
        row_id = UUID(hex=token.partition(".")[0])
        expected = token_text(settings, row_id, purpose)
    except (ValueError, NoSecretKey):
        return None
    return row_id if hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")) else None


async def use_token(work: Work, token_id: UUID) -> Row[Any]:
    """Mark the token as used; return it as `find_owner` does. Raises `InvalidInput` if it is not valid any more.

    The user is locked, so that a change of the password or the address comes before or after.
    """
    token = await work.first(_valid_token(token_id).with_for_update(of=User))
    statement = update(AccountToken).where(AccountToken.id == token_id, AccountToken.used_at.is_(None)).values(used_at=func.now())
    if token is None or not await work.run(statement):
        raise not_valid()
    return token


def _valid_token(token_id: UUID) -> Rows:
    return (
        select(AccountToken.id, AccountToken.user_id, AccountToken.new_email, User.email, User.username)
        .join(User, User.id == AccountToken.user_id)
        .where(AccountToken.id == token_id, AccountToken.used_at.is_(None), AccountToken.expires_at > func.now())
        .where(func.lower(User.email) == func.lower(AccountToken.email), User.deleted_at.is_(None), User.disabled_at.is_(None))
        .where(or_(User.password_changed_at.is_(None), User.password_changed_at < AccountToken.created_at))
    )


def not_valid() -> InvalidInput:
    """The error of a token that is unknown, was used, or is valid no more."""
    return invalid(
        "token", message="This token is not valid: it was used, is older than 30 minutes, or a newer change made it void. Ask for another."
    )
