"""Challenges that passkeys sign, 256 bits each: valid for five minutes, and for one answer."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, func, insert, select

from db.core.work import Database, Work
from db.errors import InvalidInput, invalid
from db.tables.passkeys import PasskeyChallenge

LENGTH = 32  # bytes
LIFETIME = timedelta(minutes=5)


async def create_challenge(work: Work, session_id: UUID | None = None, name: str | None = None) -> bytes:
    """Return a new challenge, which is not stored: of a new passkey with this name, for a session; or of a sign-in."""
    challenge = secrets.token_bytes(LENGTH)
    values = {"challenge_sha256": _hash(challenge), "session_id": session_id, "name": name, "expires_at": func.now() + LIFETIME}
    await work.run(insert(PasskeyChallenge).values(values))
    return challenge


async def require_challenge(database: Database, challenge: bytes, session_id: UUID | None = None) -> None:
    """Raise `InvalidInput` if a challenge, of this session or of sign-ins, is not valid."""
    if not await database.rows(select(PasskeyChallenge.id).where(*_is_valid(challenge, session_id))):
        raise _not_valid()


async def use_challenge(work: Work, challenge: bytes, session_id: UUID | None = None) -> Row[Any]:
    """Delete a challenge, of which only one caller can succeed; return its `name`. Raises `InvalidInput` if it is not valid any more."""
    row = await work.first(delete(PasskeyChallenge).where(*_is_valid(challenge, session_id)).returning(PasskeyChallenge.name))
    if row is None:
        raise _not_valid()
    return row


def _is_valid(challenge: bytes, session_id: UUID | None) -> tuple[ColumnElement[bool], ...]:
    return (
        PasskeyChallenge.challenge_sha256 == _hash(challenge),
        PasskeyChallenge.session_id.is_not_distinct_from(session_id),
        PasskeyChallenge.expires_at > func.now(),
    )


def _hash(challenge: bytes) -> bytes:
    return hashlib.sha256(challenge).digest()


def _not_valid() -> InvalidInput:
    message = "This answers no challenge that is valid: it was used, is older than 5 minutes, or was made for another session. Begin again."
    return invalid("credential", message=message)
