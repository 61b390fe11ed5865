"""Create and revoke bearer tokens, and record their use."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.sql import equals_any
from db.core.work import Work
from db.errors import Conflict, NotFound, invalid
from db.queries.accounts import has_email, token_hash
from db.services.accounts.sessions import USE_INTERVAL, end_sessions, record_session_use
from db.tables import ApiKey, User

ADMIN_TOKEN_NAME = "admin"  # noqa: S105 - the name of the token that the settings give
PREFIX_LENGTH = 12  # characters of a token of ours that may be shown: `trk_` and eight digits
FOREIGN_PREFIX_LENGTH = 4  # the same for a token that an operator made, which may be short


def new_token() -> str:
    """Return a new bearer token, `trk_<prefix>_<256 random bits>`. It is shown once; only its hash is stored."""
    return f"trk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


async def add_token(work: Work, email: str, name: str, lifetime: timedelta | None = None) -> str:
    """Create another bearer token of a user, which expires after `lifetime` if given. Raises `NotFound` or `InvalidInput`."""
    if lifetime is not None and lifetime <= timedelta(0):
        raise invalid("expires", message="A token must be valid for some time, such as 90d.")
    if name == ADMIN_TOKEN_NAME:
        raise invalid("name", message=f"The name {name!r} is that of TRELLIS_ADMIN_TOKEN. Choose another.")
    token = new_token()
    await store_token(work, await _user_id(work, email), token, name, lifetime)
    return token


async def revoke_tokens(work: Work, email: str) -> int:
    """Revoke all tokens of a user and end their sessions; return how many. Connections opened with them end within seconds. Raises `NotFound`."""
    user_id = await _user_id(work, email)
    return len(await _revoke(work, ApiKey.user_id == user_id)) + await end_sessions(work, user_id)


async def revoke_token(work: Work, name: str) -> UUID:
    """Revoke the token with this prefix or id; return its owner. Raises `NotFound` if there is no valid one, `Conflict` for several."""
    condition = ApiKey.prefix == name
    with suppress(ValueError):  # no id
        condition = or_(condition, ApiKey.id == UUID(name))
    owners = await _revoke(work, condition)
    if not owners:
        raise NotFound(name)
    if len(owners) > 1:  # the unit of work is rolled back
        raise Conflict(f"{len(owners)} tokens begin with {name!r}. Name one by its id, as `trellis token list --json` prints it.")
    return owners[0]


async def record_token_use(work: Work, key_ids: Collection[UUID]) -> None:
    """Set the last use of API keys and sessions to now, unless it was set less than `USE_INTERVAL` ago.

    Rows that another process updates are skipped.
    """
    due = (
        select(ApiKey.id)
        .where(equals_any(ApiKey.id, list(key_ids)), or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < func.now() - USE_INTERVAL))
        .with_for_update(skip_locked=True)
    )
    await work.run(update(ApiKey).where(ApiKey.id.in_(due)).values(last_used_at=func.now()))
    await record_session_use(work, key_ids)


async def _user_id(work: Work, email: str) -> UUID:
    user_id: UUID | None = await work.scalar(select(User.id).where(has_email(email)))
    if user_id is None:
        raise NotFound(email)
    return user_id


async def _revoke(work: Work, condition: ColumnElement[bool]) -> list[UUID]:
    """Revoke the tokens; return the owner of each."""
    statement = update(ApiKey).where(condition, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now()).returning(ApiKey.user_id)
    owners = [row.user_id for row in await work.all(statement)]
    for user_id in owners:
        work.revalidate_sessions(user_id)
    return owners


async def store_token(work: Work, user_id: UUID, token: str, name: str, lifetime: timedelta | None = None) -> None:
    """Store a token's hash; one that exists becomes this user's, and valid again."""
    shown = token[: PREFIX_LENGTH if token.startswith("trk_") else FOREIGN_PREFIX_LENGTH]
    expires_at = None if lifetime is None else func.now() + lifetime
    values = {"user_id": user_id, "name": name, "prefix": shown, "expires_at": expires_at, "revoked_at": None}
    statement = upsert(ApiKey).values(token_sha256=token_hash(token), **values)
    await work.run(statement.on_conflict_do_update(index_elements=[ApiKey.token_sha256], set_=values))
