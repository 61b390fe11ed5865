"""Accounts end: their owner or an operator deletes one, it can be restored for a while, and then it is purged.

What the account owns is marked with the same time as the account. So it leaves lists, look-ups and counters at once, and restoring brings back
exactly what had not been deleted before. Jobs stay, as those of a deleted dataset do.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import aliased

from db.core.networks import ClientInfo
from db.core.viewer import UserRole, Viewer
from db.core.work import Database, Work
from db.errors import LastAdmin, LastTeamAdmin, NotFound
from db.queries.accounts import has_email
from db.services.accounts.administration import ADMINS_LOCK, IS_ACTIVE_ADMIN
from db.services.accounts.confirmations import confirm_password, wrong_password
from db.services.accounts.owned import delete_owned, require_no_jobs
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sessions import end_sessions, require_recent_check
from db.services.accounts.sign_in import AttemptLimits
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import ApiKey, Membership, User
from db.tables.mail import EmailTemplate


class AccountDeletions:
    """The deletions of accounts by their owners through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    async def delete(self, viewer: Viewer, password: str | None, client: ClientInfo) -> datetime:
        """Delete the viewer's account; return until when it can be restored. Without a password, the sign-in has to be recent.

        Raises `WrongState`, also while a job has not ended, `InvalidCredentials`, `TooManyAttempts` or `LastAdmin`.
        """
        viewer.require_session()
        verified_hash: str | None = None
        if password is not None:
            (user,) = await self._database.rows(select(User.email, User.password_hash).where(User.id == viewer.id))
            await confirm_password(self._attempts, self._threads, viewer, user, password, client)
            verified_hash = user.password_hash
        async with self._database.work(viewer) as work:
            if password is None:
                await require_recent_check(work)
            deleted_at = await delete_account(work, viewer.id, by_owner=True, verified_hash=verified_hash)
        return deleted_at + timedelta(seconds=self._settings.deleted_account_retention)


async def delete_account(work: Work, user_id: UUID, *, by_owner: bool, verified_hash: str | None = None) -> datetime:
    """Mark the account and what it owns as deleted, end its sessions and memberships and revoke its keys; return the time.

    Raises `NotFound`, `WrongState` while a job of it has not ended, `LastAdmin`, also of a team, or `InvalidCredentials` if the password is not the verified one
    any more.
    """
    await work.run(select(func.pg_advisory_xact_lock(ADMINS_LOCK)))
    is_it = (User.id == user_id) & User.deleted_at.is_(None)
    columns = (User.email, IS_ACTIVE_ADMIN.label("is_admin"), func.now().label("now"))
    user = await work.first(select(*columns).where(is_it))
    if user is None:
        raise NotFound(str(user_id))
    await require_no_jobs(work, user_id, "account")
    await delete_owned(work, user_id)
    counts = {"revoked_keys": await _revoke_keys(work, user_id), "ended_sessions": await end_sessions(work, user_id)}
    work.revalidate_sessions(user_id)
    await queue_mail(work, EmailTemplate.ACCOUNT_DELETED, user.email, user_id)
    work.record("delete_account", "user", user_id, user_id, {"deleted_at": None}, {"deleted_at": user.now} | counts)

    async def mark() -> None:
        # FOR UPDATE waits for whoever inserts a row of this owner: a job that is submitted meanwhile is seen, or comes after the deletion.
        is_same = is_it if verified_hash is None else is_it & (User.password_hash == verified_hash)
        teams = User.id.in_(select(Membership.team_id).where(Membership.user_id == user_id))
        locked = await work.all(select(User.id).where(is_same | teams).order_by(User.id).with_for_update())
        if user_id not in {row.id for row in locked}:
            raise wrong_password() if verified_hash is not None else NotFound(str(user_id))
        await require_no_jobs(work, user_id, "account")
        await _leave_teams(work, user_id)
        # Those that were made meanwhile, before the lock: a restored account would have them.
        await _revoke_keys(work, user_id)
        await end_sessions(work, user_id)
        await work.run(update(User).where(User.id == user_id).values(deleted_at=func.now(), deleted_by_owner=by_owner))
        if user.is_admin and not await work.scalar(select(exists().where(IS_ACTIVE_ADMIN))):
            raise LastAdmin

    work.before_commit(user_id, mark)
    return user.now


async def _revoke_keys(work: Work, user_id: UUID) -> int:
    keys = update(ApiKey).where(ApiKey.user_id == user_id, ApiKey.revoked_at.is_(None))
    return await work.run(keys.values(revoked_at=func.now()))


async def _leave_teams(work: Work, user_id: UUID) -> None:
    """End the memberships of a user whose teams are locked. Raises `LastTeamAdmin` if a team would be left without an ADMIN."""
    others = aliased(Membership)
    can_sign_in = others.user_id.in_(select(User.id).where(User.deleted_at.is_(None), User.disabled_at.is_(None)))
    has_another = exists().where(
        others.team_id == Membership.team_id, others.user_id != user_id, others.role == UserRole.ADMIN, can_sign_in
    )
    of_admin = (Membership.user_id == user_id, Membership.role == UserRole.ADMIN, User.deleted_at.is_(None), ~has_another)
    alone = select(User.username).join(Membership, Membership.team_id == User.id).where(*of_admin).order_by(User.username)
    if names := [row.username for row in await work.all(alone)]:
        raise LastTeamAdmin(names)
    await work.run(delete(Membership).where(Membership.user_id == user_id))


async def delete_by_email(work: Work, email: str) -> None:
    """Delete the account with this address, which then only operators can restore. Raises `NotFound`, `WrongState` or `LastAdmin`."""
    user_id: UUID | None = await work.scalar(select(User.id).where(has_email(email)))
    if user_id is None:
        raise NotFound(email)
    await delete_account(work, user_id, by_owner=False)
