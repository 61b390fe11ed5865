"""Queries of teams' members."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_parent
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Membership, User


def memberships(viewer: Viewer) -> Rows:
    """The memberships of teams that the viewer is in and that are not deleted."""
    statement = select(Membership.team_id, Membership.user_id, Membership.role, Membership.created_at).join(
        User, User.id == Membership.team_id
    )
    return statement.where(visible(Membership, viewer), User.deleted_at.is_(None))


of_team = Listing(memberships, lambda _: Sort("createdAt", Membership.created_at, Membership.user_id), parent=Membership.team_id)
of_user = rows_by_parent(memberships, Membership.user_id, Membership.created_at, Membership.team_id)
