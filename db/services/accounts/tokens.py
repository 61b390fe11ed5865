"""Create and revoke bearer tokens, and record their use. What users do with them through the API is in `api_keys`."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.audit import ref
from db.core.sql import equals_any
from db.core.viewer import ALL_SCOPES, ApiScope
from db.core.work import Work
from db.errors import Conflict, NotFound, invalid
from db.queries.accounts import has_email, is_valid_key, token_hash
from db.services.accounts.sessions import USE_INTERVAL, end_sessions, record_session_use
from db.tables import ApiKey, User

T = TypeVar("T")

ADMIN_TOKEN_NAME = "admin"  # noqa: S105 - the name of the token that the settings give
PREFIX_LENGTH = 12  # characters of a token of ours that may be shown: `trk_` and eight digits
FOREIGN_PREFIX_LENGTH = 4  # the same for a token that an operator made, which may be short


def new_token() -> str:
    """Return a new bearer token, `trk_<prefix>_<256 random bits>`. It is shown once; only its hash is stored."""
    return f"trk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


async def add_token(
    work: Work,
    email: str,
    name: str,
    lifetime: timedelta | None = None,
    scopes: Collection[ApiScope] | None = None,
    points_per_minute: int | None = None,
) -> str:
    """Create another bearer token of a user. Raises `NotFound` or `InvalidInput`.

    It expires after `lifetime` if given. Without `scopes` it may be used for all that the user's role allows, whatever the role becomes.
    """
    if lifetime is not None and lifetime <= timedelta(0):
        raise invalid("expires", message="A token must be valid for some time, such as 90d.")
    if name == ADMIN_TOKEN_NAME:
        raise invalid("name", message=f"The name {name!r} is that of TRELLIS_ADMIN_TOKEN. Choose another.")
    token = new_token()
    user_id = await _user_id(work, email)
    key_id = await store_token(work, user_id, token, name, lifetime, scopes, points_per_minute)
    _record_new(work, key_id, user_id, token, name)
    return token


async def replace_token(work: Work, name: str, overlap: timedelta) -> str:
    """Create a token like the one with this prefix or id, which ends after `overlap` unless it ends before. Return the new one.

    It has the same name, scopes and points, and is valid for as long as the old one was to be when it was made. Raises `NotFound` if there is no
    such valid token, `Conflict` for several, and `InvalidInput` for that of the settings.
    """
    keys = await work.all(select(ApiKey).where(_is_named(name), is_valid_key()).with_for_update())
    key = _only(keys, name)
    if key.name == ADMIN_TOKEN_NAME:
        raise invalid("token", message="This is the token of TRELLIS_ADMIN_TOKEN: change that setting, and start again.")
    token = new_token()
    lifetime = None if key.expires_at is None else key.expires_at - key.created_at
    scopes = [ApiScope(scope) for scope in key.scopes]
    new_id = await store_token(work, key.user_id, token, key.name, lifetime, scopes, key.points_per_minute)
    await end_after(work, key.id, key.user_id, overlap)
    _record_new(work, new_id, key.user_id, token, key.name, replaces=ref("apikey", key.id))
    return token


async def end_after(work: Work, key_id: UUID, user_id: UUID, overlap: timedelta) -> None:
    """Have a key end after `overlap`, unless it ends before. Open connections are told, and end then."""
    await work.run(update(ApiKey).where(ApiKey.id == key_id).values(expires_at=func.least(ApiKey.expires_at, func.now() + overlap)))
    work.revalidate_sessions(user_id)


async def revoke_tokens(work: Work, email: str) -> int:
    """Revoke all tokens of a user and end their sessions; return how many. Connections opened with them end within seconds. Raises `NotFound`."""
    user_id = await _user_id(work, email)
    keys, sessions = len(await _revoke(work, ApiKey.user_id == user_id)), await end_sessions(work, user_id)
    work.record("revoke_all", "user", user_id, user_id, after={"revoked_keys": keys, "ended_sessions": sessions})
    return keys + sessions


async def revoke_token(work: Work, name: str) -> UUID:
    """Revoke the token with this prefix or id; return its owner. Raises `NotFound` if there is no valid one, `Conflict` for several."""
    owner_id, key_id = _only(await _revoke(work, _is_named(name)), name)
    work.record("revoke_api_key", "apikey", key_id, owner_id)
    return owner_id


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


async def _revoke(work: Work, condition: ColumnElement[bool]) -> list[tuple[UUID, UUID]]:
    """Revoke the tokens; return the owner and the id of each."""
    statement = update(ApiKey).where(condition, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now())
    revoked = [(row.user_id, row.id) for row in await work.all(statement.returning(ApiKey.user_id, ApiKey.id))]
    for user_id, _ in revoked:
        work.revalidate_sessions(user_id)
    return revoked


def _is_named(name: str) -> ColumnElement[bool]:
    """The condition that a token has this prefix or id."""
    condition = ApiKey.prefix == name
    with suppress(ValueError):  # no id
        condition = or_(condition, ApiKey.id == UUID(name))
    return condition


def _only(found: Sequence[T], name: str) -> T:
    """Return the one token that was found; raise for none or several, which rolls the unit of work back."""
    if not found:
        raise NotFound(name)
    if len(found) > 1:
        raise Conflict(f"{len(found)} tokens begin with {name!r}. Name one by its id, as `trellis token list --json` prints it.")
    return found[0]


async def store_token(
    work: Work,
    user_id: UUID,
    token: str,
    name: str,
    lifetime: timedelta | None = None,
    scopes: Collection[ApiScope] | None = None,
    points_per_minute: int | None = None,
) -> UUID:
    """Store a token's hash, and return its id; one that exists becomes this user's, and valid again."""
    values = {
        "user_id": user_id,
        "name": name,
        "prefix": shown_prefix(token),
        "scopes": scope_values(ALL_SCOPES if scopes is None else scopes),
        "points_per_minute": points_per_minute,
        "expires_at": None if lifetime is None else func.now() + lifetime,
        "revoked_at": None,
    }
    statement = upsert(ApiKey).values(token_sha256=token_hash(token), **values)
    return await work.scalar(statement.on_conflict_do_update(index_elements=[ApiKey.token_sha256], set_=values).returning(ApiKey.id))


def _record_new(work: Work, key_id: UUID, owner_id: UUID, token: str, name: str, replaces: str | None = None) -> None:
    after = {"name": name, "prefix": shown_prefix(token), "replaces": replaces}
    work.record("create_api_key", "apikey", key_id, owner_id, after=after)


def shown_prefix(token: str) -> str:
    """Return what a token begins with, by which people recognise it."""
    return token[: PREFIX_LENGTH if token.startswith("trk_") else FOREIGN_PREFIX_LENGTH]


def scope_values(scopes: Collection[ApiScope]) -> list[str]:
    """Return the scopes as they are stored: each once, in the order of the enum."""
    return [scope.value for scope in ApiScope if scope in scopes]
