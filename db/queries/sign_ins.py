"""Queries of sessions, and of the history of sign-ins."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Interval, and_, func, literal_column, select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import LoginEvent, OAuthIdentity, UserSession

_idle_expires_at = UserSession.last_active_at + UserSession.idle_seconds * literal_column("interval '1 second'", Interval)
EXPIRES_AT = func.least(UserSession.expires_at, _idle_expires_at)


def is_live() -> ColumnElement[bool]:
    """The condition that a session has neither ended nor expired."""
    return and_(UserSession.ended_at.is_(None), func.now() < EXPIRES_AT)


def sessions(viewer: Viewer) -> Rows:
    """The live sessions that a viewer may see; `expires_at` is when one ends without further use."""
    return select(
        UserSession.id,
        UserSession.user_id,
        UserSession.created_at,
        UserSession.last_active_at,
        EXPIRES_AT.label("expires_at"),
        UserSession.ip_address,
        UserSession.user_agent,
        UserSession.device,
        UserSession.browser,
    ).where(visible(UserSession, viewer), is_live())


session_by_id = rows_by_key(sessions, UserSession.id)
sessions_of_user = rows_by_parent(sessions, UserSession.user_id, UserSession.last_active_at.desc(), UserSession.id.desc())


def login_events(viewer: Viewer) -> Rows:
    """The sign-ins that a viewer may see."""
    return select(LoginEvent.__table__).where(visible(LoginEvent, viewer))


login_event_by_id = rows_by_key(login_events, LoginEvent.id)
login_events_of_user = Listing(login_events, lambda _: Sort("createdAt", LoginEvent.created_at, LoginEvent.id), parent=LoginEvent.user_id)


def oauth_identities(viewer: Viewer) -> Rows:
    """The identities at providers that a viewer may see."""
    return select(OAuthIdentity.__table__).where(visible(OAuthIdentity, viewer))


oauth_identities_of_user = rows_by_parent(oauth_identities, OAuthIdentity.user_id, OAuthIdentity.linked_at, OAuthIdentity.id)
