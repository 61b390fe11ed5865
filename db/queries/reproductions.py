"""What came of reproducing runs: the metrics and the files of the model of a run and of the run that it repeats, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, any_, bindparam, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import aliased

from db.core.base import finite_or_none
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.artifacts import MODEL, RESULTS, SIGNATURE
from db.tables import Artifact, ModelVersion, Run, RunMetric, StoredObject
from db.tables.experiments import RunStatus

TIMED_METRICS = frozenset({"step_seconds"})
"""Metrics of the machine's speed, which no two runs share."""
COMPARED_ROLES = (MODEL, SIGNATURE, RESULTS, "CHECKPOINT", "FEATURE_IMPORTANCE", "CONFUSION_MATRIX")
"""Files that are functions of what was learned. Others, such as the card, name the model's version and times."""
_MEASURES = ("count", "last", "lastStep", "min", "minStep", "max", "maxStep")


class DifferenceKind(StrEnum):
    """What a difference between two runs is of."""

    METRIC = "metric"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric's summary or one file's checksum, which is not the same in both runs; None where one lacks it."""

    kind: DifferenceKind
    name: str
    original: Any
    reproduced: Any


@dataclass(frozen=True, slots=True)
class Reproduction:
    """`differences` is None until both runs have completed."""

    run_id: UUID
    original_run_id: UUID
    differences: Sequence[Difference] | None


def _run_ids() -> Any:
    return any_(bindparam("run_ids", type_=ARRAY(Uuid)))


def _pairs(viewer: Viewer) -> Rows:
    original = aliased(Run)
    columns = (Run.id, Run.original_run_id, Run.status, original.status.label("original_status"))
    is_same_owners = (original.id == Run.original_run_id) & (original.owner_id == Run.owner_id)
    return select(*columns).join(original, is_same_owners).where(Run.id == _run_ids(), visible(Run, viewer))


def _metrics(viewer: Viewer) -> Rows:
    return select(*RunMetric.__table__.c).where(RunMetric.run_id == _run_ids(), visible(RunMetric, viewer)).order_by(RunMetric.key)


def _files(viewer: Viewer) -> Rows:
    name = func.coalesce(Artifact.path, Artifact.filename).label("name")
    return (
        select(ModelVersion.run_id, name, StoredObject.sha256)
        .join(Artifact, Artifact.model_version_id == ModelVersion.id)
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(ModelVersion.run_id == _run_ids(), or_(*(Artifact.role == role for role in COMPARED_ROLES)), visible(Artifact, viewer))
        .order_by(name)
    )


_PAIRS, _METRICS, _FILES = (PreparedRows(build, "run_ids") for build in (_pairs, _metrics, _files))


async def of_run(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Reproduction]:
    """A batch: what came of the runs that are to reproduce others, in three statements at most. Other runs are left out."""
    pairs = await _PAIRS(database, viewer, run_ids=keys)
    run_ids = list({id_ for pair in pairs if _has_completed(pair) for id_ in (pair.id, pair.original_run_id)})
    metrics: dict[UUID, dict[str, Any]] = {run_id: {} for run_id in run_ids}
    files: dict[UUID, dict[str, Any]] = {run_id: {} for run_id in run_ids}
    if run_ids:
        for row in await _METRICS(database, viewer, run_ids=run_ids):
            if row.key not in TIMED_METRICS:
                metrics[row.run_id][row.key] = _summary(row)
        for row in await _FILES(database, viewer, run_ids=run_ids):
            files[row.run_id][row.name] = row.sha256
    return {
        pair.id: Reproduction(
            pair.id,
            pair.original_run_id,
            None
            if not _has_completed(pair)
            else [
                *_differences(DifferenceKind.METRIC, metrics[pair.original_run_id], metrics[pair.id]),
                # A model that is gone for good left no file that could differ.
                *(
                    _differences(DifferenceKind.FILE, files[pair.original_run_id], files[pair.id])
                    if files[pair.original_run_id] and files[pair.id]
                    else ()
                ),
            ],
        )
        for pair in pairs
    }


def _has_completed(pair: Any) -> bool:
    return pair.status is RunStatus.COMPLETED and pair.original_status is RunStatus.COMPLETED


def _summary(row: Any) -> dict[str, Any]:
    values = (row.count, row.last, row.last_step, row.min, row.min_step, row.max, row.max_step)
    return dict(zip(_MEASURES, map(_comparable, values), strict=True))


def _comparable(value: Any) -> Any:
    """NaN, which equals nothing, and infinities as text."""
    return str(value) if isinstance(value, float) and finite_or_none(value) is None else value


def _differences(kind: DifferenceKind, original: Mapping[str, Any], reproduced: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*original, *reproduced}):
        if original.get(name) != reproduced.get(name):
            yield Difference(kind, name, original.get(name), reproduced.get(name))
