"""What stays of a purged row where lineage points to it: id, owner, number, status, times and `purged_at`. Names read `purged`, all else is emptied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Update, func, select, update

from db.core.work import Database
from db.services.maintenance.batches import in_batches
from db.tables import Dataset, DatasetVersion, Experiment, Model, ModelVersion, Pipeline, Run, Study

PURGED = "purged"  # what names and texts read that cannot be empty
BATCH_SIZE = 500
_NO_TEXTS: Mapping[str, Any] = {"description": None, "created_by_id": None}

EMPTIED: Mapping[Any, Mapping[str, Any]] = {
    Dataset: {"name": PURGED, "target_column": None, "meta": {}, **_NO_TEXTS},
    DatasetVersion: {
        **dict.fromkeys(("label", "original_filename", "content_type", "size_bytes", "sha256", "reading")),
        **dict.fromkeys(("row_count", "column_count", "item_count", "item_summary")),
        "columns": [],
        "issues": [],
        "issue_count": 0,
        "preview": [],
    },
    Pipeline: {"name": PURGED, "task_key": None, "definition": {"nodes": [], "links": []}, **_NO_TEXTS},
    Model: {"name": PURGED, "annotations": {}, **_NO_TEXTS},
    ModelVersion: {
        "algorithm": PURGED,
        "framework": PURGED,
        "is_trusted": False,
        **dict.fromkeys(("label", "description", "architecture", "seed")),
        "annotations": {},
        "metrics": [],
        "hyperparameters": {},
        "config": {},
        "packages": {},
    },
    Experiment: {"name": PURGED, "notes": None, "annotations": {}, **_NO_TEXTS},
    Run: {
        "name": PURGED,
        "hyperparameters": {},
        "config": {},
        "annotations": {},
        "seed": 0,
        **dict.fromkeys(("notes", "architecture", "algorithm", "best_step", "error")),
    },
    Study: {
        "name": PURGED,
        "metric": PURGED,
        "space": [],
        "extras": [],
        "importances": [],
        "importances_of": 0,
        "seed": 0,
        **dict.fromkeys(("created_by_id", "target", "best_trial_id", "best_value")),
    },
}
"""The values that the columns of each table get, by their attributes."""


async def empty_in_batches(database: Database, table: Any, condition: ColumnElement[bool]) -> int:
    """Make these rows tombstones, in batches, one transaction each; locked rows are left for the next run."""
    values = {**EMPTIED[table], "purged_at": func.now(), "deleted_at": func.coalesce(table.deleted_at, func.now())}

    def change(limit: int) -> Update:
        batch = select(table.id).where(condition, table.purged_at.is_(None)).limit(limit).with_for_update(skip_locked=True)
        return update(table).where(table.id.in_(batch)).values(values)

    return await in_batches(database, BATCH_SIZE, change)
