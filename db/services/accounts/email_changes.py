"""A change of address, which takes the password, and counts once the link that was sent to the new address was opened."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from sqlalchemy import func, select, update

from db.core.networks import ClientInfo
from db.core.unique import translate_unique_violation
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import invalid
from db.queries.accounts import has_email
from db.queries.mail import is_suppressed
from db.services import account_tokens
from db.services.accounts.confirmations import confirm_password, wrong_password
from db.services.accounts.invitations import checked_address
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sign_in import AttemptLimits
from db.services.mail.callbacks import lift_suppression
from db.services.mail.sending import queue_mail
from db.tables import User
from db.tables.accounts import TokenPurpose
from db.tables.mail import EmailTemplate

ANSWER_TIME = 0.5  # seconds that a request takes at least, so that its time does not tell whether the address is another user's


class EmailChanges:
    """The changes of addresses through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads

    async def request(self, viewer: Viewer, new_email: str, current_password: str, client: ClientInfo) -> None:
        """Send a link to the new address, and tell the present one; if the new one is another user's, tell them in place of the link.

        The caller does not learn which. With the present address, if it is not verified, or has bounced, it verifies that. Raises `InvalidInput`,
        `InvalidCredentials` or `TooManyAttempts`.
        """
        viewer.require_session()
        new_email = checked_address(new_email, "newEmail")
        columns = (User.email, User.email_verified_at, User.password_hash)
        (user,) = await self._database.rows(select(*columns).where(User.id == viewer.id))
        (state,) = await self._database.rows(is_suppressed(new_email))
        if new_email == user.email and user.email_verified_at is not None and not state.is_suppressed:
            raise invalid("newEmail", message="This is your address already, and it is verified.")
        earliest_answer = time.monotonic() + ANSWER_TIME
        await confirm_password(self._attempts, self._threads, viewer, user, current_password, client)
        if await self._attempts.take_mail("email-change", new_email, client.address):
            async with self._database.work(viewer) as work:
                await _send_link(work, user.password_hash, new_email)
        await asyncio.sleep(earliest_answer - time.monotonic())


async def _send_link(work: Work, verified_hash: str, new_email: str) -> None:
    is_unchanged = (User.id == work.viewer.id, User.password_hash == verified_hash)
    user = await work.first(select(User.id, User.email).where(*is_unchanged).with_for_update(read=True))
    if user is None:
        raise wrong_password()
    owner = await work.first(select(User.id, User.email, User.disabled_at).where(has_email(new_email)))
    if owner is None or owner.id == user.id:
        token_id = await account_tokens.create_token(work, user.id, TokenPurpose.CHANGE_EMAIL, user.email, new_email)
        await queue_mail(work, EmailTemplate.VERIFY_NEW_EMAIL, new_email, user.id, token_id)
    elif owner.disabled_at is None:
        await queue_mail(work, EmailTemplate.ADDRESS_TAKEN, owner.email, owner.id)
    if new_email != user.email:
        await queue_mail(work, EmailTemplate.EMAIL_CHANGE_REQUESTED, user.email, user.id)
    work.record("change_email", "user", user.id, user.id, after={"requested_email": new_email})


async def complete_change(work: Work, token_id: UUID) -> tuple[str, str]:
    """Set the address that the token was sent to, and tell the old one; return it, and the username. Raises `InvalidInput`."""
    token = await account_tokens.use_token(work, token_id)
    has_account = invalid("token", message=f"{token.new_email} is the address of another account by now. Nothing was changed.")
    with translate_unique_violation("uq_users_email", has_account):
        await work.run(update(User).where(User.id == token.user_id).values(email=token.new_email, email_verified_at=func.now()))
    await lift_suppression(work, token.new_email)
    if token.new_email != token.email:
        await queue_mail(work, EmailTemplate.EMAIL_CHANGED, token.email, token.user_id)
    work.record("verify_email", "user", token.user_id, token.user_id, {"email": token.email}, {"email": token.new_email})
    return token.new_email, token.username
