"""Begin the session of a sign-in, whatever it was proven with, and keep the history of sign-ins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, func, insert, literal_column, update

from db.core.networks import ClientInfo, client_network
from db.core.viewer import UserRole, UserTier, Viewer
from db.core.work import Work
from db.queries.accounts import TEAMS, is_person, memberships
from db.services.accounts import user_agents
from db.services.accounts.devices import note_device
from db.services.accounts.sessions import start_session
from db.settings import StateSettings
from db.tables import LoginEvent, User, UserSession
from db.tables.accounts import LoginMethod

KNOWN_CLIENT_DAYS = 90  # after a sign-in, for which its network and browser are known to its account
MAY_SIGN_IN = (is_person(), User.disabled_at.is_(None))


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A sign-in that succeeded. The token is shown once and not stored."""

    viewer: Viewer
    token: str


async def begin_session(
    work: Work,
    settings: StateSettings,
    user_id: UUID,
    method: LoginMethod,
    client: ClientInfo,
    *is_same: ColumnElement[bool],
    action: str,
    **values: Any,
) -> SignedIn | None:
    """Begin a session, recorded as `action`, and set `values` of the user; None if `is_same` does not hold, or the user may not sign in any more."""
    statement = update(User).where(User.id == user_id, *MAY_SIGN_IN, *is_same).values(last_login_at=func.now(), **values)
    is_first = literal_column("old.last_login_at IS NULL", Boolean).label("is_first")
    user = await work.first(statement.returning(User.email, User.role, User.tier, TEAMS.label("teams"), is_first))
    if user is None:
        return None
    lifetime, idle_timeout = timedelta(seconds=settings.session_lifetime), timedelta(seconds=settings.session_idle_timeout)
    session_id, token = await start_session(work, user_id, client, lifetime, idle_timeout)
    await record_sign_in(work, user_id, method, client, None)
    await note_device(work, user_id, user.email, session_id, client, is_first_sign_in=user.is_first)
    role: UserRole = user.role
    tier: UserTier = user.tier
    viewer = Viewer(user_id, role, session_id, tier, is_session=True, teams=memberships(user.teams))
    work.record(action, "session", session_id, user_id, after={"method": method}, actor=viewer)
    return SignedIn(viewer, token)


async def record_sign_in(work: Work, user_id: UUID | None, method: LoginMethod, client: ClientInfo, reason: str | None) -> None:
    """Add to the history of sign-ins; without a `reason` it succeeded."""
    values = {"user_id": user_id, "method": method, "succeeded": reason is None, "reason": reason}
    await work.run(insert(LoginEvent).values(**values, ip_address=client.address, user_agent=user_agents.shortened(client.user_agent)))


def of_known_client(client: ClientInfo) -> tuple[ColumnElement[bool], ...]:
    """The conditions on a session that an account began lately from the same network, with the same browser on the same kind of device."""
    user_agent = user_agents.shortened(client.user_agent)
    return (
        UserSession.network == client_network(client.address),
        UserSession.browser.is_not_distinct_from(user_agents.browser(user_agent)),
        UserSession.device.is_not_distinct_from(user_agents.device(user_agent)),
        UserSession.created_at > func.now() - timedelta(days=KNOWN_CLIENT_DAYS),
    )
