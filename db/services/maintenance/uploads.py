"""Complete or expire uploads that were never completed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Row, func, select, update

from db.core.sql import equals_any
from db.core.viewer import SYSTEM
from db.services import uploads
from db.services.maintenance.context import MaintenanceContext
from db.services.upload_parts import remove
from db.tables import DatasetVersion, Upload
from db.tables.datasets import DatasetVersionStatus, UploadState

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BATCH_SIZE = 500
NOTICE_GRACE = timedelta(minutes=5)  # in which the client of an upload that has arrived completes it itself
ISSUE = {
    "code": "UPLOAD_EXPIRED",
    "message": "The file was not sent, or not completed, in time. Ask for a new upload and send it again.",
    "column": None,
    "row": None,
}


async def expire_uploads(context: MaintenanceContext) -> int:
    """End the open uploads whose URL and `upload_grace` are over, and those of which the store told minutes ago; return how many.

    A file that has arrived as it was announced was only forgotten: its upload is completed as by who requested it. Of all others, the versions
    become FAILED and the objects are deleted, rows first; objects that remain after an interruption are collected as orphans.
    """
    is_overdue = Upload.expires_at < func.now() - timedelta(seconds=context.settings.upload_grace)
    ended = await _complete_noticed(context)
    while True:
        batch = await context.database.rows(
            select(Upload.id).where(Upload.state == UploadState.OPEN, is_overdue).order_by(Upload.expires_at).limit(BATCH_SIZE)
        )
        completed = 0
        for row in batch:
            if await uploads.complete_forgotten(context.database, context.objects, row.id):
                log.info("forgotten_upload_completed", upload=str(row.id))
                completed += 1
        expired = await _expire(context, equals_any(Upload.id, [row.id for row in batch]))
        for upload in expired:
            await remove(context.objects, upload)
        ended += completed + len(expired)
        if len(batch) < BATCH_SIZE or not (completed or expired):  # the rest is locked, and waits for the next run
            return ended


async def _complete_noticed(context: MaintenanceContext) -> int:
    """Complete uploads of which the store told, and whose clients have had the time to complete them. What cannot be is looked at again at its end."""
    is_old = Upload.noticed_at < func.now() - NOTICE_GRACE
    rows = await context.database.rows(select(Upload.id).where(Upload.state == UploadState.OPEN, is_old).order_by(Upload.noticed_at))
    completed = 0
    for row in rows:
        completed += await uploads.complete_forgotten(context.database, context.objects, row.id)
        async with context.database.work(SYSTEM) as work:
            await work.run(update(Upload).where(Upload.id == row.id).values(noticed_at=None))
    return completed


async def _expire(context: MaintenanceContext, in_batch: ColumnElement[bool]) -> list[Row[Any]]:
    still_open = select(Upload.id).where(in_batch, Upload.state == UploadState.OPEN).with_for_update(skip_locked=True)
    columns = (Upload.version_id, Upload.object_key, Upload.part_bytes)
    async with context.database.work(SYSTEM) as work:
        rows = await work.all(
            update(Upload)
            .where(Upload.id.in_(still_open), Upload.state == UploadState.OPEN)
            .values(state=UploadState.EXPIRED)
            .returning(*columns)
        )
        version_update = update(DatasetVersion).where(
            equals_any(DatasetVersion.id, [row.version_id for row in rows]), DatasetVersion.status == DatasetVersionStatus.UPLOADING
        )
        await work.run(version_update.values(status=DatasetVersionStatus.FAILED, issues=[ISSUE], issue_count=1))
    return list(rows)
