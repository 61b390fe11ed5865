"""Recount the counters that triggers maintain."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import BigInteger, Column, ColumnElement, cast, func, literal, select, text, update

from db.core.base import Table
from db.core.viewer import SYSTEM
from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.user_counters import recount
from db.tables import DatasetVersion, StoredObject, Tag, Tagging, Upload, User
from db.tables.datasets import DatasetVersionStatus, UploadState

log: structlog.stdlib.BoundLogger = structlog.get_logger()

STATEMENT_TIMEOUT = "15min"  # every row of a table is recounted in one statement

REFERENCES: tuple[Column[object], ...] = tuple(
    key.parent for table in Table.metadata.sorted_tables for key in table.foreign_keys if key.column is StoredObject.__table__.c.id
)
"""The columns of all tables that refer to stored objects."""


def _reference_count() -> ColumnElement[int]:
    counts = [select(func.count()).where(column == StoredObject.id).scalar_subquery() for column in REFERENCES]
    return sum(counts, start=cast(literal(0), BigInteger))


def _stored_bytes() -> ColumnElement[int]:
    sizes = select(func.coalesce(func.sum(StoredObject.size_bytes), 0)).where(StoredObject.owner_id == User.id)
    return cast(sizes.scalar_subquery(), BigInteger)


def _live_taggings() -> ColumnElement[int]:
    number = select(func.count()).where(Tagging.tag_id == Tag.id, Tagging.is_live)
    return cast(number.scalar_subquery(), BigInteger)


async def _release_ingested(context: MaintenanceContext) -> int:
    is_ready = select(DatasetVersion.id).where(DatasetVersion.id == Upload.version_id, DatasetVersion.status == DatasetVersionStatus.READY)
    statement = update(Upload).where(Upload.state == UploadState.COMPLETED, is_ready.exists()).values(state=UploadState.INGESTED)
    async with context.database.work(SYSTEM) as work:
        released = await work.all(statement.returning(Upload.id))
    for row in released:
        log.warning("upload_released", upload=str(row.id))
    return len(released)


async def reconcile_counters(context: MaintenanceContext) -> int:
    """Correct and log drifted counters, and uploads that count in a quota though they are ingested; return how many.

    There should be none: triggers maintain the counters, and the settle of an ingest its upload, except that of a worker of a release before.
    """
    drifted = await _release_ingested(context)
    counters: tuple[tuple[Any, Any, ColumnElement[int]], ...] = (
        (StoredObject, StoredObject.reference_count, _reference_count()),
        (User, User.storage_bytes, _stored_bytes()),
        (Tag, Tag.usage_count, _live_taggings()),
    )
    for model, counter, actual in counters:
        async with context.database.work(SYSTEM) as work:
            await work.run(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
            await work.run(text("SET LOCAL transaction_timeout = 0"))
            drifted_rows = await work.all(select(model.id).where(counter != actual).order_by(model.id))
        for row in drifted_rows:
            # A transaction that changes what is counted holds or awaits this row's lock for its trigger's update. Under the lock, the
            # next statement sees exactly the changes that the counter includes; all others update it later.
            async with context.database.work(SYSTEM) as work:
                before = await work.scalar(select(counter).where(model.id == row.id).with_for_update(key_share=True))
                repair = update(model).where(model.id == row.id, counter != actual).values({counter.key: actual}).returning(counter)
                after = await work.scalar(repair)
            if after is not None:
                drifted += 1
                log.warning(
                    "counter_drift_corrected", counter=f"{model.__tablename__}.{counter.key}", row=str(row.id), was=before, is_now=after
                )
    return drifted + await recount(context, STATEMENT_TIMEOUT)
