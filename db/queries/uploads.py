"""Queries of uploads."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Dataset, DatasetVersion, Upload


def uploads(viewer: Viewer) -> Rows:
    """The uploads to datasets that are not deleted."""
    return (
        select(*Upload.__table__.c)
        .join(DatasetVersion, DatasetVersion.id == Upload.version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None), visible(Upload, viewer))
    )


live_by_id = rows_by_key(uploads, Upload.id)
