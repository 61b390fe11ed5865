"""Invitations to register, and to be in a team: one address, one role, once, for seven days, and only while the ADMIN who sent it is one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.viewer import UserRole
from db.core.work import Database, Work
from db.errors import InvalidInput, NotFound, WrongState, invalid
from db.queries import invitations as queries
from db.queries.accounts import has_email
from db.services import account_tokens, events
from db.services.accounts.members import is_visible_team, require_team_admin
from db.services.accounts.teams import require_few_teams
from db.services.accounts.users import check_email, lock_own_account
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import Invitation, Membership, User
from db.tables.mail import EmailTemplate
from db.tables.notifications import EventType

LIFETIME = timedelta(days=7)


async def invite(work: Work, email: str, role: UserRole, team_id: UUID | None = None, *, is_mailed: bool = True) -> UUID:
    """Invite who has this address to register, or to a team, in the viewer's name; return the invitation's id. Open ones for the same end.

    It is the same whether the address is a user's or a member's already: the mail tells them so. Raises `InvalidInput`, and for a team `NotFound`
    or `Forbidden`.
    """
    if team_id is None:
        work.viewer.require_admin()
    else:
        await require_inviter(work, team_id)
    email = checked_address(email, "email")
    is_same = (func.lower(Invitation.email) == email.lower(), queries.TEAM_ID.is_not_distinct_from(team_id), queries.is_open())
    await work.run(update(Invitation).where(*is_same).values(revoked_at=func.now()))
    owner_id = work.viewer.id if team_id is None else team_id
    values = {"email": email, "role": role, "owner_id": owner_id, "invited_by_id": work.viewer.id, "expires_at": func.now() + LIFETIME}
    invitation_id: UUID = await work.scalar(insert(Invitation).values(values).returning(Invitation.id))
    if is_mailed:
        await queue_mail(work, EmailTemplate.INVITATION, email, invitation_id=invitation_id)
        if team_id is not None:
            await _tell_user(work, email, team_id)
    # All members of a team see its events: they know each other by name, and its ADMINs alone know who is invited.
    after = {"email": email, "role": role} if team_id is None else {"role": role}
    work.record("invite_member", "invitation", invitation_id, owner_id, after=after)
    return invitation_id


async def _tell_user(work: Work, email: str, team_id: UUID) -> None:
    """Tell the user with this address, if it is anybody's, who is not in the team."""
    is_member = exists().where(Membership.team_id == team_id, Membership.user_id == User.id)
    user_id: UUID | None = await work.scalar(select(User.id).where(has_email(email), User.disabled_at.is_(None), ~is_member))
    if user_id is not None:
        name = await work.scalar(select(User.username).where(User.id == team_id))
        await events.add(work, EventType.TEAM_INVITED, user_id, recipient_id=user_id, name=name)


async def require_inviter(work: Work, team_id: UUID) -> None:
    """Raise `NotFound` or `Forbidden` unless the viewer may invite to a team. Their role in it stays until the commit."""
    work.viewer.require_session()
    work.viewer.require_write()
    if not await work.scalar(select(User.id).where(*is_visible_team(work, team_id))):
        raise NotFound(str(team_id))
    await require_team_admin(work, team_id, is_locked=True)


async def revoke_invitation(work: Work, invitation_id: UUID) -> UUID:
    """End an invitation that the viewer may see; return its id. One that has ended is as one that does not exist.

    Raises `NotFound`, or `Forbidden` for an API key if it is to a team.
    """
    work.viewer.require_write()
    statement = update(Invitation).where(Invitation.id == invitation_id, visible(Invitation, work.viewer), queries.is_open())
    ended = await work.first(statement.values(revoked_at=func.now()).returning(Invitation.owner_id, queries.TEAM_ID.label("team_id")))
    if ended is None:
        raise NotFound(str(invitation_id))
    if ended.team_id is not None:
        work.viewer.require_session()
    work.record("revoke_invitation", "invitation", invitation_id, ended.owner_id)
    return invitation_id


async def accept_invitation(work: Work, invitation_id: UUID) -> Row[Any]:
    """Put the viewer in the team that they are invited to; return the membership.

    Raises `InvalidInput` for one that they cannot use, `WrongState` while their address is not verified or if they are in the team already, or
    `QuotaExceeded` if they are in too many.
    """
    work.viewer.require_session()
    await lock_own_account(work)
    user = await work.one(select(User.email, User.email_verified_at).where(User.id == work.viewer.id))
    invitation = await work.first(queries.usable_for_team(invitation_id))
    if invitation is None or invitation.email.lower() != user.email.lower():
        raise not_acceptable()
    if user.email_verified_at is None:
        raise WrongState(
            "ADDRESS_NOT_VERIFIED",
            "Your address is not verified. Ask for a link to it, with your present address in `changeEmail`, open that, and repeat this.",
        )
    if not await work.run(update(Invitation).where(Invitation.id == invitation_id, queries.is_open()).values(accepted_at=func.now())):
        raise not_acceptable()
    await require_few_teams(work)
    values = {"team_id": invitation.team_id, "user_id": work.viewer.id, "role": invitation.role}
    membership = await work.first(upsert(Membership).values(values).on_conflict_do_nothing().returning(*Membership.__table__.c))
    if membership is None:
        raise WrongState("MEMBER", f"You are in the team {invitation.team} already. One of its ADMINs can change your role.")
    work.revalidate_sessions(work.viewer.id)
    after = {"user_id": ref("user", work.viewer.id), "role": invitation.role}
    work.record("accept_invitation", "invitation", invitation_id, invitation.team_id, after=after)
    return membership


async def decline_invitation(work: Work, invitation_id: UUID) -> None:
    """End an invitation for who has its token. Raises `InvalidInput` if it has ended."""
    statement = update(Invitation).where(Invitation.id == invitation_id, queries.is_open()).values(revoked_at=func.now())
    owner_id = await work.scalar(statement.returning(Invitation.owner_id))
    if owner_id is None:
        raise not_acceptable()
    work.record("decline_invitation", "invitation", invitation_id, owner_id)


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


def not_acceptable() -> InvalidInput:
    """The error of an invitation that is unknown, is another's, or has ended."""
    return invalid(
        "token",
        message="This invitation cannot be used: it is for another address than yours, was used, declined or revoked, or is older than seven days."
        " Sign in with the address that it was sent to, or ask for another.",
    )


def _not_usable() -> InvalidInput:
    return invalid(
        "invitationToken",
        message="This invitation cannot be used with this address: it is for another one, was used or revoked, or is older than seven days."
        " Register with the address that it was sent to, or ask for another.",
    )
