"""Queries of import schedules."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Dataset, ImportSchedule

COLUMNS = (
    ImportSchedule.id,
    ImportSchedule.dataset_id,
    ImportSchedule.url,
    ImportSchedule.cron,
    ImportSchedule.timezone,
    ImportSchedule.is_active,
    ImportSchedule.next_at,
    ImportSchedule.last_job_id,
)


def with_deleted(viewer: Viewer) -> Rows:
    """The schedules a viewer may see, those of deleted datasets included."""
    return select(*COLUMNS).where(visible(ImportSchedule, viewer))


def schedules(viewer: Viewer) -> Rows:
    """The schedules that lookups by id find."""
    return with_deleted(viewer).join(Dataset, Dataset.id == ImportSchedule.dataset_id).where(Dataset.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, ImportSchedule.id)
live_by_id = rows_by_key(schedules, ImportSchedule.id)
of_dataset = rows_by_parent(with_deleted, ImportSchedule.dataset_id, ImportSchedule.created_at.asc(), ImportSchedule.id.asc())
