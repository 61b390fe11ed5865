"""Create users and their bearer tokens."""

from __future__ import annotations

import re
import secrets
from uuid import UUID

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.checks import Checks
from db.core.unique import translate_unique_violation
from db.core.viewer import UserRole, UserTier
from db.core.work import Work
from db.errors import NameTaken, NotFound
from db.queries.accounts import token_hash
from db.tables import ApiKey, User

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.?[^@\s]*")
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MIN_TOKEN = 16


def new_token() -> str:
    """Return a new bearer token, `trk_<prefix>_<256 random bits>`. It is shown once; only its hash is stored."""
    return f"trk_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


async def add_user(
    work: Work,
    email: str,
    username: str,
    full_name: str | None = None,
    role: UserRole = UserRole.MEMBER,
    tier: UserTier = UserTier.FREE,
) -> str:
    """Create a user and return their bearer token, which is not stored. Raises `InvalidInput` or `NameTaken`."""
    checks = Checks()
    checks.text(full_name, "fullName", length=200)
    if not _EMAIL.fullmatch(email) or len(email) > 254:
        checks.add("email", message=f"{email!r} is not an e-mail address; write it as name@domain.")
    if not _USERNAME.fullmatch(username):
        checks.add(
            "username", message="A username is 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit."
        )
    checks.raise_if_invalid()
    statement = insert(User).values(email=email, username=username, full_name=full_name, role=role, tier=tier).returning(User.id)
    with (
        translate_unique_violation("uq_users_email", NameTaken("user", email)),
        translate_unique_violation("uq_users_username", NameTaken("user", username)),
    ):
        user_id: UUID = await work.scalar(statement)
    token = new_token()
    await _store_token(work, user_id, token, "first token")
    return token


async def add_token(work: Work, email: str, name: str) -> str:
    """Create another bearer token of a user. Raises `NotFound`."""
    token = new_token()
    await _store_token(work, await _live_user_id(work, email), token, name)
    return token


async def revoke_tokens(work: Work, email: str) -> int:
    """Revoke all tokens of a user; return how many. Connections opened with them end within seconds. Raises `NotFound`."""
    user_id = await _live_user_id(work, email)
    revoked = await work.run(update(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None)).values(revoked_at=func.now()))
    work.revalidate_sessions(user_id)
    return revoked


async def _live_user_id(work: Work, email: str) -> UUID:
    user_id: UUID | None = await work.scalar(select(User.id).where(func.lower(User.email) == email.lower(), User.deleted_at.is_(None)))
    if user_id is None:
        raise NotFound(email)
    return user_id


async def ensure_admin(work: Work, email: str, token: str) -> UUID:
    """Create the admin of this installation if missing, and make `token` the only valid one named `admin`. Idempotent.

    Raises `InvalidInput` for a token shorter than 16 printable ASCII characters.
    """
    checks = Checks()
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        checks.add("TRELLIS_ADMIN_TOKEN", message=f"The admin's token needs at least {MIN_TOKEN} printable ASCII characters and no space.")
    checks.raise_if_invalid()
    await work.run(select(func.pg_advisory_xact_lock(7_263_002)))  # two processes may start at once
    user_id: UUID | None = await work.scalar(select(User.id).where(func.lower(User.email) == email.lower(), User.deleted_at.is_(None)))
    if user_id is None:
        user_id = await work.scalar(
            insert(User).values(email=email, username="admin", full_name="Administrator", role=UserRole.ADMIN).returning(User.id)
        )
        assert user_id is not None
    active_admin_tokens = update(ApiKey).where(ApiKey.user_id == user_id, ApiKey.name == "admin", ApiKey.revoked_at.is_(None))
    if await work.run(active_admin_tokens.where(ApiKey.token_sha256 != token_hash(token)).values(revoked_at=func.now())):
        work.revalidate_sessions(user_id)
    await _store_token(work, user_id, token, "admin")
    return user_id


async def _store_token(work: Work, user_id: UUID, token: str, name: str) -> None:
    statement = upsert(ApiKey).values(user_id=user_id, name=name, prefix=token[:12], token_sha256=token_hash(token))
    await work.run(statement.on_conflict_do_update(index_elements=[ApiKey.token_sha256], set_={"revoked_at": None}))
