"""Reads and actions of `trellis user` and `trellis token`, as the viewer SYSTEM, who sees everything."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.criteria import Criteria, Equals, OneOf, TextMatch
from db.core.page import Page, Slice
from db.core.viewer import SYSTEM, ApiScope, UserRole, UserTier, Viewer
from db.core.work import Work
from db.errors import NotFound, StateError
from db.queries import accounts as queries
from db.queries import operations
from db.queries import storage as storage_queries
from db.services import accounts
from db.settings import StateSettings
from db.tables import EmailMessage
from server.commands.filters import parse_bytes, parse_duration
from server.commands.operations import open_database, owner_id

SHOWN_TOKENS = 100


class NoSuchUser(StateError):
    """No user has this email address."""


class NoSuchToken(StateError):
    """No valid token begins so or has this id."""


@dataclass(frozen=True, slots=True)
class RowPage:
    """A page of rows; `next_cursor` is None on the last page."""

    rows: Sequence[Row[Any]]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page) -> RowPage:
        return cls(page.rows, page.cursors[-1] if page.has_next else None)


@dataclass(frozen=True, slots=True)
class UserOptions:
    """Which users `trellis user list` shows: of these roles and tiers, if any are named, and with this text in their address."""

    roles: Sequence[str] = ()
    tiers: Sequence[str] = ()
    is_active: bool | None = None
    search: str | None = None

    def to_criteria(self) -> Criteria:
        return Criteria.of(
            role=OneOf(tuple(map(UserRole, self.roles))) if self.roles else None,
            tier=OneOf(tuple(map(UserTier, self.tiers))) if self.tiers else None,
            is_active=None if self.is_active is None else Equals(self.is_active),
            email=None if self.search is None else TextMatch(contains=self.search),
        )


@dataclass(frozen=True, slots=True)
class UserDetails:
    """A user, how many objects they own, what they store, and their newest tokens."""

    user: Row[Any]
    counts: Row[Any]
    storage: Row[Any]
    tokens: Sequence[Row[Any]]


async def add_user(
    settings: StateSettings, email: str, username: str, full_name: str | None, role: str, tier: str, password: str | None = None
) -> str:
    """Create a user; return their token. Raises `InvalidInput` or `NameTaken`."""
    password_hash = None if password is None else accounts.password_hash(password, email, username)
    async with open_database(settings) as database, database.work(SYSTEM) as work:
        return await accounts.add_user(work, email, username, full_name, UserRole(role), UserTier(tier), password_hash)


async def invite(settings: StateSettings, email: str, role: str, by: str | None) -> UUID:
    """Invite who has this address; return the mail's id. Raises `InvalidInput`, or `NoSuchUser` if no admin can do it."""
    async with open_database(settings) as database:
        async with database.work(SYSTEM) as work:
            admin_id = await accounts.first_admin_id(work, by)
        if admin_id is None:
            named = "There is no admin" if by is None else f"No admin has the email address {by!r}"
            raise NoSuchUser(f"{named}. `trellis user list` shows all users, `trellis user role EMAIL admin` makes one an admin.")
        async with database.work(Viewer(admin_id, UserRole.ADMIN)) as work:
            invitation_id = await accounts.invite(work, email, UserRole(role))
            return await work.scalar(select(EmailMessage.id).where(EmailMessage.invitation_id == invitation_id))


async def set_password(settings: StateSettings, email: str, password: str, *, is_hash: bool) -> None:
    """Set a user's password, or the hash of it. Raises `NoSuchUser` or `InvalidInput`."""
    password_hash = accounts.password_hash(password, email, is_hash=is_hash)
    async with _work_on_user(settings, email) as work:
        await accounts.set_password_hash(work, email, password_hash)


async def reset_totp(settings: StateSettings, login: str) -> None:
    """Remove a user's app for codes, and their passkeys. Raises `NoSuchUser` or `WrongState`."""
    try:
        async with open_database(settings) as database, database.work(SYSTEM) as work:
            await accounts.reset_second_factor(work, login)
    except NotFound:
        raise NoSuchUser(f"No user has the email address or the name {login!r}. `trellis user list` shows all.") from None


async def add_token(
    settings: StateSettings, email: str, name: str, expires: str | None, scopes: Sequence[str] | None = None, points: int | None = None
) -> str:
    """Create a token. Raises `NoSuchUser`, `InvalidInput` or `InvalidOption`."""
    lifetime = None if expires is None else parse_duration("expires", expires)
    async with _work_on_user(settings, email) as work:
        return await accounts.add_token(work, email, name, lifetime, None if scopes is None else list(map(ApiScope, scopes)), points)


async def rotate_token(settings: StateSettings, name: str, overlap: str) -> str:
    """Replace the token with this prefix or id; return the new one. Raises `NoSuchToken`, `Conflict`, `InvalidInput` or `InvalidOption`."""
    duration = parse_duration("overlap", overlap)
    async with open_database(settings) as database:
        try:
            async with database.work(SYSTEM) as work:
                return await accounts.replace_token(work, name, duration)
        except NotFound:
            raise _no_such_token(name) from None


async def revoke_tokens(settings: StateSettings, email: str) -> int:
    """Revoke all tokens of a user; return how many. Raises `NoSuchUser`."""
    async with _work_on_user(settings, email) as work:
        return await accounts.revoke_tokens(work, email)


async def revoke_token(settings: StateSettings, name: str) -> str:
    """Revoke the token with this prefix or id; return its owner's address. Raises `NoSuchToken` or `Conflict`."""
    async with open_database(settings) as database:
        try:
            async with database.work(SYSTEM) as work:
                owner = await accounts.revoke_token(work, name)
        except NotFound:
            raise _no_such_token(name) from None
        return (await queries.by_id(database, SYSTEM, [owner]))[owner].email


async def set_role(settings: StateSettings, email: str, role: str) -> None:
    """Raises `NoSuchUser` or `LastAdmin`."""
    async with _work_on_user(settings, email) as work:
        await accounts.set_role(work, email, UserRole(role))


async def set_tier(settings: StateSettings, email: str, tier: str) -> None:
    """Raises `NoSuchUser`."""
    async with _work_on_user(settings, email) as work:
        await accounts.set_tier(work, email, UserTier(tier))


async def set_quota(settings: StateSettings, email: str, quota: str) -> int | None:
    """Set or, for `tier`, take back a user's own quota; return it in bytes. Raises `NoSuchUser`, `InvalidInput` or `InvalidOption`."""
    quota_bytes = None if quota.lower() == "tier" else parse_bytes(quota)
    async with _work_on_user(settings, email) as work:
        await accounts.set_quota(work, email, quota_bytes)
    return quota_bytes


async def disable(settings: StateSettings, email: str) -> None:
    """Raises `NoSuchUser` or `LastAdmin`."""
    async with _work_on_user(settings, email) as work:
        await accounts.disable(work, email)


async def enable(settings: StateSettings, email: str) -> None:
    """Raises `NoSuchUser`."""
    async with _work_on_user(settings, email) as work:
        await accounts.enable(work, email)


async def delete(settings: StateSettings, email: str) -> None:
    """Raises `NoSuchUser`, `WrongState` or `LastAdmin`."""
    async with _work_on_user(settings, email) as work:
        await accounts.delete_by_email(work, email)


async def restore(settings: StateSettings, login: str, username: str | None) -> None:
    """Raises `NoSuchUser`, `InvalidInput` or `NameTaken`."""
    try:
        async with open_database(settings) as database, database.work(SYSTEM) as work:
            await accounts.restore_by_login(work, settings, login, username)
    except NotFound:
        message = f"No deleted account that can be restored had the address or the name {login!r}. One that is purged is gone."
        raise NoSuchUser(message) from None


async def list_users(settings: StateSettings, options: UserOptions, limit: int, after: str | None) -> RowPage:
    """A page of users. Raises `InvalidCursor`."""
    async with open_database(settings) as database:
        return RowPage.of(await operations.users.page(database, SYSTEM, Slice(limit, after), options.to_criteria()))


async def user_details(settings: StateSettings, email: str) -> UserDetails:
    """Raises `NoSuchUser`."""
    async with open_database(settings) as database:
        rows = await database.rows(operations.user_rows(SYSTEM).where(queries.has_email(email)))
        if not rows:
            raise _no_such_user(email)
        user_id = rows[0].id
        tokens = await operations.tokens.page(database, SYSTEM, Slice(SHOWN_TOKENS), Criteria.of(user_id=Equals(user_id)))
        counts = await queries.counts_by_user(database, SYSTEM, [user_id])
        storage = await storage_queries.use_by_user(database, SYSTEM, [user_id])
        return UserDetails(rows[0], counts[user_id], storage[user_id], tokens.rows)


async def list_tokens(settings: StateSettings, email: str | None, limit: int, after: str | None) -> RowPage:
    """A page of tokens, of one user or of all. Raises `NoSuchOwner` or `InvalidCursor`."""
    async with open_database(settings) as database:
        criteria = None if email is None else Criteria.of(user_id=Equals(await owner_id(database, email)))
        return RowPage.of(await operations.tokens.page(database, SYSTEM, Slice(limit, after), criteria))


@asynccontextmanager
async def _work_on_user(settings: StateSettings, email: str) -> AsyncGenerator[Work]:
    """A unit of work whose `NotFound` is about the user."""
    try:
        async with open_database(settings) as database, database.work(SYSTEM) as work:
            yield work
    except NotFound:
        raise _no_such_user(email) from None


def _no_such_token(name: str) -> NoSuchToken:
    return NoSuchToken(f"No valid token begins with {name!r} or has this id. `trellis token list` shows them.")


def _no_such_user(email: str) -> NoSuchUser:
    return NoSuchUser(f"No user has the email address {email!r}. `trellis user list` shows all, `trellis user add` creates one.")
