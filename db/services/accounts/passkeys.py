"""Passkeys of users: added by a session that began lately, and used to sign in, alone or in place of a code.

A passkey with user verification is two factors in one: the device, and what unlocks it. Failures are the same in text and time whether or
not the passkey exists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, delete, exists, func, insert, select, update

from db.core.checks import Checks
from db.core.networks import ClientInfo
from db.core.unique import translate_unique_violation
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database, Work
from db.errors import InvalidCredentials, InvalidInput, NameTaken, NotFound, QuotaExceeded, WrongState, invalid
from db.services.accounts import challenges as login_challenges
from db.services.accounts.passkey_answers import (
    DUMMY_PUBLIC_KEY,
    Answer,
    AnswerRefused,
    Assertion,
    creation_options,
    read_answer,
    request_options,
    verify_assertion,
    verify_new,
)
from db.services.accounts.passkey_challenges import create_challenge, require_challenge, use_challenge
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.relying_party import RelyingParty, relying_party
from db.services.accounts.restorations import restore_by_proof
from db.services.accounts.restoring import is_restorable
from db.services.accounts.session_start import SignedIn, begin_session, of_known_client, record_sign_in
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.sign_in import FAILURE_TIME, AttemptLimits
from db.services.accounts.users import check_username, lock_own_account
from db.services.accounts.ways_in import has_way_in
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import User, UserSession
from db.tables.accounts import LoginMethod
from db.tables.mail import EmailTemplate
from db.tables.passkeys import Passkey

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_PASSKEYS = 20  # of a user
NAME_LENGTH = 100
_DESCRIPTOR = (Passkey.webauthn_id, Passkey.transports)


class _Refused(Exception):
    """A sign-in that fails; the text is for the history of its user."""


@dataclass(frozen=True, slots=True)
class _Restoring:
    """A sign-in that restores a deleted account, with this username or the one that it had."""

    username: str | None


class Passkeys:
    """The passkeys that a process adds, removes, and lets sign in."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    async def begin_registration(self, viewer: Viewer, name: str, client: ClientInfo) -> dict[str, Any]:
        """Return the options with which a browser makes a passkey.

        Raises `WrongState` if the sign-in was long ago, or where passkeys cannot be used, `InvalidInput`, `NameTaken` or `QuotaExceeded`.
        """
        party, checks = self._party(client), Checks()
        name = checks.name(name, "name", length=NAME_LENGTH)
        checks.raise_if_invalid()
        async with self._database.work(viewer) as work:
            await require_recent_check(work)
            passkeys = await work.all(select(Passkey.name, *_DESCRIPTOR).where(Passkey.user_id == viewer.id))
            # What adding it refuses is refused here already: the device would keep a passkey that nobody knows.
            if name.lower() in {passkey.name.lower() for passkey in passkeys}:
                raise NameTaken("passkey", name)
            if len(passkeys) >= MAX_PASSKEYS:
                raise QuotaExceeded("passkeys", MAX_PASSKEYS, len(passkeys))
            user = await work.one(select(User.id, User.username, User.full_name).where(User.id == viewer.id))
            challenge = await create_challenge(work, viewer.require_session(), name)
        return creation_options(party, challenge, user, passkeys)

    async def finish_registration(self, viewer: Viewer, credential: Any, client: ClientInfo) -> UUID:
        """Add the passkey that a device made for this session; return its id. Raises as `begin_registration`."""
        session_id, party, answer = viewer.require_session(), self._party(client), read_answer(credential)
        await require_challenge(self._database, answer.challenge, session_id)
        try:
            new = await self._threads.run(verify_new, answer, party)
        except AnswerRefused as error:
            raise invalid("credential", message=f"The answer of the device is not accepted: {error}.") from None
        async with self._database.work(viewer) as work:
            name: str = (await use_challenge(work, answer.challenge, session_id)).name
            statement = insert(Passkey).values(
                user_id=viewer.id,
                name=name,
                webauthn_id=new.webauthn_id,
                public_key=new.public_key,
                sign_count=new.sign_count,
                transports=new.transports,
                is_backup_eligible=new.is_backup_eligible,
                is_backed_up=new.is_backed_up,
            )
            is_known = invalid("credential", message="This passkey was added before. Make a new one.")
            with (
                translate_unique_violation("uq_passkeys_webauthn_id", is_known),
                translate_unique_violation("uq_passkeys_user_id_name", NameTaken("passkey", name)),
            ):
                passkey_id: UUID = await work.scalar(statement.returning(Passkey.id))
            work.before_commit(viewer.id, lambda: _require_few(work))
            email: str = await work.scalar(select(User.email).where(User.id == viewer.id))
            await queue_mail(work, EmailTemplate.PASSKEY_ADDED, email, viewer.id)
            work.record("finish_passkey_registration", "passkey", passkey_id, viewer.id, after={"name": name})
        return passkey_id

    async def begin_login(self, login_challenge: str | None, client: ClientInfo) -> dict[str, Any]:
        """Return the options with which a browser asks for a passkey: any, or with the challenge of a password one of its user's.

        Raises `WrongState` where passkeys cannot be used, `InvalidInput` for the challenge, or `TooManyAttempts`.
        """
        party, passkeys = self._party(client), ()
        await self._attempts.take_passkey_challenge(client.address)
        if login_challenge is not None:
            pending = await self._pending(login_challenge)
            passkeys = await self._database.rows(select(*_DESCRIPTOR).where(Passkey.user_id == pending.user_id))
        async with self._database.work(SYSTEM) as work:
            challenge = await create_challenge(work)
        return request_options(party, challenge, passkeys)

    async def finish_login(
        self, credential: Any, login_challenge: str | None, client: ClientInfo, *, restores: bool = False, username: str | None = None
    ) -> SignedIn:
        """Begin a session of the passkey's user; with the challenge of a password, only of that user. One that `restores` brings back their
        deleted account, named `username` if given.

        Raises `WrongState` where passkeys cannot be used, `InvalidInput` for a challenge that is not valid and for what is no answer or username,
        `InvalidCredentials` or `TooManyAttempts`; if it restores, `UsernameTaken` or `AddressTaken`, after which the answer is still valid.
        """
        if username is not None:
            checks = Checks()
            check_username(checks, username)
            checks.raise_if_invalid()
        party, answer, earliest_answer = self._party(client), read_answer(credential), time.monotonic() + FAILURE_TIME
        await require_challenge(self._database, answer.challenge)
        pending = None if login_challenge is None else await self._pending(login_challenge)
        passkey = await self._find(answer, client, is_deleted=restores)
        user_id = None if passkey is None else passkey.user_id
        is_known_client = passkey is not None and passkey.is_known_client
        await self._attempts.take_passkey(user_id, client.address, is_known_client=is_known_client)
        try:
            assertion = await self._verify(answer, party, passkey, pending)
            assert passkey is not None
            async with self._database.work(SYSTEM) as work:
                signed_in = await self._begin(work, answer, assertion, passkey, pending, client, _Restoring(username) if restores else None)
        except (_Refused, InvalidInput) as error:  # nothing of it was committed
            reason = str(error) if isinstance(error, _Refused) else "The challenge was used meanwhile."
            async with self._database.work(SYSTEM) as work:
                await record_sign_in(work, user_id, LoginMethod.PASSKEY, client, reason)
            if isinstance(error, InvalidInput):
                raise
            await asyncio.sleep(earliest_answer - time.monotonic())
            raise _not_accepted() from None
        await self._attempts.give_back_passkey(user_id, client.address, is_known_client=is_known_client)
        return signed_in

    async def remove(self, viewer: Viewer, passkey_id: UUID, providers: Collection[str]) -> None:
        """Remove a passkey of the viewer's; `providers` are those of the settings.

        Raises `NotFound`, or `WrongState` for the last way in, and if the sign-in was long ago.
        """
        async with self._database.work(viewer) as work:
            await require_recent_check(work)
            user = await work.one(select(User.id, User.email, User.password_hash).where(User.id == viewer.id).with_for_update())
            is_it = (Passkey.id == passkey_id, Passkey.user_id == viewer.id)
            name: str | None = await work.scalar(delete(Passkey).where(*is_it).returning(Passkey.name))
            if name is None:
                raise NotFound(str(passkey_id))
            if not await has_way_in(work, user, providers):
                raise WrongState(
                    "LAST_WAY_IN",
                    "Without this passkey you could not sign in any more. Add another one first, or set a password with `requestPasswordReset`.",
                )
            await queue_mail(work, EmailTemplate.PASSKEY_REMOVED, user.email, viewer.id)
            work.record("remove_passkey", "passkey", passkey_id, viewer.id, before={"name": name})

    def _party(self, client: ClientInfo) -> RelyingParty:
        return relying_party(self._settings.public_url, client)

    async def _pending(self, login_challenge: str) -> Row[Any]:
        """Return the sign-in that waits for its second factor. Raises `InvalidInput`, also for one that restores an account: it takes a code."""
        pending = await login_challenges.find_challenge(self._database, login_challenge)
        if pending.restores:
            raise login_challenges.challenge_not_valid()
        return pending

    async def _find(self, answer: Answer, client: ClientInfo, *, is_deleted: bool) -> Row[Any] | None:
        """The passkey, of a user who is not deleted, or of one who can be restored by themselves."""
        statement = select(
            Passkey.id,
            Passkey.user_id,
            Passkey.public_key,
            Passkey.sign_count,
            Passkey.is_backup_eligible,
            User.disabled_at.is_not(None).label("is_disabled"),
            exists().where(UserSession.user_id == Passkey.user_id, *of_known_client(client)).label("is_known_client"),
        ).join(User, User.id == Passkey.user_id)
        is_it = (User.deleted_by_owner, is_restorable(self._settings)) if is_deleted else (User.deleted_at.is_(None),)
        rows = await self._database.rows(statement.where(Passkey.webauthn_id == answer.webauthn_id, *is_it))
        return rows[0] if rows else None

    async def _verify(self, answer: Answer, party: RelyingParty, passkey: Row[Any] | None, pending: Row[Any] | None) -> Assertion:
        """Verify an answer, the same work with and without a passkey. Raises `_Refused`."""
        try:
            public_key = DUMMY_PUBLIC_KEY if passkey is None else passkey.public_key
            assertion = await self._threads.run(verify_assertion, answer, party, public_key)
        except AnswerRefused as error:
            raise _Refused(f"The answer of the passkey is not accepted: {error}." if passkey is not None else _NOBODY) from None
        if passkey is None:
            raise _Refused(_NOBODY)
        if answer.user_handle not in {None, passkey.user_id.bytes} or assertion.is_backup_eligible != passkey.is_backup_eligible:
            raise _Refused("The answer says something else of the passkey than when it was added.")
        if pending is not None and pending.user_id != passkey.user_id:
            raise _Refused("The password, or the provider's word, was of another user.")
        if passkey.is_disabled:
            raise _Refused("The account is disabled.")
        return assertion

    async def _begin(
        self,
        work: Work,
        answer: Answer,
        assertion: Assertion,
        passkey: Row[Any],
        pending: Row[Any] | None,
        client: ClientInfo,
        restoring: _Restoring | None,
    ) -> SignedIn:
        """Use the challenges and the counter, and begin the session. Raises `InvalidInput`, `_Refused`, `UsernameTaken` or `AddressTaken`."""
        user_id: UUID = passkey.user_id
        if pending is not None:
            await login_challenges.use_challenge(work, pending.id)
        # The user's row is locked before the passkey's, as by whoever removes a passkey.
        if restoring is None:
            arguments = user_id, LoginMethod.PASSKEY, client
            signed_in = await begin_session(work, self._settings, *arguments, action="finish_passkey_login")
        else:
            user = await work.one(select(User.id, User.password_hash, User.totp_secret).where(User.id == user_id).with_for_update())
            signed_in = await restore_by_proof(work, self._settings, user, LoginMethod.PASSKEY, client, restoring.username)
        if not isinstance(signed_in, SignedIn):
            raise _Refused("The account was changed meanwhile.")
        await use_challenge(work, answer.challenge)
        count = assertion.sign_count
        has_advanced = Passkey.sign_count < count if count else Passkey.sign_count == 0
        values = {"sign_count": count, "is_backed_up": assertion.is_backed_up, "last_used_at": func.now()}
        if await work.run(update(Passkey).where(Passkey.id == passkey.id, has_advanced).values(values)):
            return signed_in
        if await work.scalar(select(exists().where(Passkey.id == passkey.id))):
            log.warning("passkey_counter_went_back", passkey_id=str(passkey.id), user_id=str(user_id), counter=count)
            raise _Refused("The counter of the passkey went back: there may be a copy of it. Remove it, and add a new one.")
        raise _Refused("The passkey was removed meanwhile.")


async def _require_few(work: Work) -> None:
    """Raise `QuotaExceeded` if the viewer has too many passkeys. The lock has those added at once wait for each other."""
    await lock_own_account(work)
    count: int = await work.scalar(select(func.count()).where(Passkey.user_id == work.viewer.id))
    if count > MAX_PASSKEYS:
        raise QuotaExceeded("passkeys", MAX_PASSKEYS, count - 1)


_NOBODY = "Nobody has this passkey."


def _not_accepted() -> InvalidCredentials:
    return InvalidCredentials(
        "This passkey is not accepted here: it was removed, belongs to another site, or did not verify you. Sign in another way."
    )
