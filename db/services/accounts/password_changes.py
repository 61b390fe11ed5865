"""Changing a password, by its owner or after a reset by mail. Other sessions end, API keys stay, and a mail tells the owner."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from sqlalchemy import func, select, update

from db.core.checks import Checks
from db.core.networks import ClientInfo
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database, Work
from db.queries.accounts import has_email
from db.services import account_tokens, events
from db.services.accounts import passwords
from db.services.accounts.confirmations import confirm_password, wrong_password
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sessions import end_sessions
from db.services.accounts.sign_in import AttemptLimits
from db.services.accounts.users import check_email
from db.services.mail.callbacks import lift_suppression
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import User
from db.tables.accounts import TokenPurpose
from db.tables.mail import EmailTemplate
from db.tables.notifications import EventType

REQUEST_TIME = 0.5  # seconds that a request for a reset takes at least, so that its time does not tell whether a mail is sent


class PasswordChanges:
    """The changes of passwords through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    async def request_reset(self, email: str, client: ClientInfo) -> None:
        """Send a token to this address if it is a user's; the caller does not learn whether. Raises `InvalidInput` or `TooManyAttempts`."""
        checks, email = Checks(), email.strip()
        check_email(checks, email, "email")
        checks.text(email, "email")
        checks.raise_if_invalid()
        earliest_answer = time.monotonic() + REQUEST_TIME
        if await self._attempts.take_mail("reset", email, client.address):
            async with self._database.work(SYSTEM) as work:
                user = await work.first(select(User.id, User.email).where(has_email(email), User.disabled_at.is_(None)))
                if user is not None:
                    token_id = await account_tokens.create_token(work, user.id, TokenPurpose.RESET_PASSWORD, user.email)
                    await queue_mail(work, EmailTemplate.PASSWORD_RESET, user.email, user.id, token_id)
                    work.record("request_password_reset", "user", user.id, user.id)
        await asyncio.sleep(earliest_answer - time.monotonic())

    async def reset(self, token: str, new_password: str, client: ClientInfo) -> None:
        """Set the password of the token's user, end their sessions, and forget the failed sign-ins that slow theirs.

        Raises `InvalidInput` for the token, or `WeakPassword`.
        """
        owner = await account_tokens.find_owner(self._database, self._settings, token, TokenPurpose.RESET_PASSWORD)
        await self._threads.run(passwords.require_strong, new_password, "newPassword", owner.email, owner.username)
        new_hash = await self._threads.run(passwords.make_hash, new_password)
        async with self._database.work(SYSTEM) as work:
            await account_tokens.use_token(work, owner.id)
            is_verified = func.coalesce(User.email_verified_at, func.now())  # the token was in a mail to the address
            await work.run(update(User).where(User.id == owner.user_id).values(email_verified_at=is_verified))
            await lift_suppression(work, owner.email)
            await _set(work, owner.user_id, new_hash)
            count = await end_sessions(work, owner.user_id)
            work.record("reset_password", "user", owner.user_id, owner.user_id, after={"ended_sessions": count})
        await self._attempts.forgive((owner.email, owner.username), client.address)

    async def change(self, viewer: Viewer, current_password: str, new_password: str, client: ClientInfo) -> None:
        """Set the viewer's password and end their other sessions. Raises `WeakPassword`, `InvalidCredentials` or `TooManyAttempts`."""
        session_id = viewer.require_session()
        (user,) = await self._database.rows(select(User.email, User.username, User.password_hash).where(User.id == viewer.id))
        await self._threads.run(passwords.require_strong, new_password, "newPassword", user.email, user.username)
        await confirm_password(self._attempts, self._threads, viewer, user, current_password, client)
        new_hash = await self._threads.run(passwords.make_hash, new_password)
        async with self._database.work(viewer) as work:
            await _set(work, viewer.id, new_hash, verified_hash=user.password_hash)
            count = await end_sessions(work, viewer.id, kept=session_id)
            work.record("change_password", "user", viewer.id, viewer.id, after={"ended_sessions": count})


async def _set(work: Work, user_id: UUID, new_hash: str, verified_hash: str | None = None) -> None:
    """Set the hash and tell the owner. Raises `InvalidCredentials` if it is not `verified_hash` any more."""
    # A secret of an app that waits to be confirmed goes, too: it may be of whom the change is to keep out.
    values = {"password_hash": new_hash, "password_changed_at": func.now(), "totp_pending_secret": None, "totp_pending_at": None}
    statement = update(User).where(User.id == user_id).values(values)
    if verified_hash is not None:
        statement = statement.where(User.password_hash == verified_hash)
    email: str | None = await work.scalar(statement.returning(User.email))
    if email is None:
        raise wrong_password()
    await queue_mail(work, EmailTemplate.PASSWORD_CHANGED, email, user_id)
    await events.add(work, EventType.PASSWORD_CHANGED, user_id, recipient_id=user_id, subject_id=f"user_{user_id.hex}")
