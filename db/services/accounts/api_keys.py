"""API keys that users make and revoke through the API, and replace by new ones without an outage."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import DateTime, func, insert, literal, select, update

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.viewer import ROLE_SCOPES, ApiScope, Viewer
from db.core.work import Work
from db.errors import NotFound, QuotaExceeded
from db.queries.accounts import is_valid_key, token_hash
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.tokens import ADMIN_TOKEN_NAME, end_after, new_token, scope_values, shown_prefix
from db.services.accounts.users import lock_own_account
from db.tables import ApiKey

NAME_LENGTH = 100
MAX_POINTS = 2**31 - 1
MAX_OVERLAP = timedelta(days=30)
MAX_KEYS = 100  # valid ones of a user: as many as the mail about a changed password lists


@dataclass(frozen=True, slots=True)
class NewKey:
    """An API key to be made. `replaces` is the id of a valid key of the same owner, which ends after `overlap`."""

    name: str
    scopes: Collection[ApiScope]
    expires_at: datetime | None = None
    points_per_minute: int | None = None
    replaces: UUID | None = None
    overlap: timedelta = timedelta(days=1)


async def create_api_key(work: Work, new_key: NewKey) -> tuple[UUID, str]:
    """Make a key of the viewer; return its id and its token, which is not stored.

    Raises `WrongState` for a session that began too long ago, `InvalidInput`, `NotFound` for `replaces`, or `QuotaExceeded`.
    """
    await require_recent_check(work)
    name = await _check(work, new_key)
    if new_key.replaces is not None:
        await _end_replaced(work, new_key.replaces, new_key.overlap)
    token = new_token()
    statement = insert(ApiKey).values(
        user_id=work.viewer.id,
        name=name,
        prefix=shown_prefix(token),
        token_sha256=token_hash(token),
        scopes=scope_values(new_key.scopes),
        points_per_minute=new_key.points_per_minute,
        expires_at=new_key.expires_at,
    )
    key_id: UUID = await work.scalar(statement.returning(ApiKey.id))
    work.before_commit(work.viewer.id, lambda: _require_few(work))
    after = {
        "name": name,
        "prefix": shown_prefix(token),
        "scopes": sorted(scope.name for scope in new_key.scopes),
        "points_per_minute": new_key.points_per_minute,
        "expires_at": new_key.expires_at,
        "replaces": None if new_key.replaces is None else ref("apikey", new_key.replaces),
    }
    work.record("create_api_key", "apikey", key_id, work.viewer.id, after=after)
    return key_id, token


async def revoke_api_key(work: Work, key_id: UUID) -> UUID:
    """Revoke a key that the viewer may see; return its id. Connections opened with it end within seconds. Raises `NotFound`.

    A second call changes nothing.
    """
    is_it = (ApiKey.id == key_id) & visible(ApiKey, work.viewer)
    owner: UUID | None = await work.scalar(
        update(ApiKey).where(is_it).values(revoked_at=func.coalesce(ApiKey.revoked_at, func.now())).returning(ApiKey.user_id)
    )
    if owner is None:
        raise NotFound(str(key_id))
    work.revalidate_sessions(owner)
    work.record("revoke_api_key", "apikey", key_id, owner)
    return key_id


async def _check(work: Work, new_key: NewKey) -> str:
    """Return the name as it is kept. Raises `InvalidInput`."""
    checks = Checks()
    name = checks.name(new_key.name, "name", length=NAME_LENGTH)
    if name == ADMIN_TOKEN_NAME:
        checks.add("name", message=f"The name {name!r} is that of the token in the settings. Choose another.")
    _check_scopes(checks, work.viewer, new_key.scopes)
    if new_key.expires_at is not None and not await work.scalar(select(func.now() < literal(new_key.expires_at, DateTime(timezone=True)))):
        checks.add("expiresAt", message="This time has passed. Choose a later one, or none for a key that does not expire.")
    if new_key.points_per_minute is not None and not 1 <= new_key.points_per_minute <= MAX_POINTS:
        checks.add("pointsPerMinute", message="A key needs at least one point a minute. Leave this out for those of your account.")
    if not timedelta(0) <= new_key.overlap <= MAX_OVERLAP:
        checks.add("overlap", message=f"The old key may stay valid for 0 to {int(MAX_OVERLAP.total_seconds()):,} seconds.")
    checks.raise_if_invalid()
    return name


def _check_scopes(checks: Checks, viewer: Viewer, scopes: Collection[ApiScope]) -> None:
    if not scopes:
        checks.add("scopes", message="A key without a scope can do nothing. Name those that it needs, such as READ.")
    refused = [scope.name for scope in ApiScope if scope in scopes and scope not in ROLE_SCOPES[viewer.role]]
    if refused:
        checks.add(
            "scopes",
            message=f"Your role, {viewer.role.name}, does not allow {', '.join(refused)}. A key has at most the rights of its owner.",
        )


async def _end_replaced(work: Work, key_id: UUID, overlap: timedelta) -> None:
    """Have the viewer's own key end after the overlap. Raises `NotFound` for one that is no longer valid, or another's."""
    own = select(ApiKey.id).where(ApiKey.id == key_id, ApiKey.user_id == work.viewer.id, ApiKey.name != ADMIN_TOKEN_NAME, is_valid_key())
    if await work.scalar(own.with_for_update()) is None:
        raise NotFound(str(key_id))
    await end_after(work, key_id, work.viewer.id, overlap)


async def _require_few(work: Work) -> None:
    """Raise `QuotaExceeded` if the viewer has too many valid keys. The lock has those made at once wait for each other."""
    await lock_own_account(work)
    count: int = await work.scalar(select(func.count()).where(ApiKey.user_id == work.viewer.id, is_valid_key()))
    if count > MAX_KEYS:
        raise QuotaExceeded("API keys", MAX_KEYS, count - 1)
