"""What can be deleted and restored, each kind declared once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, select

from db.core.policy import is_shipped, visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Work
from db.errors import Blocked
from db.services.deletions import blockers, sizes
from db.tables import Dataset, Experiment, Model, Pipeline, Study
from db.tables.deletions import DeletedKind


@dataclass(frozen=True, slots=True)
class Deletable:
    """A kind of row that is marked as deleted, with what is a part of it.

    prefix: Of its ids.
    title: Its name for people.
    rows: Selects id, owner_id and name, and what `blockers` read, of the rows that a viewer may see, deleted ones included.
    blockers: Returns what keeps such a row from being deleted.
    stored: Selects the `object_id` of each reference from a row, by its id, and from its parts to a stored object.
    """

    kind: DeletedKind
    prefix: str
    table: Any
    title: str
    rows: Callable[[Viewer], Rows]
    blockers: Callable[[Work, Any], Awaitable[list[Blocked | None]]]
    stored: Callable[[UUID], Rows] | None = None

    @property
    def deleted_at(self) -> Column[Any]:
        return self.table.__table__.c.deleted_at


def _rows(table: Any, *more: Any) -> Callable[[Viewer], Rows]:
    columns = (table.id, table.owner_id, table.name, *more)

    def rows(viewer: Viewer) -> Rows:
        statement = select(*columns).where(visible(table, viewer))
        return statement.where(~is_shipped(table)) if table is Pipeline else statement

    return rows


_ALL = (
    Deletable(DeletedKind.DATASET, "dataset", Dataset, "dataset", _rows(Dataset), blockers.of_dataset, sizes.of_dataset),
    Deletable(DeletedKind.PIPELINE, "pipeline", Pipeline, "pipeline", _rows(Pipeline), blockers.of_pipeline),
    Deletable(DeletedKind.MODEL, "model", Model, "model", _rows(Model), blockers.of_model, sizes.of_model),
    Deletable(
        DeletedKind.EXPERIMENT, "experiment", Experiment, "experiment", _rows(Experiment), blockers.of_experiment, sizes.of_experiment
    ),
    Deletable(DeletedKind.STUDY, "study", Study, "study", _rows(Study, Study.status), blockers.of_study),
)

BY_PREFIX: Mapping[str, Deletable] = {deletable.prefix: deletable for deletable in _ALL}
