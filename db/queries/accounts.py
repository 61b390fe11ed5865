"""Queries of users and their tokens."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Mapping
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, func, or_, select

from db.core.batch import rows_by_key
from db.core.policy import visible
from db.core.prepared import SELECTS, record_columns
from db.core.sql import Rows, equals_any
from db.core.viewer import SYSTEM, UserRole, UserTier, Viewer
from db.core.work import Database
from db.tables import ApiKey, User

COLUMNS = (
    User.id,
    User.email,
    User.username,
    User.full_name,
    User.role,
    User.tier,
    User.storage_bytes,
    User.credit_balance,
    User.credits_held,
    User.created_at,
    User.updated_at,
    User.deleted_at,
)


def users(viewer: Viewer) -> Rows:
    """The users a viewer may see, deleted ones included, since edges still lead to them."""
    return select(*COLUMNS).where(visible(User, viewer))


by_id = rows_by_key(users, User.id)


def live(viewer: Viewer) -> Rows:
    """The users that lookups by id find: those not deleted."""
    return users(viewer).where(User.deleted_at.is_(None))


live_by_id = rows_by_key(live, User.id)


def has_email(email: str) -> ColumnElement[bool]:
    """The condition that a user is not deleted and has this address."""
    return (func.lower(User.email) == email.lower()) & User.deleted_at.is_(None)


def token_hash(token: str) -> bytes:
    """One SHA-256, which an index can find; a slow hash adds nothing to 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


_VALID_TOKENS = (
    select(
        User.id, User.role, User.tier, ApiKey.id.label("key_id"), func.extract("epoch", ApiKey.expires_at - func.now()).label("lifetime")
    )
    .join(ApiKey, ApiKey.user_id == User.id)
    .where(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))
    .where(User.deleted_at.is_(None), User.disabled_at.is_(None))
)
_HASH = "token_hash"
_TOKEN_BY_HASH = _VALID_TOKENS.where(ApiKey.token_sha256 == bindparam(_HASH))
_TOKEN_COLUMNS = tuple(record_columns(_VALID_TOKENS).values())


async def viewer_of_token(database: Database, token: str) -> Viewer | None:
    """The viewer of a bearer token; None for one that is unknown, revoked or expired, or whose user is deleted or disabled."""
    select = SELECTS.get("viewer_of_token", SYSTEM, lambda _viewer: _TOKEN_BY_HASH, frozenset({_HASH}))
    for record in await database.records(select, select.values(SYSTEM, {_HASH: token_hash(token)})):
        return _viewer(*(column.read(value) for column, value in zip(_TOKEN_COLUMNS, record, strict=True)))
    return None


async def current_viewers(database: Database, viewers: Collection[Viewer]) -> Mapping[Viewer, Viewer]:
    """The current role and tier of viewers who signed in with a token. Viewers whose token is no longer valid are left out."""
    keys = [viewer.key_id for viewer in viewers if viewer.key_id is not None]
    rows_by_key_id = {row.key_id: row for row in await database.rows(_VALID_TOKENS.where(equals_any(ApiKey.id, keys)))}
    rows_by_viewer = {viewer: rows_by_key_id[viewer.key_id] for viewer in viewers if viewer.key_id in rows_by_key_id}
    return {viewer: _viewer(*row) for viewer, row in rows_by_viewer.items()}


def _viewer(user_id: UUID, role: UserRole, tier: UserTier, key_id: UUID, lifetime: Decimal | None) -> Viewer:
    """The viewer of the columns of `_VALID_TOKENS`."""
    return Viewer(user_id, role, key_id, tier, None if lifetime is None else time.monotonic() + float(lifetime))
