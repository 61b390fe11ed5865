"""Expire uploads that were never completed."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update

from db.core.sql import equals_any
from db.core.viewer import SYSTEM
from db.services.maintenance.context import MaintenanceContext
from db.tables import DatasetVersion, Upload
from db.tables.datasets import DatasetVersionStatus, UploadState

BATCH_SIZE = 500
ISSUE = {
    "code": "UPLOAD_EXPIRED",
    "message": "The file was not sent, or not completed, in time. Ask for a new upload and send it again.",
    "column": None,
    "row": None,
}


async def expire_uploads(context: MaintenanceContext) -> int:
    """Expire open uploads `upload_grace` after their URL: mark the versions as FAILED, delete the objects, return how many.

    Rows are updated first; objects that remain after an interruption are collected as orphans.
    """
    is_overdue = Upload.expires_at < func.now() - timedelta(seconds=context.settings.upload_grace)
    batch = select(Upload.id).where(Upload.state == UploadState.OPEN, is_overdue).order_by(Upload.expires_at).limit(BATCH_SIZE)
    in_batch = Upload.id.in_(batch.with_for_update(skip_locked=True)) & (Upload.state == UploadState.OPEN)
    expired = 0
    while True:
        async with context.database.work(SYSTEM) as work:
            rows = await work.all(
                update(Upload).where(in_batch).values(state=UploadState.EXPIRED).returning(Upload.version_id, Upload.object_key)
            )
            version_update = update(DatasetVersion).where(
                equals_any(DatasetVersion.id, [row.version_id for row in rows]), DatasetVersion.status == DatasetVersionStatus.UPLOADING
            )
            await work.run(version_update.values(status=DatasetVersionStatus.FAILED, issues=[ISSUE], issue_count=1))
        await context.objects.delete([row.object_key for row in rows])
        expired += len(rows)
        if len(rows) < BATCH_SIZE:
            return expired
