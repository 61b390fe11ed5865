"""Invitations to register: one address, one role, once, for seven days, and only while the admin who sent it is one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update

from db.core.checks import Checks
from db.core.policy import visible
from db.core.viewer import UserRole
from db.core.work import Database, Work
from db.errors import InvalidInput, NotFound, invalid
from db.queries import invitations as queries
from db.services import account_tokens
from db.services.accounts.users import check_email
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import Invitation, User
from db.tables.mail import EmailTemplate

LIFETIME = timedelta(days=7)


async def invite(work: Work, email: str, role: UserRole) -> UUID:
    """Invite who has this address to register, in the viewer's name; return the invitation's id. Open ones for the address end.

    It is the same if the address is a user's already: the mail tells them so. Raises `InvalidInput`.
    """
    work.viewer.require_admin()
    email = checked_address(email, "email")
    same_address = (func.lower(Invitation.email) == email.lower()) & queries.is_open()
    await work.run(update(Invitation).where(same_address).values(revoked_at=func.now()))
    values = {"email": email, "role": role, "invited_by_id": work.viewer.id, "expires_at": func.now() + LIFETIME}
    invitation_id: UUID = await work.scalar(insert(Invitation).values(values).returning(Invitation.id))
    await queue_mail(work, EmailTemplate.INVITATION, email, invitation_id=invitation_id)
    work.record("invite_member", "invitation", invitation_id, work.viewer.id, after={"email": email, "role": role})
    return invitation_id


async def revoke_invitation(work: Work, invitation_id: UUID) -> UUID:
    """End an invitation that the viewer may see; return its id. One that has ended is as one that does not exist. Raises `NotFound`."""
    work.viewer.require_write()
    statement = update(Invitation).where(Invitation.id == invitation_id, visible(Invitation, work.viewer), queries.is_open())
    sender_id = await work.scalar(statement.values(revoked_at=func.now()).returning(Invitation.invited_by_id))
    if sender_id is None:
        raise NotFound(str(invitation_id))
    work.record("revoke_invitation", "invitation", invitation_id, sender_id)
    return invitation_id


async def find_invitation(database: Database, settings: StateSettings, token: str, email: str) -> UUID:
    """Return the invitation that the token is of, if this address can register with it. Raises `InvalidInput`."""
    invitation_id = account_tokens.read_token(settings, token, account_tokens.INVITATION)
    if invitation_id is None:
        raise _not_usable()
    rows = await database.rows(queries.usable(invitation_id))
    if not rows or rows[0].email.lower() != email.lower():
        raise _not_usable()
    return rows[0].id


async def use_invitation(work: Work, invitation_id: UUID) -> Row[Any]:
    """Mark the invitation as used; return it. Raises `InvalidInput` if it cannot be used any more.

    Its sender is locked, so that a change of their role comes before or after.
    """
    invitation = await work.first(queries.usable(invitation_id).with_for_update(of=User, read=True))
    statement = update(Invitation).where(Invitation.id == invitation_id, queries.is_open()).values(accepted_at=func.now())
    if invitation is None or not await work.run(statement):
        raise account_tokens.not_valid()
    return invitation


async def first_admin_id(work: Work, email: str | None) -> UUID | None:
    """Return the admin with this address, or the oldest; None if there is none."""
    is_admin = (User.role == UserRole.ADMIN, User.deleted_at.is_(None), User.disabled_at.is_(None))
    statement = select(User.id).where(*is_admin).order_by(User.created_at, User.id).limit(1)
    return await work.scalar(statement if email is None else statement.where(func.lower(User.email) == email.lower()))


def checked_address(email: str, name: str) -> str:
    """Return the address without spaces around it. Raises `InvalidInput` with an issue named `name` for what is none."""
    checks, email = Checks(), email.strip()
    check_email(checks, email, name)
    checks.raise_if_invalid()
    return email


def _not_usable() -> InvalidInput:
    return invalid(
        "invitationToken",
        message="This invitation cannot be used with this address: it is for another one, was used or revoked, or is older than seven days."
        " Register with the address that it was sent to, or ask for another.",
    )
