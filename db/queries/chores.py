"""What can be asked of the recurring tasks of the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from db.core.work import Database
from db.tables import Chore


async def listed(database: Database) -> Sequence[Row[Any]]:
    """The chores that were ever begun, by name, all columns. `runs`, `failures` and `changed` only grow; `ended_at` is null while one runs,
    or when its worker died of it."""
    return await database.rows(select(*Chore.__table__.c).order_by(Chore.name))
