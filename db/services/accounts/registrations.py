"""Registration: a row that reserves nothing, a mail to its address, and a user once the link of the mail was opened.

Whether an address is a user's shows neither in the answer to a registration nor in its time; its owner gets a mail that says so.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy import delete as delete_rows

from db.core.checks import Checks
from db.core.networks import ClientInfo
from db.core.unique import translate_unique_violation
from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database, Work
from db.errors import UsernameTaken, WrongState, invalid
from db.queries.accounts import has_email, has_username
from db.services import account_tokens
from db.services.accounts import invitations, passwords
from db.services.accounts.email_changes import complete_change
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.sign_in import AttemptLimits
from db.services.accounts.users import check_new_user, check_username, insert_user
from db.services.mail.callbacks import lift_suppression
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import EmailMessage, Registration, User
from db.tables.accounts import TokenPurpose
from db.tables.mail import EmailTemplate

LIFETIME = timedelta(hours=48)
ANSWER_TIME = 0.5  # seconds that a registration takes at least, so that its time does not tell what is written


class RegistrationPolicy(StrEnum):
    """Who may register, as the operator says."""

    CLOSED = "closed"
    INVITED = "invited"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class NewRegistration:
    """What somebody registers with."""

    email: str
    username: str
    password: str
    full_name: str | None = None
    invitation_token: str | None = None


@dataclass(frozen=True, slots=True)
class VerifiedAddress:
    """The address that is verified, and its user's name."""

    email: str
    username: str


class Registrations:
    """The registrations through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    @property
    def policy(self) -> RegistrationPolicy:
        """Who may register."""
        return RegistrationPolicy(self._settings.registration)

    async def register(self, new: NewRegistration, client: ClientInfo) -> None:
        """Send a link to the address; if it is a user's, tell them. The caller does not learn which.

        Raises `WrongState` if the settings do not allow it, `InvalidInput`, `WeakPassword`, `UsernameTaken`, `TooManyAttempts`, or
        `Unavailable` if too many passwords wait to be hashed.
        """
        self._require_allowed(is_invited=new.invitation_token is not None)
        checks, email = Checks(), new.email.strip()
        check_new_user(checks, email, new.username, new.full_name)
        checks.raise_if_invalid()
        await self._threads.run(passwords.require_strong, new.password, "password", email, new.username)
        earliest_answer, invitation_id = time.monotonic() + ANSWER_TIME, None
        if new.invitation_token is not None:
            invitation_id = await invitations.find_invitation(self._database, self._settings, new.invitation_token, email)
        if await self._database.rows(select(User.id).where(has_username(new.username))):
            raise UsernameTaken(new.username)
        is_mailed = await self._attempts.take_mail("registration", email, client.address)
        password_hash = await self._threads.run(passwords.make_hash, new.password)
        if is_mailed:
            values = {"email": email, "username": new.username, "full_name": new.full_name, "password_hash": password_hash}
            async with self._database.work(SYSTEM) as work:
                await _add(work, values, invitation_id)
        await asyncio.sleep(earliest_answer - time.monotonic())

    async def verify_email(self, token: str, username: str | None, client: ClientInfo) -> VerifiedAddress:
        """Make the user of a registration, named `username` if given, or complete a change of address: whichever the token was sent for.

        Raises `InvalidInput`, `UsernameTaken`, after which the token is still valid, `WrongState` or `TooManyAttempts`.
        """
        await self._attempts.take_link(client.address)
        registration_id = account_tokens.read_token(self._settings, token, account_tokens.REGISTRATION)
        change_id = account_tokens.read_token(self._settings, token, TokenPurpose.CHANGE_EMAIL)
        async with self._database.work(SYSTEM) as work:
            if registration_id is not None:
                verified = await self._complete(work, registration_id, username)
            elif change_id is not None:
                verified = VerifiedAddress(*await complete_change(work, change_id))
            else:
                raise account_tokens.not_valid()
        await self._attempts.give_back_link(client.address)
        return verified

    async def invite(self, viewer: Viewer, email: str, role: UserRole) -> UUID:
        """Invite who has this address; return the invitation's id. Raises `WrongState`, `InvalidInput` or `TooManyAttempts`.

        It takes a session that was checked lately: whoever stole a key or a session must not make themselves an account that outlives it.
        """
        viewer.require_admin()
        async with self._database.work(viewer) as work:
            await require_recent_check(work)
        self._require_allowed(is_invited=True)
        email = invitations.checked_address(email, "email")
        await self._attempts.take_invitation(viewer.id)
        await self._attempts.take_mail_to("invitation", email)
        async with self._database.work(viewer) as work:
            return await invitations.invite(work, email, role)

    async def _complete(self, work: Work, registration_id: UUID, username: str | None) -> VerifiedAddress:
        row = await _lock(work, registration_id)
        if row is None:
            raise account_tokens.not_valid()
        self._require_allowed(is_invited=row.invitation_id is not None)
        name = row.username if username is None else username
        checks = Checks()
        check_username(checks, name)
        checks.raise_if_invalid()
        role = UserRole.MEMBER if row.invitation_id is None else (await invitations.use_invitation(work, row.invitation_id)).role
        values = {"email": row.email, "username": name, "full_name": row.full_name, "password_hash": row.password_hash, "role": role}
        has_account = invalid(
            "token", message=f"{row.email} has an account by now. Sign in with `login`, or reset the password with `requestPasswordReset`."
        )
        with translate_unique_violation("uq_users_email", has_account):
            user_id = await insert_user(work, {**values, "email_verified_at": func.now()})
        await lift_suppression(work, row.email)
        of_registration = EmailMessage.registration_id == registration_id
        await work.run(update(EmailMessage).where(of_registration).values(user_id=user_id, account_id=user_id, registration_id=None))
        await work.run(delete_rows(Registration).where(Registration.id == registration_id))
        work.record("verify_email", "user", user_id, user_id, after=values)
        return VerifiedAddress(row.email, name)

    def _require_allowed(self, *, is_invited: bool) -> None:
        match self._settings.registration:
            case "open":
                return
            case "invited" if is_invited:
                return
            case "invited":
                raise WrongState("INVITED", "Registration takes an invitation here. Ask an admin for one, and send its token.")
            case _:
                raise WrongState("CLOSED", "Nobody can register here. Ask whoever runs this Trellis for an account.")


async def _add(work: Work, values: dict[str, Any], invitation_id: UUID | None) -> None:
    owner = await work.first(select(User.id, User.email, User.disabled_at).where(has_email(values["email"])))
    if owner is None:
        values = {**values, "invitation_id": invitation_id, "expires_at": func.now() + LIFETIME}
        registration_id: UUID = await work.scalar(insert(Registration).values(values).returning(Registration.id))
        await queue_mail(work, EmailTemplate.VERIFY_REGISTRATION, values["email"], registration_id=registration_id)
        work.record("register", "registration", registration_id, None)  # the address is recorded once it is verified, or else forgotten
    elif owner.disabled_at is None:
        await queue_mail(work, EmailTemplate.ADDRESS_TAKEN, owner.email, owner.id)
        work.record("register", "user", owner.id, owner.id)


async def _lock(work: Work, registration_id: UUID) -> Row[Any] | None:
    """Lock a registration whose token is valid, after its mails: whoever sends a mail locks the two in this order."""
    of_registration = EmailMessage.registration_id == registration_id
    await work.all(select(EmailMessage.id).where(of_registration).order_by(EmailMessage.id).with_for_update())
    is_valid = (Registration.token_expires_at > func.now(), Registration.expires_at > func.now())
    return await work.first(select(Registration.__table__).where(Registration.id == registration_id, *is_valid).with_for_update())
