"""Mark things as deleted. Lists, searches, look-ups, counters and tags forget them with the mark; edges still lead to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, update

from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import Forbidden, NotFound, StateError, Unsupported, WrongState, invalid
from db.services import explanations, exports, import_schedules, saved_searches, tags
from db.services.deletions.kinds import BY_PREFIX, Deletable
from db.services.deletions.sizes import stored_bytes
from db.settings import state_settings
from db.tables import Deletion

MAX_IDS = 100  # in one mutation
_MANY = "delete_many"

_REMOVED: Mapping[str, Callable[[Work, UUID, str], Awaitable[Any]]] = {
    "explanation": explanations.remove,
    "export": exports.remove,
    "savedsearch": saved_searches.remove,
    "schedule": import_schedules.remove,
    "tag": tags.remove,
}
"""What is deleted for good at once, by the prefix of its ids."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of one id: until when it can be restored, None for what is gone for good, or why it was not deleted."""

    restorable_until: datetime | None = None
    error: StateError | None = None


async def delete(work: Work, prefix: str, key: UUID, *, action: str | None = None) -> datetime:
    """Mark a row as deleted; return until when it can be restored. `action` is how the audit names it, if not by what is deleted.

    Raises `NotFound`, or `Blocked` while something uses it. The row is locked FOR UPDATE, for which whoever submits work on it holds a lock
    that conflicts, and then its blockers are read: nobody begins to use it meanwhile.
    """
    work.viewer.require_write()
    deletable = BY_PREFIX[prefix]
    row = await work.first(live_rows(deletable, work.viewer, key).with_for_update(of=deletable.table))
    if row is None:
        raise NotFound(str(key))
    work.viewer.require_write_in(row.owner_id)
    for blocker in await deletable.blockers(work, row):
        if blocker is not None:
            raise blocker
    size = 0 if deletable.stored is None else await stored_bytes(work, deletable.stored(key))
    deleted_at: datetime = await work.scalar(
        update(deletable.table).where(deletable.table.id == key).values(deleted_at=func.now()).returning(deletable.deleted_at)
    )
    restorable_until = deleted_at + timedelta(seconds=state_settings().deletion_retention)
    deletion = {"id": key, "owner_id": row.owner_id, "kind": deletable.kind, "name": row.name, "size_bytes": size}
    deletion |= {"restorable_until": restorable_until, "created_at": deleted_at, "created_by_id": work.viewer.maker_id}
    await work.run(insert(Deletion).values(deletion))
    work.record(action or f"delete_{deletable.kind}", prefix, key, row.owner_id, {"deleted_at": None}, {"deleted_at": deleted_at})
    return restorable_until


async def delete_many(database: Database, viewer: Viewer, ids: Sequence[tuple[str, UUID]]) -> list[Deleted]:
    """Delete each of these, by the prefix of its ids and its key, in a transaction of its own; tell in the same order what became of it.

    Idempotent: what was deleted before and can be restored counts as deleted. Raises `InvalidInput` for none or too many.
    """
    viewer.require_write()
    if not ids:
        raise invalid("ids", message="Name at least one thing to delete.")
    if len(ids) > MAX_IDS:
        raise invalid("ids", message=f"At most {MAX_IDS} things are deleted at once.")
    results: dict[tuple[str, UUID], Deleted] = {}
    for prefix, key in ids:
        if (prefix, key) not in results:
            results[prefix, key] = await _delete_one(database, viewer, prefix, key)
    return [results[id_] for id_ in ids]


async def _delete_one(database: Database, viewer: Viewer, prefix: str, key: UUID) -> Deleted:
    try:
        async with database.work(viewer) as work:
            if prefix in _REMOVED:
                await _REMOVED[prefix](work, key, _MANY)
                return Deleted()
            if prefix not in BY_PREFIX:
                kinds = ", ".join(sorted([*BY_PREFIX, *_REMOVED]))
                return Deleted(error=Unsupported(f"Only ids of these types can be deleted here: {kinds}."))
            earlier = select(Deletion.restorable_until).where(Deletion.id == key, Deletion.kind == BY_PREFIX[prefix].kind)
            restorable_until = await work.scalar(earlier.where(visible(Deletion, viewer)))
            return Deleted(restorable_until or await delete(work, prefix, key, action=_MANY))
    except (NotFound, WrongState) as error:
        return Deleted(error=error)
    except Forbidden as error:  # in the account that owns this one
        return Deleted(error=Unsupported(error.message))


def live_rows(deletable: Deletable, viewer: Viewer, key: UUID) -> Rows:
    """The row with this key, if the viewer may see it and neither it nor what it is a part of is deleted."""
    rows = deletable.rows(viewer).where(deletable.table.id == key, deletable.deleted_at.is_(None))
    return rows if deletable.parent is None else rows.where(deletable.parent.table.deleted_at.is_(None))
