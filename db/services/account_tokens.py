"""Tokens that are sent by mail: valid once, for 30 minutes after the mail was sent, and void when the address or the password changes.

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


async def create_token(work: Work, user_id: UUID, purpose: TokenPurpose, email: str) -> UUID:
    """Create a token, which is valid once `activate` was called; return its id."""
    return await work.scalar(insert(AccountToken).values(user_id=user_id, purpose=purpose, email=email).returning(AccountToken.id))


async def activate(work: Work, token_id: UUID) -> None:
    """Begin the token's time: its mail is about to be sent."""
    await work.run(update(AccountToken).where(AccountToken.id == token_id).values(expires_at=func.now() + LIFETIME))


def token_text(settings: StateSettings, token_id: UUID, purpose: TokenPurpose) -> str:
    """Return the token as it stands in a mail. Raises `NoSecretKey`."""
    key = settings.secret_key.get_secret_value()
    if not key:
        raise NoSecretKey
    mac = hmac.digest(key.encode(), f"{purpose.value}:{token_id.hex}".encode(), hashlib.sha256)
    return f"{token_id.hex}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


async def find_owner(database: Database, settings: StateSettings, token: str, purpose: TokenPurpose) -> Row[Any]:
    """Return the token's `id` and its user's `user_id`, `email` and `username`. Raises `InvalidInput` if it is not valid."""
    try:
        token_id = UUID(hex=token.partition(".")[0])
        expected = token_text(settings, token_id, purpose)
    except (ValueError, NoSecretKey):
        raise _not_valid() from None
    if not hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace")):
        raise _not_valid()
    rows = await database.rows(_valid_token(token_id))
    if not rows:
        raise _not_valid()
    return rows[0]


async def use_token(work: Work, token_id: UUID) -> None:
    """Mark the token as used. Raises `InvalidInput` if it is not valid any more."""
    valid = (
        _valid_token(token_id).with_for_update(of=User).subquery()
    )  # locks the user, so that a change of the password comes before or after
    statement = update(AccountToken).where(AccountToken.id == select(valid.c.id).scalar_subquery(), AccountToken.used_at.is_(None))
    if not await work.run(statement.values(used_at=func.now())):
        raise _not_valid()


def _valid_token(token_id: UUID) -> Rows:
    return (
        select(AccountToken.id, AccountToken.user_id, User.email, User.username)
        .join(User, User.id == AccountToken.user_id)
        .where(AccountToken.id == token_id, AccountToken.used_at.is_(None), AccountToken.expires_at > func.now())
        .where(func.lower(User.email) == func.lower(AccountToken.email), User.deleted_at.is_(None), User.disabled_at.is_(None))
        .where(or_(User.password_changed_at.is_(None), User.password_changed_at < AccountToken.created_at))
    )


def _not_valid() -> InvalidInput:
    return invalid(
        "token", message="This token is not valid: it was used, is older than 30 minutes, or a newer change made it void. Ask for another."
    )
