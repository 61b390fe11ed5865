"""What a deletion would take away, told before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, func, literal_column, select

from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Work
from db.errors import Blocked
from db.queries import artifacts, explanations, items, models, proposals, runs, schedules, studies, versions
from db.services.deletions.deleting import live_rows
from db.services.deletions.kinds import BY_PREFIX
from db.services.deletions.sizes import stored_bytes
from db.settings import state_settings
from db.tables import DatasetVersion, ImportSchedule, ModelAliasEvent, ModelVersion, Run, SchemaProposal, Trial
from db.tables.deletions import DeletedKind

Parts = Mapping[str, tuple[Callable[[Viewer], Rows], Any]]
"""The look-up of each type that goes with a row, and the column that has the id of the row."""


def _of_version(column: Any) -> Parts:
    return {
        "DatasetProfile": (versions.profiles, column),
        "DatasetItem": (items.items, column),
        "Artifact": (artifacts.artifacts, column),
        "SchemaProposal": (proposals.proposals, column),
    }


def _of_model_version(column: Any) -> Parts:
    return {"Explanation": (explanations.live, column), "Artifact": (artifacts.artifacts, column)}


_PARTS: Mapping[DeletedKind, Parts] = {
    DeletedKind.DATASET: {
        "DatasetVersion": (versions.versions, DatasetVersion.dataset_id),
        "ImportSchedule": (schedules.schedules, ImportSchedule.dataset_id),
        **_of_version(DatasetVersion.dataset_id),
        "SchemaProposal": (proposals.proposals, SchemaProposal.dataset_id),
    },
    DeletedKind.DATASET_VERSION: _of_version(DatasetVersion.id),
    DeletedKind.PIPELINE: {},
    DeletedKind.MODEL: {
        "ModelVersion": (models.live_versions, ModelVersion.model_id),
        "ModelAliasEvent": (models.live_alias_events, ModelAliasEvent.model_id),
        **_of_model_version(ModelVersion.model_id),
    },
    DeletedKind.MODEL_VERSION: _of_model_version(ModelVersion.id),
    DeletedKind.EXPERIMENT: {"Run": (runs.runs, Run.experiment_id), "Artifact": (artifacts.artifacts, Run.experiment_id)},
    DeletedKind.RUN: {"Artifact": (artifacts.artifacts, Run.id)},
    DeletedKind.STUDY: {"Trial": (studies.live_trials, Trial.study_id)},
}


@dataclass(frozen=True, slots=True)
class Preview:
    """What deleting a row would do now: how many of which parts no look-up finds any more, the bytes that only it stores, and what blocks it."""

    kind: DeletedKind
    id: UUID
    parts: Mapping[str, int]
    size: int
    blockers: Sequence[Blocked]
    restorable_until: datetime


async def preview(work: Work, prefix: str, key: UUID) -> Preview | None:
    """Tell what `delete` would do; nothing is changed or locked. None for what the viewer does not see or is deleted."""
    deletable = BY_PREFIX.get(prefix)
    row = None if deletable is None else await work.first(live_rows(deletable, work.viewer, key))
    if deletable is None or row is None:
        return None
    counts = {name: _count(rows(work.viewer).where(column == key)) for name, (rows, column) in _PARTS[deletable.kind].items()}
    now, *numbers = await work.one(select(func.now(), *counts.values()))
    parts = {name: number for name, number in zip(counts, numbers, strict=True) if number}
    size = 0 if deletable.stored is None else await stored_bytes(work, deletable.stored(key))
    blockers = [blocker for blocker in await deletable.blockers(work, row) if blocker is not None]
    restorable_until = now + timedelta(seconds=state_settings().deletion_retention)
    return Preview(deletable.kind, key, parts, size, blockers, restorable_until)


def _count(rows: Rows) -> Any:
    ones = rows.with_only_columns(literal_column("1", Integer), maintain_column_froms=True)
    return select(func.count()).select_from(ones.subquery()).scalar_subquery()
