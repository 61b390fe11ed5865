"""Queries of what external runs read."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_parent
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import RunInput


def run_inputs(viewer: Viewer) -> Rows:
    """The inputs of the runs that a viewer may see."""
    return select(*RunInput.__table__.c).where(visible(RunInput, viewer))


of_run = rows_by_parent(run_inputs, RunInput.run_id, RunInput.created_at.asc(), RunInput.source.asc(), RunInput.digest.asc())
