"""Expire exports: their files are removed, their rows remain."""

from __future__ import annotations

from sqlalchemy import delete, func, select, update

from db.core.sql import equals_any
from db.core.viewer import SYSTEM
from db.services.maintenance.context import MaintenanceContext
from db.tables import Artifact, Export

BATCH_SIZE = 500


async def expire_exports(context: MaintenanceContext) -> int:
    """Remove the files of expired exports; return how many exports. The objects follow as all objects without references do."""
    batch = select(Export.id).where(Export.expired_at.is_(None), Export.expires_at <= func.now()).order_by(Export.expires_at)
    in_batch = Export.id.in_(batch.limit(BATCH_SIZE).with_for_update(skip_locked=True))
    expired = 0
    while True:
        async with context.database.work(SYSTEM) as work:
            rows = await work.all(update(Export).where(in_batch).values(expired_at=func.now()).returning(Export.id))
            await work.run(delete(Artifact).where(equals_any(Artifact.export_id, [row.id for row in rows])))
        expired += len(rows)
        if len(rows) < BATCH_SIZE:
            return expired
