"""Sessions of users: begun by a sign-in, and ended by their owner or an operator, or when they expire."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, update

from db.core.networks import ClientInfo, client_network
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.work import Work
from db.errors import Forbidden, NotFound, WrongState
from db.queries.accounts import SESSION_PREFIX, token_hash
from db.queries.sign_ins import is_live
from db.services.accounts import user_agents
from db.tables import UserSession

USE_INTERVAL = timedelta(minutes=1)  # the last use of a token is recorded once in it
RECENT = timedelta(minutes=10)  # for which a sign-in allows to add a factor or a key, so that a stolen session alone does not
MAX_SESSIONS = 50  # of one user at once; a further sign-in ends the one that was idle for longest


async def start_session(work: Work, user_id: UUID, client: ClientInfo, lifetime: timedelta, idle_timeout: timedelta) -> tuple[UUID, str]:
    """Begin a session; return its id and its token, which is not stored."""
    token = f"{SESSION_PREFIX}{secrets.token_urlsafe(32)}"
    user_agent = user_agents.shortened(client.user_agent)
    idlest = (
        select(UserSession.id)
        .where(UserSession.user_id == user_id, is_live())
        .order_by(UserSession.last_active_at.desc())
        .offset(MAX_SESSIONS - 1)
    )
    if await work.run(update(UserSession).where(UserSession.id.in_(idlest)).values(ended_at=func.now())):
        work.revalidate_sessions(user_id)
    statement = insert(UserSession).values(
        user_id=user_id,
        token_sha256=token_hash(token),
        expires_at=func.now() + lifetime,
        idle_seconds=int(idle_timeout.total_seconds()),
        ip_address=client.address,
        network=client_network(client.address),
        user_agent=user_agent,
        device=user_agents.device(user_agent),
        browser=user_agents.browser(user_agent),
    )
    return await work.scalar(statement.returning(UserSession.id)), token


async def end_session(work: Work, session_id: UUID) -> None:
    """End the session that a request came with. Connections opened with it end within seconds."""
    for user_id in await _end(work, UserSession.id == session_id):
        work.record("logout", "session", session_id, user_id)


async def revoke_session(work: Work, session_id: UUID) -> UUID:
    """End a session that the viewer may see; return its id. Connections opened with it end within seconds. Raises `NotFound`.

    One that has ended already is as one that does not exist: the list of sessions leaves it out too.
    """
    owners = await _end(work, UserSession.id == session_id, visible(UserSession, work.viewer))
    if not owners:
        raise NotFound(str(session_id))
    work.record("revoke_session", "session", session_id, owners[0])
    return session_id


async def revoke_other_sessions(work: Work) -> int:
    """End all sessions of the viewer except the one that the request came with; return how many."""
    count = await end_sessions(work, work.viewer.id, kept=work.viewer.require_session())
    if count:
        work.record("revoke_other_sessions", "user", work.viewer.id, work.viewer.id, after={"ended_sessions": count})
    return count


async def end_sessions(work: Work, user_id: UUID, kept: UUID | None = None) -> int:
    """End all sessions of a user, except the one `kept`; return how many."""
    return len(await _end(work, UserSession.user_id == user_id, *([] if kept is None else [UserSession.id != kept])))


async def require_recent_check(work: Work) -> None:
    """Raise `WrongState` unless the session that the request came with began, or was checked again, less than `RECENT` ago.

    One that has ended since the request was let in counts as one that was not checked. Raises `Forbidden` for an API key.
    """
    own = UserSession.id == work.viewer.require_session()
    statement = select(UserSession.checked_at > func.now() - RECENT).where(own, is_live())
    if not await work.scalar(statement):
        raise WrongState(
            "NOT_RECENTLY_CHECKED",
            f"You signed in more than {RECENT // timedelta(minutes=1)} minutes ago, or your session has ended. Sign in again with `login`, and repeat this with the token"
            " of that session.",
        )


async def require_live_session(work: Work) -> None:
    """Raise `Forbidden` if the session that the request came with has ended since. Whoever ends all sessions of a user locks the user's row
    before: called under that lock, this sees it.
    """
    if not await work.scalar(select(UserSession.id).where(UserSession.id == work.viewer.require_session(), is_live())):
        raise Forbidden("Your session has ended meanwhile. Sign in again with `login`.")


async def record_session_use(work: Work, session_ids: Collection[UUID]) -> None:
    """Set the last use of sessions to now, unless it was set less than `USE_INTERVAL` ago. Rows that another process updates are skipped."""
    due = (
        select(UserSession.id)
        .where(equals_any(UserSession.id, session_ids), UserSession.last_active_at < func.now() - USE_INTERVAL, is_live())
        .with_for_update(skip_locked=True)
    )
    await work.run(update(UserSession).where(UserSession.id.in_(due)).values(last_active_at=func.now()))


async def _end(work: Work, *conditions: ColumnElement[bool]) -> list[UUID]:
    """End the live sessions that meet the conditions; return whose they were."""
    statement = update(UserSession).where(*conditions, is_live()).values(ended_at=func.now()).returning(UserSession.user_id)
    user_ids = [row.user_id for row in await work.all(statement)]
    for user_id in user_ids:
        work.revalidate_sessions(user_id)
    return user_ids
