"""The admin whom the settings name: created at the first start, and kept in step with the settings at each further one."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count, islice
from uuid import UUID

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.checks import Checks
from db.core.viewer import UserRole
from db.core.work import Work
from db.errors import Conflict
from db.queries.accounts import has_email, token_hash
from db.services.accounts.sessions import end_sessions
from db.services.accounts.tokens import ADMIN_TOKEN_NAME, store_token
from db.services.accounts.users import check_email
from db.tables import ApiKey, User

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ACTION = "configure_admin"  # in the audit; the settings are the command's
MIN_TOKEN = 16
MAX_USERNAMES = 1_000


async def ensure_admin(work: Work, email: str, token: str) -> UUID:
    """Make the user with this address an admin, and `token` their only valid one named `admin`; return the user's id. Idempotent.

    A missing user is created; if an earlier call had another address that nobody else has now, that admin's address changes instead. Raises
    `InvalidInput` for a token shorter than 16 printable ASCII characters, and for what is no address.
    """
    checks = Checks()
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        checks.add("TRELLIS_ADMIN_TOKEN", message=f"The admin's token needs at least {MIN_TOKEN} printable ASCII characters and no space.")
    check_email(checks, email, "TRELLIS_ADMIN_EMAIL")
    checks.raise_if_invalid()
    await work.run(select(func.pg_advisory_xact_lock(7_263_002)))  # two processes may start at once
    user_id = await _find_or_create(work, email)
    former = update(ApiKey).where(
        (ApiKey.name == ADMIN_TOKEN_NAME) & ApiKey.revoked_at.is_(None) & (ApiKey.token_sha256 != token_hash(token))
    )
    for row in await work.all(former.values(revoked_at=func.now()).returning(ApiKey.user_id)):
        work.revalidate_sessions(row.user_id)
        work.record("revoke_api_key", "user", row.user_id, row.user_id, after={"token": ADMIN_TOKEN_NAME})
    holder: UUID | None = await work.scalar(select(ApiKey.user_id).where(ApiKey.token_sha256 == token_hash(token)))
    if holder not in {None, user_id}:
        assert holder is not None
        log.warning("admin_token_moved", previous_owner=str(holder), email=email)
        work.revalidate_sessions(holder)
    await store_token(work, user_id, token, ADMIN_TOKEN_NAME)
    if holder != user_id:
        work.record("create_api_key", "user", user_id, user_id, after={"name": ADMIN_TOKEN_NAME})
    return user_id


async def knows_token(work: Work, token: str) -> bool:
    """Whether the database has the token, valid or not."""
    return bool(await work.scalar(select(ApiKey.id).where(ApiKey.token_sha256 == token_hash(token))))


async def _find_or_create(work: Work, email: str) -> UUID:
    user = await work.first(select(User.id, User.role, User.disabled_at).where(has_email(email)))
    if user is not None:
        if user.role is not UserRole.ADMIN:  # operators create users, so this address has been checked
            log.warning("admin_promoted", email=email, previous_role=user.role.value)
            await work.run(update(User).where(User.id == user.id).values(role=UserRole.ADMIN))
            work.revalidate_sessions(user.id)
            count = await end_sessions(work, user.id)  # as with every change of a role: one that was stolen becomes no admin's
            work.record(ACTION, "user", user.id, user.id, {"role": user.role}, {"role": UserRole.ADMIN, "ended_sessions": count})
        if user.disabled_at is not None:
            log.warning("admin_is_disabled", email=email, hint=f"trellis user enable {email}")
        return user.id
    of_earlier_start = (
        select(User.id, User.email)
        .join(ApiKey, ApiKey.user_id == User.id)
        .where(ApiKey.name == ADMIN_TOKEN_NAME, ApiKey.revoked_at.is_(None), User.role == UserRole.ADMIN, User.deleted_at.is_(None))
        .order_by(ApiKey.created_at)
    )
    if (previous := await work.first(of_earlier_start.limit(1))) is not None:
        log.warning("admin_email_changed", previous=previous.email, email=email)
        await work.run(update(User).where(User.id == previous.id).values(email=email, email_verified_at=None))
        work.record(ACTION, "user", previous.id, previous.id, {"email": previous.email}, {"email": email})
        return previous.id
    for username in islice(_usernames(), MAX_USERNAMES):
        values = {"email": email, "username": username, "full_name": "Administrator", "role": UserRole.ADMIN}
        user_id: UUID | None = await work.scalar(upsert(User).values(values).on_conflict_do_nothing().returning(User.id))
        if user_id is not None:
            work.record(ACTION, "user", user_id, user_id, after=values)
            return user_id
    raise Conflict(f"No username for the admin {email} is free. Create the user with `trellis user add --role admin`, and start again.")


def _usernames() -> Generator[str]:
    yield "admin"
    for number in count(2):
        yield f"admin-{number}"
