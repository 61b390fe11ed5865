"""Restore deleted accounts, with what was deleted with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, exists, func, select, update

from db.core.checks import Checks
from db.core.unique import translate_unique_violation
from db.core.viewer import AccountKind
from db.core.work import Work
from db.errors import AddressTaken, NotFound, UsernameTaken
from db.queries.accounts import has_email, has_username, was_called
from db.services.accounts.owned import deletable_tables
from db.services.accounts.teams import revalidate_members
from db.services.accounts.users import TEAM_DOMAIN, check_username
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import User
from db.tables.mail import EmailTemplate


async def restore_account(work: Work, user_id: UUID, username: str | None, *is_restorable: ColumnElement[bool]) -> None:
    """Bring back a deleted account with all that was deleted with it, named `username` if given. Its keys stay revoked, its sessions
    ended; a team has its members again.

    The caller records it: a sign-in is one event. Raises `NotFound` if it is not `is_restorable` any more, `UsernameTaken`, `AddressTaken` or `InvalidInput`.
    """
    name = await require_free_names(work, user_id, username)
    deleted_at = select(User.deleted_at).where(User.id == user_id).scalar_subquery()
    for table in deletable_tables():
        # A row made by a request that had begun before the deletion may have the same name by now. It stays, and this one stays deleted.
        live = table.alias()
        is_live = (live.c.owner_id == table.c.owner_id, func.lower(live.c.name) == func.lower(table.c.name), live.c.deleted_at.is_(None))
        was_deleted_with_it = (table.c.owner_id == user_id, table.c.deleted_at == deleted_at, ~exists().where(*is_live).correlate(table))
        await work.run(update(table).where(*was_deleted_with_it).values(deleted_at=None))
    values: dict[str, Any] = {"deleted_at": None, "deleted_by_owner": False, "username": name}
    values["email"] = case((User.kind == AccountKind.TEAM, f"{name}@{TEAM_DOMAIN}"), else_=User.email)
    statement = update(User).where(User.id == user_id, User.deleted_at.is_not(None), *is_restorable).values(values)
    with translate_unique_violation("uq_users_email", AddressTaken()), translate_unique_violation("uq_users_username", UsernameTaken(name)):
        user = await work.first(statement.returning(User.kind, User.email))
    if user is None:
        raise NotFound(str(user_id))
    if user.kind is AccountKind.TEAM:
        await revalidate_members(work, user_id)
    else:
        await queue_mail(work, EmailTemplate.ACCOUNT_RESTORED, user.email, user_id)


async def require_free_names(work: Work, user_id: UUID, username: str | None) -> str:
    """Return the username that a deleted account is restored with: this one, or the one it had.

    Raises `UsernameTaken` or `AddressTaken` if somebody else has it, or the address, and `InvalidInput` for what is none.
    """
    if username is not None:
        checks = Checks()
        check_username(checks, username)
        checks.raise_if_invalid()
    user = await work.one(select(User.email, User.username).where(User.id == user_id))
    if await work.scalar(select(User.id).where(has_email(user.email), User.id != user_id)):
        raise AddressTaken
    name = user.username if username is None else username
    if await work.scalar(select(User.id).where(has_username(name), User.id != user_id)):
        raise UsernameTaken(name)
    return name


def is_restorable(settings: StateSettings) -> ColumnElement[bool]:
    """The condition that a user was deleted lately enough to be restored."""
    is_recent = User.deleted_at > func.now() - timedelta(seconds=settings.deleted_account_retention)
    return and_(is_recent, User.purge_started_at.is_(None), User.disabled_at.is_(None))


async def restore_by_login(work: Work, settings: StateSettings, login: str, username: str | None) -> None:
    """Restore the account that was deleted last with this address or username, whoever deleted it. Raises as `restore_account`."""
    newest = select(User.id).where(was_called(login), is_restorable(settings)).order_by(User.deleted_at.desc(), User.id.desc()).limit(1)
    user_id: UUID | None = await work.scalar(newest)
    if user_id is None:
        raise NotFound(login)
    await restore_account(work, user_id, username, is_restorable(settings))
    work.record("restore_account", "user", user_id, user_id, after={"deleted_at": None})
