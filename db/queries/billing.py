"""What can be asked of credits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select, true

from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import CreditTransaction


def visible(viewer: Viewer) -> ColumnElement[bool]:
    """Owners see their ledger; admins see all."""
    return true() if viewer.sees_all else CreditTransaction.owner_id == viewer.id


async def last_of_owner(database: Database, viewer: Viewer, owner_id: UUID, limit: int) -> Sequence[Row[Any]]:
    """The last lines of a user's ledger, the newest first."""
    statement = select(*CreditTransaction.__table__.c).where(CreditTransaction.owner_id == owner_id, visible(viewer))
    return await database.rows(statement.order_by(CreditTransaction.sequence.desc()).limit(limit))
