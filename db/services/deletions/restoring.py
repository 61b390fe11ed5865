"""Restore what was deleted, with all that is a part of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, update

from db.core.policy import visible
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import NameTaken, NotFound, WrongState
from db.services.deletions.kinds import BY_PREFIX, Deletable
from db.services.free_names import free_number, numbered_base
from db.tables import Deletion, User
from db.tables.deletions import DeletedKind


@dataclass(frozen=True, slots=True)
class Restored:
    """What is back, under which name, and whether that is a new one."""

    kind: DeletedKind
    id: UUID
    name: str
    is_renamed: bool = False


async def restore(work: Work, prefix: str, key: UUID) -> Restored:
    """Bring back what was deleted, under its name or, if that is taken, with a number behind it. Idempotent.

    Raises `NotFound` for what was never deleted by itself, is past its time or being purged, or belongs to a deleted account, and `WrongState` for a part of something
    that is deleted.
    """
    work.viewer.require_write()
    if prefix not in BY_PREFIX:
        raise NotFound(str(key))
    deletable = BY_PREFIX[prefix]
    has_owner = select(User.id).where(User.id == Deletion.owner_id, User.deleted_at.is_(None)).exists()
    is_it = (Deletion.id == key, Deletion.kind == deletable.kind, has_owner)
    is_kept = (Deletion.restorable_until > func.now(), Deletion.purge_started_at.is_(None))
    deletion = await work.first(select(Deletion).where(*is_it, *is_kept, visible(Deletion, work.viewer)).with_for_update(of=Deletion))
    row = await work.first(deletable.rows(work.viewer).where(deletable.table.id == key))
    if row is None or (deletion is None and row.deleted_at is not None):
        raise NotFound(str(key))
    if row.parent_deleted_at is not None and deletable.parent is not None:
        title = deletable.parent.title
        raise WrongState("DELETED", f"The {title} of this {deletable.title} is deleted too. Restore the {title} first.")
    if deletion is None:
        return Restored(deletable.kind, key, row.name)
    await work.run(delete(Deletion).where(Deletion.id == key))
    name = await _unmark(work, deletable, row)
    before, after = {"deleted_at": row.deleted_at, "name": row.name}, {"deleted_at": None, "name": name}
    work.record("restore", prefix, key, row.owner_id, before, after)
    return Restored(deletable.kind, key, name, is_renamed=name != row.name)


async def _unmark(work: Work, deletable: Deletable, row: Any) -> str:
    """Clear the mark; return the name that the row has now. Who took a number meanwhile has it: the next is tried."""
    table, name = deletable.table, row.name
    if deletable.parent is not None:
        await work.run(update(table).where(table.id == row.id).values(deleted_at=None))
        return name
    while True:
        try:
            async with work.savepoint():
                with translate_unique_violation(f"uq_{table.__tablename__}_owner_id_name", NameTaken(deletable.title, name)):
                    await work.run(update(table).where(table.id == row.id).values(deleted_at=None, name=name))
                return name
        except NameTaken:
            base = numbered_base(row.name)
            name = f"{base} ({await free_number(work, table.__tablename__, row.owner_id, base)})"
