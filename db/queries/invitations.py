"""Queries of invitations to register."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select

from db.core.batch import rows_by_key
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import UserRole, Viewer
from db.tables import Invitation, User


def is_open() -> ColumnElement[bool]:
    """The condition that an invitation was neither used nor revoked, and has not expired."""
    return and_(Invitation.accepted_at.is_(None), Invitation.revoked_at.is_(None), Invitation.expires_at > func.now())


def invitations(viewer: Viewer) -> Rows:
    """The open invitations that a viewer may see."""
    columns = (Invitation.id, Invitation.email, Invitation.role, Invitation.invited_by_id, Invitation.created_at, Invitation.expires_at)
    return select(*columns).where(visible(Invitation, viewer), is_open())


by_id = rows_by_key(invitations, Invitation.id)
of_inviter = Listing(invitations, lambda _: Sort("createdAt", Invitation.created_at, Invitation.id), parent=Invitation.invited_by_id)


def usable(invitation_id: UUID) -> Rows:
    """The invitation if somebody can register with it: it is open, and its sender is still an admin. With its `sender`, a username."""
    sender_is_admin = and_(User.role == UserRole.ADMIN, User.deleted_at.is_(None), User.disabled_at.is_(None))
    columns = (Invitation.id, Invitation.email, Invitation.role, Invitation.expires_at, User.username.label("sender"))
    return (
        select(*columns).join(User, User.id == Invitation.invited_by_id).where(Invitation.id == invitation_id, is_open(), sender_is_admin)
    )
