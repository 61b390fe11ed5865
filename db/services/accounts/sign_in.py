"""Sign-in by password, and by a second factor where there is one: slowed down after failures, never locked.

Failures of the password are the same in text and time whether or not the account exists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Row, exists, select, update

from db.core.checks import Checks
from db.core.networks import ClientInfo
from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import InvalidCredentials, InvalidInput, NotFound
from db.queries.accounts import has_login
from db.services.accounts import passwords
from db.services.accounts.challenges import challenge_not_valid, create_challenge, find_challenge, use_challenge
from db.services.accounts.codes import GivenCode, parse_code, use_code, wrong_code
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.restoring import is_restorable, restore_account
from db.services.accounts.session_start import MAY_SIGN_IN, SignedIn, begin_session, of_known_client, record_sign_in
from db.settings import StateSettings
from db.tables import BackupCode, User, UserSession
from db.tables.accounts import LoginMethod
from db.tables.passkeys import Passkey

FAILURE_TIME = 0.5  # seconds that a failed sign-in takes at least, so that its time tells nothing of what was verified
MAX_LOGIN_LENGTH = 254


@dataclass(frozen=True, slots=True)
class FactorRequired:
    """The first factor was right, and a second one is required. The challenge is shown once and not stored."""

    challenge: str
    methods: tuple[LoginMethod, ...]


class AttemptLimits(Protocol):
    """Count attempts to sign in; see `db.limits.sign_in_attempts`."""

    async def take(self, login: str, address: str | None, *, is_known_client: bool) -> None: ...

    async def give_back(self, login: str, address: str | None, *, is_known_client: bool) -> None: ...

    async def forgive(self, logins: Collection[str], address: str | None) -> None: ...

    async def take_confirmation(self, session_id: UUID, login: str, address: str | None) -> None: ...

    async def give_back_confirmation(self, session_id: UUID, login: str, address: str | None) -> None: ...

    async def take_code(self, user_id: UUID, address: str | None, *, is_known_client: bool, session_id: UUID | None = None) -> None: ...

    async def give_back_code(
        self, user_id: UUID, address: str | None, *, is_known_client: bool, session_id: UUID | None = None
    ) -> None: ...

    async def take_passkey(self, user_id: UUID | None, address: str | None, *, is_known_client: bool) -> None: ...

    async def give_back_passkey(self, user_id: UUID | None, address: str | None, *, is_known_client: bool) -> None: ...

    async def take_passkey_challenge(self, address: str | None) -> None: ...

    async def take_mail(self, kind: str, email: str, address: str | None) -> bool: ...

    async def take_mail_to(self, kind: str, email: str) -> None: ...

    async def take_invitation(self, user_id: UUID) -> None: ...

    async def take_link(self, address: str | None) -> None: ...

    async def give_back_link(self, address: str | None) -> None: ...

    async def take_flow(self, address: str | None) -> None: ...

    async def give_back_flow(self, address: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class _Account:
    id: UUID
    password_hash: str | None
    has_totp: bool
    is_disabled: bool
    is_known_client: bool


class SignIns:
    """The sign-ins of a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    @property
    def session_lifetime(self) -> float:
        """Seconds after which a session ends in any case."""
        return self._settings.session_lifetime

    async def sign_in(self, login: str, password: str, client: ClientInfo) -> SignedIn | FactorRequired:
        """Begin a session of the user with this address or username, if the password is theirs; or ask for their second factor.

        Raises `InvalidInput` for what can be neither, `InvalidCredentials`, `TooManyAttempts`, or `Unavailable` if too many passwords
        wait to be hashed.
        """
        name, earliest_answer = checked_login(login, password), time.monotonic() + FAILURE_TIME
        account = await self._find(name, client)
        is_known_client = account is not None and account.is_known_client
        await self._attempts.take(name, client.address, is_known_client=is_known_client)
        result = await self._verify(account, password, client)
        if result is None:
            await asyncio.sleep(earliest_answer - time.monotonic())
            raise InvalidCredentials
        await self._attempts.give_back(name, client.address, is_known_client=is_known_client)
        return result

    async def confirm(self, challenge: str, code: str, client: ClientInfo) -> SignedIn:
        """Begin the session of a challenge, if the code is its user's.

        The challenge of a deleted account restores it. Raises `InvalidInput` for a challenge that is not valid and for what is no code,
        `InvalidCredentials`, `TooManyAttempts`, or `NameTaken` if a name of a deleted account was taken meanwhile.
        """
        given = parse_code(code)
        is_known = exists().where(UserSession.user_id == User.id, *of_known_client(client)).label("is_known_client")
        pending = await find_challenge(self._database, challenge, is_known)
        await self._attempts.take_code(pending.user_id, client.address, is_known_client=pending.is_known_client)
        try:
            async with self._database.work(SYSTEM) as work:
                signed_in = await self._begin_confirmed(work, pending, given, client)
        except (InvalidInput, InvalidCredentials) as error:  # nothing of it was committed
            reason = (
                "The code was wrong, or was used before." if isinstance(error, InvalidCredentials) else "The challenge was used meanwhile."
            )
            async with self._database.work(SYSTEM) as work:
                await record_sign_in(work, pending.user_id, given.method, client, reason)
            raise
        await self._attempts.give_back_code(pending.user_id, client.address, is_known_client=pending.is_known_client)
        return signed_in

    async def begin_or_challenge(
        self, work: Work, user: Row[Any], method: LoginMethod, client: ClientInfo
    ) -> SignedIn | FactorRequired | None:
        """Begin a session of a user who proved by `method` who they are, or ask for their second factor; None if they may not sign in.

        The row has `id`, `password_hash` and `totp_secret`, and is locked.
        """
        if user.totp_secret is None:
            return await begin_session(work, self._settings, user.id, method, client, User.totp_secret.is_(None), action="login")
        return await self._challenge(work, user.id, method, client, User.totp_secret.is_not(None), password_hash=user.password_hash)

    async def _find(self, name: str, client: ClientInfo) -> _Account | None:
        statement = select(
            User.id,
            User.password_hash,
            User.totp_secret.is_not(None),
            User.disabled_at.is_not(None),
            exists().where(UserSession.user_id == User.id, *of_known_client(client)),
        )
        rows = await self._database.rows(statement.where(has_login(name)))
        return _Account(*rows[0]) if rows else None

    async def _verify(self, account: _Account | None, password: str, client: ClientInfo) -> SignedIn | FactorRequired | None:
        """Return the new session or challenge; None if there is none. The attempt is a part of the account's history either way."""
        password_hash = None if account is None else account.password_hash
        is_right = await self._threads.run(passwords.verify, password_hash or passwords.DUMMY_HASH, password)
        if account is None or password_hash is None or not is_right or account.is_disabled:
            reason = _reason(account, is_right=bool(is_right))
            async with self._database.work(SYSTEM) as work:
                await record_sign_in(work, None if account is None else account.id, LoginMethod.PASSWORD, client, reason)
            return None
        new_hash = await self._threads.run(passwords.make_hash, password) if passwords.needs_rehash(password_hash) else password_hash
        has_factor = User.totp_secret.is_not(None) if account.has_totp else User.totp_secret.is_(None)
        is_same = (User.password_hash == password_hash) & has_factor
        async with self._database.work(SYSTEM) as work:
            if account.has_totp:
                result = await self._challenge(work, account.id, LoginMethod.PASSWORD, client, is_same, password_hash=new_hash)
            else:
                arguments = account.id, LoginMethod.PASSWORD, client, is_same
                result = await begin_session(work, self._settings, *arguments, action="login", password_hash=new_hash)
            if result is None:
                await record_sign_in(work, account.id, LoginMethod.PASSWORD, client, "The account was changed meanwhile.")
            return result

    async def _challenge(
        self, work: Work, user_id: UUID, method: LoginMethod, client: ClientInfo, is_same: ColumnElement[bool], *, password_hash: str | None
    ) -> FactorRequired | None:
        """Ask for the second factor; None if the user was changed since the credentials were read."""
        if not await work.run(update(User).where(User.id == user_id, *MAY_SIGN_IN, is_same).values(password_hash=password_hash)):
            return None
        first = "The password was right" if method is LoginMethod.PASSWORD else "The provider knew the user"
        await record_sign_in(work, user_id, method, client, f"{first}, and a code was asked for.")
        work.record("login", "user", user_id, user_id, after={"method": method, "needs_code": True})
        methods = await code_methods(work, user_id)
        if await work.scalar(select(exists().where(Passkey.user_id == user_id))):
            methods += (LoginMethod.PASSKEY,)
        return FactorRequired(await create_challenge(work, user_id, password_hash), methods)

    async def _begin_confirmed(self, work: Work, pending: Row[Any], given: GivenCode, client: ClientInfo) -> SignedIn:
        """Use the challenge and the code, and begin the session. Raises `InvalidInput`, `InvalidCredentials` or `NameTaken`."""
        user_id, secret = pending.user_id, pending.totp_secret
        await use_challenge(work, pending.id)
        if await use_code(work, self._settings, user_id, secret, given):
            action = "confirm_login"
            if pending.restores:
                await self._restore(work, pending)
                action = "restore_account"
            arguments = user_id, given.method, client, User.totp_secret == secret
            signed_in = await begin_session(work, self._settings, *arguments, action=action)
            if signed_in is not None:
                return signed_in
        raise wrong_code()

    async def _restore(self, work: Work, pending: Row[Any]) -> None:
        """Restore the deleted account that the challenge is of. Raises `InvalidInput` if it is too late, or `NameTaken`."""
        try:
            await restore_account(work, pending.user_id, pending.username, User.deleted_by_owner.is_(True), is_restorable(self._settings))
        except NotFound:
            raise challenge_not_valid() from None


def checked_login(login: str, password: str) -> str:
    """Return the name to sign in with. Raises `InvalidInput` for what can be no name, or no password."""
    checks = Checks()
    checks.name(login, "login", length=MAX_LOGIN_LENGTH)
    if not passwords.is_possible(password):
        checks.add("password", message=f"A password has 1 to {passwords.MAX_LENGTH:,} characters, none of them NUL.")
    checks.raise_if_invalid()
    return login.strip()


async def code_methods(work: Work, user_id: UUID) -> tuple[LoginMethod, ...]:
    """Return the kinds of codes that a user with a second factor has."""
    has_backup_codes = await work.scalar(select(exists().where(BackupCode.user_id == user_id, BackupCode.used_at.is_(None))))
    return (LoginMethod.TOTP, LoginMethod.BACKUP_CODE) if has_backup_codes else (LoginMethod.TOTP,)


def _reason(account: _Account | None, *, is_right: bool) -> str:
    if account is None:
        return "Nobody has this name."
    if account.password_hash is None:
        return "The account has no password."
    return "The account is disabled." if is_right else "The password was wrong."
