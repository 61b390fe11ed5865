"""Uploads that were announced and never completed."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.services.chores.ground import Ground
from db.tables import DatasetVersion, Upload
from db.tables.datasets import DatasetVersionStatus, UploadState

AT_ONCE = 500
ISSUE = {
    "code": "UPLOAD_EXPIRED",
    "message": "The file was not sent, or not completed, in time. Ask for a new upload and send it again.",
    "column": None,
    "row": None,
}


async def expire_uploads(ground: Ground) -> int:
    """Long after its URL ended an open upload expires: its version is FAILED and says why, and what was sent is removed.

    The rows go first; objects that are left when this is broken off belong to nobody from then on, and are collected as such.
    """
    late = Upload.expires_at < func.now() - timedelta(seconds=ground.settings.upload_grace)
    some = select(Upload.id).where(Upload.state == UploadState.OPEN, late).order_by(Upload.expires_at).limit(AT_ONCE)
    mine = Upload.id.in_(some.with_for_update(skip_locked=True)) & (Upload.state == UploadState.OPEN)
    expired = 0
    while True:
        async with ground.database.work(SYSTEM) as work:
            gone = await work.all(
                update(Upload).where(mine).values(state=UploadState.EXPIRED).returning(Upload.version_id, Upload.object_key)
            )
            version = update(DatasetVersion).where(
                DatasetVersion.id.in_([row.version_id for row in gone]), DatasetVersion.status == DatasetVersionStatus.UPLOADING
            )
            await work.run(version.values(status=DatasetVersionStatus.FAILED, issues=[ISSUE], issue_count=1))
        await ground.objects.delete([row.object_key for row in gone])
        expired += len(gone)
        if len(gone) < AT_ONCE:
            return expired
