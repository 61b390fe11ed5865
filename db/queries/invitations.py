"""Queries of invitations: to register, and to be in a team."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, and_, exists, func, or_, select
from sqlalchemy.orm import aliased

from db.core.batch import rows_by_key
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import UserRole, Viewer
from db.tables import Invitation, Membership, User

TEAM_ID: ColumnElement[UUID] = func.nullif(Invitation.owner_id, Invitation.invited_by_id, type_=Uuid())
"""The team of an invitation; null for one to register, which is its sender's."""


def is_open() -> ColumnElement[bool]:
    """The condition that an invitation was neither used nor revoked, and has not expired."""
    return and_(Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None), Invitation.expires_at > func.now())


def invitations(viewer: Viewer) -> Rows:
    """The open invitations that a viewer may see."""
    columns = (Invitation.id, Invitation.email, Invitation.role, Invitation.invited_by_id, Invitation.created_at, Invitation.expires_at)
    return select(*columns, TEAM_ID.label("team_id")).where(visible(Invitation, viewer), is_open())


by_id = rows_by_key(invitations, Invitation.id)


def to_register(viewer: Viewer) -> Rows:
    """The open invitations to register that a viewer may see: their own, or those of all admins."""
    return invitations(viewer).where(Invitation.owner_id == Invitation.invited_by_id)


listing = Listing(to_register, lambda _: Sort("createdAt", Invitation.created_at, Invitation.id))
of_account = Listing(invitations, lambda _: Sort("createdAt", Invitation.created_at, Invitation.id), parent=Invitation.owner_id)
"""By account: the invitations to a team, or those to register that a person sent."""


def usable(invitation_id: UUID) -> Rows:
    """The invitation if somebody can register with it: it is open, and its sender is still an admin. With its `sender`, a username."""
    columns = (Invitation.id, Invitation.email, Invitation.role, Invitation.expires_at, User.username.label("sender"))
    statement = select(*columns).join(User, User.id == Invitation.invited_by_id)
    return statement.where(Invitation.id == invitation_id, TEAM_ID.is_(None), is_open(), User.role == UserRole.ADMIN, *_is_active(User))


def usable_for_team(invitation_id: UUID) -> Rows:
    """The invitation if somebody can be in a team by it: it is open, and its sender still manages the team. With the usernames of both."""
    team = aliased(User, name="team")
    is_member = (Membership.team_id == Invitation.owner_id, Membership.user_id == User.id, Membership.role == UserRole.ADMIN)
    manages_team = or_(User.role == UserRole.ADMIN, and_(User.role != UserRole.VIEWER, exists().where(*is_member)))
    columns = (Invitation.id, Invitation.email, Invitation.role, Invitation.expires_at, Invitation.owner_id.label("team_id"))
    statement = (
        select(*columns, User.username.label("sender"), team.username.label("team"))
        .join(User, User.id == Invitation.invited_by_id)
        .join(team, team.id == TEAM_ID)
    )
    return statement.where(Invitation.id == invitation_id, is_open(), manages_team, *_is_active(User), *_is_active(team))


def _is_active(user: type[User]) -> tuple[ColumnElement[bool], ...]:
    return user.deleted_at.is_(None), user.disabled_at.is_(None)
