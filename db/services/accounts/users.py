"""Create users, and change what their accounts are called and the hashes of their passwords."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from db.core.audit import differences
from db.core.checks import Checks
from db.core.unique import translate_unique_violation
from db.core.viewer import UserRole, UserTier
from db.core.work import Work
from db.errors import EmailTaken, Forbidden, NotFound, UsernameTaken
from db.queries.accounts import has_email
from db.services.accounts.sessions import end_sessions, require_live_session
from db.services.accounts.tokens import new_token, store_token
from db.tables import User

TEAM_DOMAIN = "teams.invalid"
"""Of the addresses of teams, which receive no mail (RFC 2606)."""

# What RFC 5321 calls a Mailbox, without quotes, comments and address literals: with those, one mailbox would have many spellings, each an address
# of its own for the limits on mails and for who has an account. ASCII, since mails go without SMTPUTF8 and letters that look alike are others.
_EMAIL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_email(checks: Checks, email: str, name: str) -> None:
    """Add an issue named `name` for what is no address."""
    if not _EMAIL.fullmatch(email) or len(email) > 254:
        message = f"{email!r} is not an e-mail address; write it as name@domain, in ASCII: a domain with other letters as `xn--…`."
        checks.add(name, message=message)
    elif email.lower().endswith(f"@{TEAM_DOMAIN}"):
        checks.add(name, message=f"Addresses at {TEAM_DOMAIN} stand for teams, and receive no mail. Give another.")


async def add_user(
    work: Work,
    email: str,
    username: str,
    full_name: str | None = None,
    role: UserRole = UserRole.MEMBER,
    tier: UserTier = UserTier.FREE,
    password_hash: str | None = None,
) -> str:
    """Create a user and return their bearer token, which is not stored. Raises `InvalidInput`, `EmailTaken` or `UsernameTaken`."""
    checks = Checks()
    check_new_user(checks, email, username, full_name)
    checks.raise_if_invalid()
    values = {"email": email, "username": username, "full_name": full_name, "role": role, "tier": tier, "password_hash": password_hash}
    with translate_unique_violation("uq_users_email", EmailTaken(email)):
        user_id = await insert_user(work, values)
    work.record("add_user", "user", user_id, user_id, after=values)
    token = new_token()
    await store_token(work, user_id, token, "first token")
    return token


def check_new_user(checks: Checks, email: str, username: str, full_name: str | None) -> None:
    """Add issues for what is no address, username or full name."""
    checks.text(full_name, "fullName", length=200)
    check_email(checks, email, "email")
    check_username(checks, username)


def check_username(checks: Checks, username: str) -> None:
    """Add an issue for what is no username."""
    if not _USERNAME.fullmatch(username):
        checks.add(
            "username", message="A username is 1 to 64 letters, digits, dots, dashes and underscores, and begins with a letter or digit."
        )


async def insert_user(work: Work, values: dict[str, Any]) -> UUID:
    """Insert a user; return their id. Raises `UsernameTaken`."""
    with translate_unique_violation("uq_users_username", UsernameTaken(values["username"])):
        return await work.scalar(insert(User).values(values).returning(User.id))


async def lock_own_account(work: Work) -> None:
    """Lock the viewer's row, so that the end of their account, or of all of their sessions, comes before or after. Raises `Forbidden` if it came
    before.

    What gives them a further right asks here: it would outlive the change of the password by which they got rid of a thief, or be there again
    when the account is restored.
    """
    is_live = (User.id == work.viewer.id, User.deleted_at.is_(None), User.disabled_at.is_(None))
    if not await work.scalar(select(User.id).where(*is_live).with_for_update(key_share=True)):
        raise Forbidden("Your account was deleted or disabled meanwhile.")
    await require_live_session(work)


async def update_account(work: Work, changes: dict[str, Any]) -> UUID:
    """Change the viewer's `username` or `full_name`; None clears the latter. Raises `InvalidInput` or `UsernameTaken`."""
    work.viewer.require_session()
    checks = Checks()
    checks.text(changes.get("full_name"), "fullName", length=200)
    if "username" in changes:
        if changes["username"] is None:
            checks.add("username", message="A user must have a username; leave the field out to keep the present one.")
        else:
            check_username(checks, changes["username"])
    checks.raise_if_invalid()
    if changes:
        with translate_unique_violation("uq_users_username", UsernameTaken(str(changes.get("username")))):
            user = await work.one(select(User.username, User.full_name).where(User.id == work.viewer.id).with_for_update(key_share=True))
            await work.run(update(User).where(User.id == work.viewer.id).values(changes))
        work.record("update_account", "user", work.viewer.id, work.viewer.id, *differences(user, changes))
    return work.viewer.id


async def set_password_hash(work: Work, email: str, password_hash: str) -> None:
    """Set the hash of a user's password, and end their sessions; their API keys stay valid. Raises `NotFound`."""
    values = {"password_hash": password_hash, "password_changed_at": func.now()}
    user_id: UUID | None = await work.scalar(update(User).where(has_email(email)).values(values).returning(User.id))
    if user_id is None:
        raise NotFound(email)
    work.revalidate_sessions(user_id)
    count = await end_sessions(work, user_id)
    work.record("set_password", "user", user_id, user_id, after={"ended_sessions": count})
