"""Challenges: what a right password, or a provider's word, gives to a user with a second factor. One is valid for five minutes, and for one session."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, insert, select, update

from db.core.work import Database, Work
from db.errors import InvalidInput, invalid
from db.queries.accounts import token_hash
from db.tables import LoginChallenge, User

LIFETIME = timedelta(minutes=5)
PREFIX = "trc_"


async def create_challenge(work: Work, user_id: UUID, password_hash: str | None, **values: Any) -> str:
    """Return the token of a new challenge, which is not stored. It is void once the user has another hash.

    `values` are `restores` and `username`, for that of a deleted user.
    """
    token = f"{PREFIX}{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256((password_hash or "").encode()).digest()
    values |= {"user_id": user_id, "token_sha256": token_hash(token), "password_digest": digest, "expires_at": func.now() + LIFETIME}
    await work.run(insert(LoginChallenge).values(values))
    return token


async def find_challenge(database: Database, token: str, *columns: ColumnElement[Any]) -> Row[Any]:
    """Return `id`, `user_id`, `restores`, `username`, `totp_secret` and the further columns of a challenge.

    Raises `InvalidInput` if it is not valid.
    """
    own = (LoginChallenge.id, LoginChallenge.user_id, LoginChallenge.restores, LoginChallenge.username)
    statement = select(*own, User.totp_secret, *columns).join(User, User.id == LoginChallenge.user_id)
    rows = await database.rows(statement.where(LoginChallenge.token_sha256 == token_hash(token), *_is_valid()))
    if not rows:
        raise challenge_not_valid()
    return rows[0]


async def use_challenge(work: Work, challenge_id: UUID) -> None:
    """Use a challenge, and lock its user's row. Raises `InvalidInput` if it is not valid any more."""
    valid = select(LoginChallenge.id).join(User, User.id == LoginChallenge.user_id).where(LoginChallenge.id == challenge_id, *_is_valid())
    locked = valid.with_for_update(of=User).subquery()
    statement = update(LoginChallenge).where(LoginChallenge.id == select(locked.c.id).scalar_subquery(), LoginChallenge.used_at.is_(None))
    if not await work.run(statement.values(used_at=func.now())):
        raise challenge_not_valid()


def _is_valid() -> tuple[ColumnElement[bool], ...]:
    return (
        LoginChallenge.used_at.is_(None),
        LoginChallenge.expires_at > func.now(),
        LoginChallenge.password_digest == func.sha256(func.convert_to(func.coalesce(User.password_hash, ""), "UTF8")),
        User.totp_secret.is_not(None),
        LoginChallenge.restores == User.deleted_at.is_not(None),
        User.disabled_at.is_(None),
    )


def challenge_not_valid() -> InvalidInput:
    """The error of a challenge that was used, is too old, or whose account was changed."""
    message = "This challenge is not valid: it was used, is older than 5 minutes, or the account was changed. Begin again with `login`."
    return invalid("challenge", message=message)
