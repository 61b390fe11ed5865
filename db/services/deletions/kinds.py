"""What can be deleted and restored, each kind declared once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Text, cast, func, literal_column, null, select

from db.core.policy import is_shipped, visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Work
from db.errors import Blocked
from db.services.deletions import blockers, sizes
from db.tables import Dataset, DatasetVersion, Experiment, Model, ModelVersion, Pipeline, Run, Study
from db.tables.deletions import DeletedKind


@dataclass(frozen=True, slots=True)
class Parent:
    """What a row is a part of; while that is deleted, the row cannot be deleted or restored by itself."""

    table: Any
    key: Any
    title: str


@dataclass(frozen=True, slots=True)
class Deletable:
    """A kind of row that is marked as deleted, with what is a part of it.

    prefix: Of its ids.
    title: Its name for people.
    name: What it is called; of a part, after what it is a part of. A row that is part of nothing has a column `name`, unique per owner.
    blockers: Returns what keeps a row from being deleted, of id, owner_id, name and the columns `read`.
    stored: Selects the `object_id` of each reference from a row, by its id, and from its parts to a stored object.
    """

    kind: DeletedKind
    prefix: str
    table: Any
    title: str
    name: Any
    blockers: Callable[[Work, Any], Awaitable[list[Blocked | None]]]
    stored: Callable[[UUID], Rows] | None = None
    read: tuple[Any, ...] = ()
    parent: Parent | None = None

    @property
    def deleted_at(self) -> Column[Any]:
        return self.table.__table__.c.deleted_at

    def rows(self, viewer: Viewer) -> Rows:
        """The rows that a viewer may see, deleted ones included: id, owner_id, name, deleted_at, when the parent was deleted and what `blockers` read."""
        table, parent = self.table, self.parent
        owner = table.owner_id if parent is None else parent.table.owner_id
        parent_deleted_at: Any = null() if parent is None else parent.table.deleted_at
        columns: tuple[Any, ...] = (
            table.id,
            owner,
            self.name.label("name"),
            self.deleted_at,
            parent_deleted_at.label("parent_deleted_at"),
            *self.read,
        )
        statement = select(*columns).where(visible(table, viewer))
        if parent is not None:
            statement = statement.join(parent.table, parent.table.id == parent.key)
        return statement.where(~is_shipped(table)) if table is Pipeline else statement


def _numbered(parent: Any, version: Any) -> ColumnElement[str]:
    return parent.name + literal_column("' v'", Text) + cast(version.number, Text)


_RUN_NAME = func.coalesce(Run.name, Experiment.name + literal_column("' #'", Text) + cast(Run.number, Text))

_ALL = (
    Deletable(DeletedKind.DATASET, "dataset", Dataset, "dataset", Dataset.name, blockers.of_dataset, sizes.of_dataset),
    Deletable(DeletedKind.PIPELINE, "pipeline", Pipeline, "pipeline", Pipeline.name, blockers.of_pipeline),
    Deletable(DeletedKind.MODEL, "model", Model, "model", Model.name, blockers.of_model, sizes.of_model),
    Deletable(DeletedKind.EXPERIMENT, "experiment", Experiment, "experiment", Experiment.name, blockers.of_experiment, sizes.of_experiment),
    Deletable(DeletedKind.STUDY, "study", Study, "study", Study.name, blockers.of_study, read=(Study.status,)),
    Deletable(
        DeletedKind.DATASET_VERSION,
        "version",
        DatasetVersion,
        "dataset version",
        _numbered(Dataset, DatasetVersion),
        blockers.of_dataset_version,
        sizes.of_dataset_version,
        parent=Parent(Dataset, DatasetVersion.dataset_id, "dataset"),
    ),
    Deletable(
        DeletedKind.MODEL_VERSION,
        "mversion",
        ModelVersion,
        "model version",
        _numbered(Model, ModelVersion),
        blockers.of_model_version,
        sizes.of_model_version,
        parent=Parent(Model, ModelVersion.model_id, "model"),
    ),
    Deletable(
        DeletedKind.RUN,
        "run",
        Run,
        "run",
        _RUN_NAME,
        blockers.of_run,
        sizes.of_run,
        read=(Run.job_id, Run.study_id),
        parent=Parent(Experiment, Run.experiment_id, "experiment"),
    ),
)

BY_PREFIX: Mapping[str, Deletable] = {deletable.prefix: deletable for deletable in _ALL}
