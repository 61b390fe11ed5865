"""Queries of users, and of the tokens that they sign in with: API keys, and sessions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Row, Text, and_, bindparam, cast, func, literal_column, or_, select

from db.core.batch import rows_by_key
from db.core.criteria import Equals, Filters, Orders
from db.core.listing import Listing
from db.core.policy import is_shipped, visible, visible_or_shipped
from db.core.prepared import SELECTS, record_columns
from db.core.sql import Rows, equals_any
from db.core.viewer import ALL_SCOPES, SYSTEM, AccountKind, ApiScope, UserRole, UserTier, Viewer
from db.core.work import Database
from db.queries.sign_ins import EXPIRES_AT, is_live
from db.tables import ApiKey, BackupCode, Membership, User, UserCounter, UserSession

SESSION_PREFIX = "trs_"  # of the tokens of sessions

COLUMNS = (
    User.id,
    User.kind,
    User.email,
    User.email_verified_at,
    User.username,
    User.full_name,
    User.role,
    User.tier,
    User.storage_bytes,
    User.credit_balance,
    User.credits_held,
    User.disabled_at.is_(None).label("is_active"),
    User.created_at,
    User.updated_at,
    User.deleted_at,
    User.last_login_at,
    User.password_changed_at,
    User.totp_secret.is_not(None).label("has_totp"),
    select(func.count()).where(BackupCode.user_id == User.id, BackupCode.used_at.is_(None)).scalar_subquery().label("backup_codes_left"),
)


def users(viewer: Viewer) -> Rows:
    """The users a viewer may see, deleted ones included, since edges still lead to them, and the account of what ships."""
    return select(*COLUMNS).where(visible_or_shipped(User, viewer))


by_id = rows_by_key(users, User.id)


def live(viewer: Viewer) -> Rows:
    """The users that lookups by id find: those not deleted."""
    return users(viewer).where(User.deleted_at.is_(None))


live_by_id = rows_by_key(live, User.id)


def profiles(_viewer: Viewer) -> Rows:
    """What everybody may know of a user whose name they come across."""
    return select(User.id, User.username, User.full_name)


profile_by_id = rows_by_key(profiles, User.id)


def _is_active(condition: Equals) -> Iterator[ColumnElement[bool]]:
    yield User.disabled_at.is_(None) if condition.value else User.disabled_at.is_not(None)


FILTERS = Filters(User, is_active=_is_active)


def listed(viewer: Viewer) -> Rows:
    """The users that lists show."""
    return select(*COLUMNS).where(visible(User, viewer), User.deleted_at.is_(None), ~is_shipped(User))


listing = Listing(listed, Orders(User), FILTERS)

COUNTED = ("datasets", "pipelines", "models", "experiments", "jobs")
"""The tables whose live rows are counted for each user."""


def _counts(viewer: Viewer) -> Rows:
    numbers = (
        cast(func.coalesce(func.sum(UserCounter.value).filter(UserCounter.kind == literal_column(f"'{kind}'", Text)), 0), BigInteger)
        for kind in COUNTED
    )
    columns = (number.label(kind) for kind, number in zip(COUNTED, numbers, strict=True))
    statement = select(User.id, *columns).outerjoin(UserCounter, UserCounter.owner_id == User.id)
    return statement.where(visible_or_shipped(User, viewer)).group_by(User.id)


counts_by_user = rows_by_key(_counts, User.id)
"""By user: the number of live rows in each table of `COUNTED`."""


def is_person() -> ColumnElement[bool]:
    """The condition that an account is a person's and not deleted: whatever finds who signs in has it."""
    return and_(User.kind == AccountKind.PERSON, User.deleted_at.is_(None))


def has_email(email: str) -> ColumnElement[bool]:
    """The condition that a person is not deleted and has this address."""
    return (func.lower(User.email) == email.lower()) & is_person()


def has_username(username: str) -> ColumnElement[bool]:
    """The condition that an account, also a team's, is not deleted and has this username."""
    return (func.lower(User.username) == username.lower()) & User.deleted_at.is_(None)


def has_login(login: str) -> ColumnElement[bool]:
    """The condition that a person is not deleted and has this address or this username."""
    return _is_called(login) & is_person()


def was_called(login: str) -> ColumnElement[bool]:
    """The condition that an account, also a team's, is deleted, not purged, and had this address or this username."""
    return _is_called(login) & and_(User.deleted_at.is_not(None), User.purge_started_at.is_(None), User.purged_at.is_(None))


def _is_called(login: str) -> ColumnElement[bool]:
    return or_(func.lower(User.email) == login.lower(), func.lower(User.username) == login.lower())


def token_hash(token: str) -> bytes:
    """One SHA-256, which an index can find; a slow hash adds nothing to 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def is_valid_key() -> ColumnElement[bool]:
    """The condition that an API key is neither revoked nor expired."""
    return and_(ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > func.now()))


_team = User.__table__.alias("team")
_role_and_team = literal_column("memberships.role || ' ' || memberships.team_id", Text)
TEAMS = func.array(
    select(_role_and_team)
    .select_from(Membership)
    .join(_team, _team.c.id == Membership.team_id)
    .where(Membership.user_id == User.id, _team.c.deleted_at.is_(None), _team.c.disabled_at.is_(None))
    .order_by(Membership.team_id)
    .scalar_subquery(),
    type_=ARRAY(Text),
)
"""The teams that a user is in, each as a text of the role there and the id: they are read with the viewer, by the same statement."""

_VALID_KEYS = (
    select(
        User.id,
        User.role,
        User.tier,
        TEAMS.label("teams"),
        ApiKey.id.label("key_id"),
        func.extract("epoch", ApiKey.expires_at - func.now()).label("lifetime"),
        ApiKey.scopes,
        ApiKey.points_per_minute,
    )
    .join(ApiKey, ApiKey.user_id == User.id)
    .where(is_valid_key(), is_person(), User.disabled_at.is_(None))
)
_VALID_SESSIONS = (
    select(
        User.id,
        User.role,
        User.tier,
        TEAMS.label("teams"),
        UserSession.id.label("key_id"),
        func.extract("epoch", EXPIRES_AT - func.now()).label("lifetime"),
    )
    .join(UserSession, UserSession.user_id == User.id)
    .where(is_live(), is_person(), User.disabled_at.is_(None))
)
_HASH = "token_hash"
_KEY_BY_HASH = _VALID_KEYS.where(ApiKey.token_sha256 == bindparam(_HASH))
_SESSION_BY_HASH = _VALID_SESSIONS.where(UserSession.token_sha256 == bindparam(_HASH))
_KEY_COLUMNS = tuple(record_columns(_VALID_KEYS).values())
_SESSION_COLUMNS = tuple(record_columns(_VALID_SESSIONS).values())


async def viewer_of_token(database: Database, token: str) -> Viewer | None:
    """The viewer of a bearer token, an API key or a session's; None for one that is unknown, revoked or expired, or whose user is deleted or disabled."""
    if token.startswith(SESSION_PREFIX):
        viewer = await _viewer_of_hash(database, token, _SESSION_BY_HASH, is_session=True)
        if viewer is not None:
            return viewer
    return await _viewer_of_hash(database, token, _KEY_BY_HASH, is_session=False)


async def _viewer_of_hash(database: Database, token: str, statement: Rows, *, is_session: bool) -> Viewer | None:
    select = SELECTS.get(("viewer_of_token", is_session), SYSTEM, lambda _viewer: statement, frozenset({_HASH}))
    for record in await database.records(select, select.values(SYSTEM, {_HASH: token_hash(token)})):
        columns = _SESSION_COLUMNS if is_session else _KEY_COLUMNS
        return _viewer(*(column.read(value) for column, value in zip(columns, record, strict=True)), is_session=is_session)
    return None


async def viewer_of(database: Database, user_id: UUID | None) -> Viewer | None:
    """The user as who acts, without a token: for what was asked for before and is done now. None for who may not sign in any more."""
    for user in await database.rows(acting_user(user_id)):
        return viewer_of_user(user)
    return None


def acting_user(user_id: UUID | None) -> Rows:
    """The row of `viewer_of_user`; none for who may not sign in any more."""
    return select(User.id, User.role, User.tier, TEAMS.label("teams")).where(User.id == user_id, is_person(), User.disabled_at.is_(None))


def viewer_of_user(user: Row[Any]) -> Viewer:
    """The viewer of a row of `acting_user`."""
    return Viewer(user.id, user.role, tier=user.tier, teams=memberships(user.teams))


async def viewer_with(database: Database, user_id: UUID | None, key_id: UUID | None) -> Viewer | None:
    """The same with the API key that was used then, if one was: None too once that is revoked or has expired."""
    if key_id is None:
        return await viewer_of(database, user_id)
    for key in await database.rows(_VALID_KEYS.where(ApiKey.id == key_id, User.id == user_id)):
        return _viewer(*key, is_session=False)
    return None


async def current_viewers(database: Database, viewers: Collection[Viewer]) -> Mapping[Viewer, Viewer]:
    """The current role and tier of viewers who signed in with a token. Viewers whose token is no longer valid are left out."""
    current: dict[UUID, Viewer] = {}
    for is_session, id_column, statement in ((False, ApiKey.id, _VALID_KEYS), (True, UserSession.id, _VALID_SESSIONS)):
        ids = [viewer.key_id for viewer in viewers if viewer.key_id is not None and viewer.is_session is is_session]
        if ids:
            rows = await database.rows(statement.where(equals_any(id_column, ids)))
            current |= {row.key_id: _viewer(*row, is_session=is_session) for row in rows}
    return {viewer: current[viewer.key_id] for viewer in viewers if viewer.key_id is not None and viewer.key_id in current}


def _viewer(
    user_id: UUID,
    role: UserRole,
    tier: UserTier,
    teams: Sequence[str],
    key_id: UUID,
    lifetime: Decimal | None,
    scopes: Sequence[str] | None = None,
    points_per_minute: int | None = None,
    *,
    is_session: bool,
) -> Viewer:
    """The viewer of the columns of `_VALID_KEYS` and `_VALID_SESSIONS`."""
    expires_at = None if lifetime is None else time.monotonic() + float(lifetime)
    granted = ALL_SCOPES if scopes is None else _scope_set(tuple(scopes))
    return Viewer(user_id, role, key_id, tier, expires_at, is_session, granted, points_per_minute, memberships(teams))


def memberships(teams: Sequence[str]) -> tuple[tuple[UUID, UserRole], ...]:
    """Return the teams and the role in each, of the texts of `TEAMS`."""
    return tuple((UUID(team_id), UserRole(role)) for role, team_id in (text.split(" ") for text in teams))


@cache
def _scope_set(scopes: tuple[str, ...]) -> frozenset[ApiScope]:
    return frozenset(ApiScope(scope) for scope in scopes)
