"""The ways in which a user can sign in. One is always left: what removes one asks here, under the lock of the user's row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, exists, or_, select

from db.core.work import Work
from db.tables import OAuthIdentity
from db.tables.passkeys import Passkey


async def has_way_in(work: Work, user: Row[Any], providers: Collection[str]) -> bool:
    """Whether a user, with `id` and `password_hash`, has a password, a passkey, or an identity at one of the providers that can be used now."""
    if user.password_hash is not None:
        return True
    has_identity = exists().where(OAuthIdentity.user_id == user.id, OAuthIdentity.provider.in_(providers))
    return bool(await work.scalar(select(or_(has_identity, exists().where(Passkey.user_id == user.id)))))
