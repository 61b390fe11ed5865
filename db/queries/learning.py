"""Queries of tutorials, each with the steps that the viewer has completed: in one statement, however many tutorials there are."""

from __future__ import annotations

from sqlalchemy import ColumnElement, func, select

from db.core.batch import rows_by_key
from db.core.policy import is_shipped, visible, visible_or_shipped
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Tutorial, TutorialProgress

_COLUMNS = [column for column in Tutorial.__table__.c if column.name not in {"owner_id", "position", "steps", "retired_at"}]


def completed(viewer: Viewer) -> ColumnElement[object]:
    """When the viewer completed which step, by its key; admins too have only their own. Null if there is none."""
    times = select(func.jsonb_object_agg(TutorialProgress.step_key, TutorialProgress.completed_at)).where(
        TutorialProgress.tutorial_id == Tutorial.id, TutorialProgress.user_id == viewer.id, visible(TutorialProgress, viewer)
    )
    return times.correlate(Tutorial).scalar_subquery()


def tutorials(viewer: Viewer) -> Rows:
    """The tutorials of this release."""
    is_seen = visible_or_shipped(Tutorial, viewer)
    return select(*_COLUMNS, Tutorial.steps.label("step_rows"), completed(viewer).label("completed")).where(
        is_seen, Tutorial.retired_at.is_(None)
    )


by_id = rows_by_key(tutorials, Tutorial.id)
all_tutorials = PreparedRows(lambda viewer: tutorials(viewer).where(is_shipped(Tutorial)).order_by(Tutorial.position, Tutorial.slug))
