"""Give up what was deleted before its time: nothing restores it any more, and the next run of the purge removes it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select, update

from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services.deletions.kinds import BY_PREFIX
from db.tables import Deletion


async def purge(work: Work, prefix: str, key: UUID) -> int:
    """Have a deleted thing purged; return the bytes that this gives back. Idempotent until it is gone.

    Raises `NotFound`, also for what is purged already, or `WrongState` for what is not deleted, or only with its parent or its account.
    """
    work.viewer.require_write()
    if prefix not in BY_PREFIX:
        raise NotFound(str(key))
    deletable = BY_PREFIX[prefix]
    is_it = (Deletion.id == key, Deletion.kind == deletable.kind, visible(Deletion, work.viewer))
    deletion = await work.first(select(Deletion).where(*is_it).with_for_update(of=Deletion))
    if deletion is None:
        row = await work.first(deletable.rows(work.viewer).where(deletable.table.id == key, deletable.table.purged_at.is_(None)))
        if row is None:
            raise NotFound(str(key))
        work.viewer.require_write_in(row.owner_id)
        if deletable.parent is not None and row.parent_deleted_at is not None:
            raise WrongState(
                "DELETED", f"This {deletable.title} was deleted with its {deletable.parent.title}. Purge the {deletable.parent.title}."
            )
        if row.deleted_at is not None:
            raise WrongState("DELETED", f"This {deletable.title} was deleted with its account, and is purged with that.")
        raise WrongState("LIVE", f"This {deletable.title} is not deleted. Delete it first, then purge it.")
    work.viewer.require_write_in(deletion.owner_id)
    if deletion.purge_started_at is None:
        await work.run(update(Deletion).where(Deletion.id == key).values(purge_started_at=func.now()))
        work.record("purge", prefix, key, deletion.owner_id, {"name": deletion.name}, {"sizeBytes": deletion.size_bytes})
    return deletion.size_bytes
