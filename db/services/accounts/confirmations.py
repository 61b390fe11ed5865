"""Changes that take the present password, so that a session alone is not enough for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from db.core.networks import ClientInfo
from db.core.viewer import Viewer
from db.errors import InvalidCredentials
from db.services.accounts import passwords
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sign_in import AttemptLimits


async def confirm_password(
    attempts: AttemptLimits, threads: HashingThreads, viewer: Viewer, user: Row[Any], password: str, client: ClientInfo
) -> None:
    """Verify the password of the viewer's row with `email` and `password_hash`. Raises `InvalidCredentials` or `TooManyAttempts`.

    Whoever has only the session must not guess it: wrong ones count as sign-ins that fail, and for the session wherever it is used.
    """
    session_id = viewer.require_session()
    if user.password_hash is None or not passwords.is_possible(password):
        raise wrong_password()
    await attempts.take_confirmation(session_id, user.email, client.address)
    if not await threads.run(passwords.verify, user.password_hash, password):
        raise wrong_password()
    await attempts.give_back_confirmation(session_id, user.email, client.address)


def wrong_password() -> InvalidCredentials:
    """The error of a password that is not the present one."""
    return InvalidCredentials("The current password is not this one. Without it, reset it with `requestPasswordReset`.")
