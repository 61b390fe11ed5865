"""Restoring a deleted account by its owner, who signs in by that: with the password, and with the second factor if there is one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import Row, exists, select

from db.core.networks import ClientInfo
from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import InvalidCredentials, NotFound
from db.queries.accounts import was_called
from db.services.accounts import passwords
from db.services.accounts.challenges import create_challenge
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.restoring import is_restorable, require_free_names, restore_account
from db.services.accounts.session_start import SignedIn, begin_session, of_known_client, record_sign_in
from db.services.accounts.sign_in import FAILURE_TIME, AttemptLimits, FactorRequired, checked_login, code_methods
from db.settings import StateSettings
from db.tables import User, UserSession
from db.tables.accounts import LoginMethod


class Restorations:
    """The accounts that are restored through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    async def restore(self, login: str, password: str, username: str | None, client: ClientInfo) -> SignedIn | FactorRequired:
        """Restore the account that had this address or username and was deleted by its owner, named `username` if given, and sign in.

        Of several, it is the one deleted last. Nobody else learns of it: a failure is that of a sign-in, and counts as one. Raises
        `InvalidInput`, `InvalidCredentials`, `TooManyAttempts`, `UsernameTaken` or `AddressTaken`.
        """
        name, earliest_answer = checked_login(login, password), time.monotonic() + FAILURE_TIME
        user = await self._find(name, client)
        is_known_client = user is not None and user.is_known_client
        await self._attempts.take(name, client.address, is_known_client=is_known_client)
        is_right = await self._threads.run(passwords.verify, passwords.DUMMY_HASH if user is None else user.password_hash, password)
        if user is None or not is_right:
            async with self._database.work(SYSTEM) as work:
                reason = "Nobody deleted an account with this name." if user is None else "The password was wrong; the account is deleted."
                await record_sign_in(work, None if user is None else user.id, LoginMethod.PASSWORD, client, reason)
            await asyncio.sleep(earliest_answer - time.monotonic())
            raise InvalidCredentials
        await self._attempts.give_back(name, client.address, is_known_client=is_known_client)
        try:
            async with self._database.work(SYSTEM) as work:
                return await self._proceed(work, user, username, client)
        except NotFound:  # restored, or changed by an operator, since it was read
            raise InvalidCredentials from None

    async def _find(self, name: str, client: ClientInfo) -> Row[Any] | None:
        is_known_client = exists().where(UserSession.user_id == User.id, *of_known_client(client)).label("is_known_client")
        columns = (User.id, User.password_hash, User.totp_secret.is_not(None).label("has_totp"), is_known_client)
        is_own = (was_called(name), User.deleted_by_owner, User.password_hash.is_not(None), is_restorable(self._settings))
        rows = await self._database.rows(select(*columns).where(*is_own).order_by(User.deleted_at.desc(), User.id.desc()).limit(1))
        return rows[0] if rows else None

    async def _proceed(self, work: Work, user: Row[Any], username: str | None, client: ClientInfo) -> SignedIn | FactorRequired:
        """Restore the account, or ask for the second factor, with which `SignIns.confirm` restores it. Raises `NotFound` if it was changed."""
        if user.has_totp:
            return await _challenge(work, user, LoginMethod.PASSWORD, client, username)
        is_same = (User.password_hash == user.password_hash, User.totp_secret.is_(None))
        await restore_account(work, user.id, username, User.deleted_by_owner.is_(True), is_restorable(self._settings), *is_same)
        signed_in = await begin_session(work, self._settings, user.id, LoginMethod.PASSWORD, client, *is_same, action="restore_account")
        if signed_in is None:
            raise NotFound(str(user.id))
        return signed_in


async def restore_by_proof(
    work: Work, settings: StateSettings, user: Row[Any], method: LoginMethod, client: ClientInfo, username: str | None
) -> SignedIn | FactorRequired | None:
    """Restore the deleted account of a user who proved by `method`, a provider's word or a passkey, who they are, and sign them in.

    The row has `id`, `password_hash` and `totp_secret`, and is locked. A passkey is both factors; after a provider, who has an app for codes gets
    a challenge. None if its owner did not delete it, or it is too late. Raises `UsernameTaken`, `AddressTaken` or `InvalidInput`.
    """
    is_own = (User.deleted_by_owner.is_(True), is_restorable(settings))
    if not await work.scalar(select(User.id).where(User.id == user.id, *is_own)):
        return None
    if user.totp_secret is not None and method is not LoginMethod.PASSKEY:
        return await _challenge(work, user, method, client, username)
    await restore_account(work, user.id, username, *is_own)
    return await begin_session(work, settings, user.id, method, client, action="restore_account")


async def _challenge(work: Work, user: Row[Any], method: LoginMethod, client: ClientInfo, username: str | None) -> FactorRequired:
    """Ask for the second factor, with which `SignIns.confirm` restores the account. Raises `UsernameTaken`, `AddressTaken` or `InvalidInput`."""
    await require_free_names(work, user.id, username)
    first = "The password was right" if method is LoginMethod.PASSWORD else "The provider knew the user"
    await record_sign_in(work, user.id, method, client, f"{first}, and a code was asked for.")
    challenge = await create_challenge(work, user.id, user.password_hash, restores=True, username=username)
    work.record("restore_account", "user", user.id, user.id, after={"needs_code": True})
    return FactorRequired(challenge, await code_methods(work, user.id))
