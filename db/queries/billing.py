"""Queries of credits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.policy import visible
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import CreditTransaction


async def last_of_owner(database: Database, viewer: Viewer, owner_id: UUID, limit: int) -> Sequence[Row[Any]]:
    """The last entries of a user's ledger, newest first."""
    statement = select(*CreditTransaction.__table__.c).where(CreditTransaction.owner_id == owner_id, visible(CreditTransaction, viewer))
    return await database.rows(statement.order_by(CreditTransaction.sequence.desc()).limit(limit))
