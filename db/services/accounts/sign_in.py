"""Sign-in by password: slowed down after failures, never locked, and the same in text and time whether or not the account exists."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, insert, select, update

from db.core.checks import Checks
from db.core.networks import ClientInfo, client_network
from db.core.viewer import SYSTEM, UserRole, UserTier, Viewer
from db.core.work import Database, Work
from db.errors import InvalidCredentials
from db.queries.accounts import has_login
from db.services.accounts import passwords, user_agents
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sessions import start_session
from db.settings import StateSettings
from db.tables import LoginEvent, User, UserSession
from db.tables.accounts import LoginMethod

FAILURE_TIME = 0.5  # seconds that a failed sign-in takes at least, so that its time tells nothing of what was verified
KNOWN_CLIENT_DAYS = 90  # after a sign-in, for which its network and browser are known to its account
MAX_LOGIN_LENGTH = 254


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in that succeeded. The token is shown once and not stored."""

    viewer: Viewer
    token: str


class AttemptLimits(Protocol):
    """Count attempts to sign in; see `db.limits.sign_in_attempts`."""

    async def take(self, login: str, address: str | None, *, is_known_client: bool) -> None: ...

    async def give_back(self, login: str, address: str | None, *, is_known_client: bool) -> None: ...

    async def take_mail(self, kind: str, email: str, address: str | None) -> bool: ...

    async def take_mail_to(self, kind: str, email: str) -> None: ...

    async def take_link(self, address: str | None) -> None: ...

    async def give_back_link(self, address: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class _Account:
    id: UUID
    password_hash: str | None
    is_disabled: bool
    is_known_client: bool


class SignIns:
    """The sign-ins of a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    async def sign_in(self, login: str, password: str, client: ClientInfo) -> SignedIn:
        """Begin a session of the user with this address or username, if the password is theirs.

        Raises `InvalidInput` for what can be neither, `InvalidCredentials`, `TooManyAttempts`, or `Unavailable` if too many passwords
        wait to be hashed.
        """
        checks = Checks()
        checks.name(login, "login", length=MAX_LOGIN_LENGTH)
        if not passwords.is_possible(password):
            checks.add("password", message=f"A password has 1 to {passwords.MAX_LENGTH:,} characters, none of them NUL.")
        checks.raise_if_invalid()
        name, earliest_answer = login.strip(), time.monotonic() + FAILURE_TIME
        account = await self._find(name, client)
        is_known_client = account is not None and account.is_known_client
        await self._attempts.take(name, client.address, is_known_client=is_known_client)
        signed_in = await self._verify(account, password, client)
        if signed_in is None:
            await asyncio.sleep(earliest_answer - time.monotonic())
            raise InvalidCredentials
        await self._attempts.give_back(name, client.address, is_known_client=is_known_client)
        return signed_in

    async def _find(self, name: str, client: ClientInfo) -> _Account | None:
        statement = select(
            User.id, User.password_hash, User.disabled_at.is_not(None), exists().where(UserSession.user_id == User.id, *_is_known(client))
        )
        rows = await self._database.rows(statement.where(has_login(name)))
        return _Account(*rows[0]) if rows else None

    async def _verify(self, account: _Account | None, password: str, client: ClientInfo) -> SignedIn | None:
        """Return the new session; None if there is none. The attempt is a part of the account's history either way."""
        password_hash = None if account is None else account.password_hash
        is_right = await self._threads.run(passwords.verify, password_hash or passwords.DUMMY_HASH, password)
        if account is None or password_hash is None or not is_right or account.is_disabled:
            reason = _reason(account, is_right=bool(is_right))
            async with self._database.work(SYSTEM) as work:
                await _record(work, None if account is None else account.id, client, reason)
            return None
        new_hash = await self._threads.run(passwords.make_hash, password) if passwords.needs_rehash(password_hash) else password_hash
        async with self._database.work(SYSTEM) as work:
            return await self._begin(work, account.id, password_hash, new_hash, client)

    async def _begin(self, work: Work, user_id: UUID, verified_hash: str, new_hash: str, client: ClientInfo) -> SignedIn | None:
        """Begin a session unless the password was changed, or the user disabled, while the hash was verified."""
        statement = (
            update(User)
            .where(User.id == user_id, User.password_hash == verified_hash, User.deleted_at.is_(None), User.disabled_at.is_(None))
            .values(last_login_at=func.now(), password_hash=new_hash)
            .returning(User.role, User.tier)
        )
        user = await work.first(statement)
        if user is None:
            await _record(work, user_id, client, "The account was changed meanwhile.")
            return None
        settings = self._settings
        lifetime, idle_timeout = timedelta(seconds=settings.session_lifetime), timedelta(seconds=settings.session_idle_timeout)
        session_id, token = await start_session(work, user_id, client, lifetime, idle_timeout)
        await _record(work, user_id, client, None)
        role: UserRole = user.role
        tier: UserTier = user.tier
        return SignedIn(Viewer(user_id, role, session_id, tier, is_session=True), token)


def _is_known(client: ClientInfo) -> tuple[ColumnElement[bool], ...]:
    """The conditions on a session that an account began lately from the same network, with the same browser on the same kind of device."""
    user_agent = user_agents.shortened(client.user_agent)
    return (
        UserSession.network == client_network(client.address),
        UserSession.browser.is_not_distinct_from(user_agents.browser(user_agent)),
        UserSession.device.is_not_distinct_from(user_agents.device(user_agent)),
        UserSession.created_at > func.now() - timedelta(days=KNOWN_CLIENT_DAYS),
    )


def _reason(account: _Account | None, *, is_right: bool) -> str:
    if account is None:
        return "Nobody has this name."
    if account.password_hash is None:
        return "The account has no password."
    return "The account is disabled." if is_right else "The password was wrong."


async def _record(work: Work, user_id: UUID | None, client: ClientInfo, reason: str | None) -> None:
    """Add to the history of sign-ins; without a `reason` it succeeded."""
    values = {"user_id": user_id, "method": LoginMethod.PASSWORD, "succeeded": reason is None, "reason": reason}
    await work.run(insert(LoginEvent).values(**values, ip_address=client.address, user_agent=user_agents.shortened(client.user_agent)))
