"""Queries of the models that external runs log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.policy import visible
from db.core.sql import Rows, equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import Experiment, LoggedModel, Run


def logged_models(viewer: Viewer) -> Rows:
    """The logged models that a viewer may see, with the experiment of their run; neither is deleted."""
    return (
        select(*LoggedModel.__table__.c, Run.experiment_id)
        .join(Run, Run.id == LoggedModel.run_id)
        .join(Experiment, Experiment.id == Run.experiment_id)
        .where(visible(LoggedModel, viewer), Run.deleted_at.is_(None), Experiment.deleted_at.is_(None))
    )


def _outputs(viewer: Viewer) -> Rows:
    return logged_models(viewer).where(LoggedModel.step.is_not(None))


by_id = rows_by_key(logged_models, LoggedModel.id)
outputs_of_run = rows_by_parent(_outputs, LoggedModel.run_id, LoggedModel.id.asc())


async def search(
    database: Database,
    viewer: Viewer,
    experiment_ids: Sequence[UUID],
    conditions: Sequence[ColumnElement[bool]],
    before: UUID | None,
    limit: int,
) -> Sequence[Row[Any]]:
    """The logged models of these experiments, newest first, from behind `before` on."""
    found = logged_models(viewer).where(equals_any(Run.experiment_id, experiment_ids), *conditions)
    if before is not None:
        found = found.where(LoggedModel.id < before)
    return await database.rows(found.order_by(LoggedModel.id.desc()).limit(limit))
