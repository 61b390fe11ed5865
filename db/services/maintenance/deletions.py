"""Purge what was deleted longer ago than it can be restored, or that its owner gave up: the objects of uploads first, then rows, then files.

The start of a purge is marked, and from then on nothing restores the thing. Every further step deletes or empties what is there, in transactions of its own,
so that the next run continues one that was killed; the record of the deletion goes last. A row that lineage points to stays as a tombstone.

The rows that refer to stored files go before the files: those are shared by all that has the same bytes, so that only their count tells whether they are
needed. What a kill leaves between the two is an object without a row, which is collected as an orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Row, Select, Update, delete, exists, func, literal, select, update
from sqlalchemy.exc import DBAPIError

from db.core.sql import Rows
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.maintenance import parts
from db.services.maintenance.batches import in_batches
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.objects import remove_unreferenced
from db.services.maintenance.rows import PURGE_BATCH_SIZE, delete_in_batches
from db.services.maintenance.tombstones import EMPTIED, empty_in_batches
from db.tables import (
    ArtifactUpload,
    CreditBudget,
    Dataset,
    DatasetVersion,
    Deletion,
    Experiment,
    Explanation,
    Export,
    ImportSchedule,
    Model,
    ModelAliasEvent,
    ModelDataset,
    ModelVersion,
    Pipeline,
    PipelineInput,
    PipelineSnapshot,
    Run,
    SchemaProposal,
    Study,
    Tagging,
    Upload,
)
from db.tables.datasets import HOLDING_UPLOAD_STATES
from db.tables.deletions import DeletedKind
from db.tables.experiments import ArtifactUploadState

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Part = tuple[Any, ColumnElement[bool]]
Change = tuple[Any, ColumnElement[bool], Mapping[str, Any]]

BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """What a purge of one thing does.

    parts: What goes, each table before what it refers to.
    rows: What goes unless lineage points to it, and else is emptied, if its table has tombstones: parts first, the thing itself last.
    uploads: The uploads whose objects may be there, which nothing else refers to.
    changes: What stays, with other values.
    """

    parts: list[Part]
    rows: list[Part]
    uploads: tuple[Part, ...] = ()
    changes: tuple[Change, ...] = ()


async def purge_deleted(context: MaintenanceContext) -> int:
    """Purge what is due; return how many objects and rows were removed or emptied. A purge that fails keeps no other from its turn."""
    async with context.database.work(SYSTEM) as work:
        is_due = Deletion.purge_started_at.is_(None) & (Deletion.restorable_until <= func.now())
        await work.run(update(Deletion).where(is_due).values(purge_started_at=func.now()))
    started = (
        select(Deletion.id, Deletion.kind).where(Deletion.purge_started_at.is_not(None)).order_by(Deletion.purge_started_at, Deletion.id)
    )
    removed, failures = 0, list[str]()
    while deletions := await context.database.rows(started.limit(BATCH_SIZE)):
        ended = 0
        for deletion in deletions:
            plan = _PLANS[deletion.kind](deletion.id)
            try:
                removed += await _run(context, plan)
                ended += await _end(context.database, deletion, plan)
            except DBAPIError as error:
                failures.append(f"{deletion.kind.value} {deletion.id}: {error.orig}")
        removed += await remove_unreferenced(context)
        if ended < len(deletions):  # of what others hold rows: the next run goes on
            log.info("purges_wait", purges=len(deletions) - ended)
            break
    if failures:
        raise MaintenanceTaskFailed(f"{len(failures)} purges failed and are tried again, such as that of {failures[0]}")
    return removed


async def _run(context: MaintenanceContext, plan: Plan) -> int:
    database, removed = context.database, 0
    for table, condition in plan.uploads:
        removed += await _remove_objects(context, table, condition)
    for table, condition, values in plan.changes:
        removed += await _change_in_batches(database, table, condition, values)
    for table, condition in plan.parts:
        removed += await delete_in_batches(database, table, condition, PURGE_BATCH_SIZE)
    for table, condition in plan.rows:
        removed += await delete_in_batches(database, table, condition & ~parts.is_referred_to(table), PURGE_BATCH_SIZE)
        if table in EMPTIED:
            removed += await empty_in_batches(database, table, condition)
    return removed


async def _end(database: Database, deletion: Row[Any], plan: Plan) -> int:
    """Remove the record of the deletion, unless a row is left: one that another transaction held was left out. Return how many were removed."""
    kept = [(table, condition & table.purged_at.is_(None)) for table, condition in plan.rows if table in EMPTIED]
    left = (select(literal(1)).select_from(table).where(condition) for table, condition in chain(plan.parts, kept))
    is_empty = [~exists(rows.correlate(None)) for rows in left]
    async with database.work(SYSTEM) as work:
        return await work.run(delete(Deletion).where(Deletion.id == deletion.id, *is_empty))


async def _remove_objects(context: MaintenanceContext, table: Any, condition: ColumnElement[bool]) -> int:
    """Remove the objects of these uploads, and what has arrived of those in parts. The rows follow with the other parts."""
    removed, after = 0, UUID(int=0)
    while True:
        in_parts = (Upload.part_bytes if table is Upload else ArtifactUpload.part_count).is_not(None).label("in_parts")
        page = select(table.id, table.object_key, in_parts).where(condition, table.id > after).order_by(table.id)
        rows = await context.database.rows(page.limit(BATCH_SIZE))
        for row in rows:
            if row.in_parts:
                await context.objects.multipart.abort(row.object_key)
        await context.objects.delete([row.object_key for row in rows])
        removed += len(rows)
        if len(rows) < BATCH_SIZE:
            return removed
        after = rows[-1].id


async def _change_in_batches(database: Database, table: Any, condition: ColumnElement[bool], values: Mapping[str, Any]) -> int:
    def change(limit: int) -> Update:
        batch = select(table.id).where(condition).limit(limit).with_for_update(skip_locked=True)
        return update(table).where(table.id.in_(batch)).values(dict(values))

    return await in_batches(database, BATCH_SIZE, change)


def _deletions_of(ids: Rows) -> Part:
    """The records of parts that were deleted by themselves before: they go with what they are a part of."""
    return Deletion, Deletion.id.in_(ids)


def _expire(of_exports: ColumnElement[bool]) -> Change:
    """Exports are a history, as jobs are: they expire at once."""
    is_kept = Export.expires_at.is_not(None) & Export.expired_at.is_(None)
    return Export, of_exports & is_kept, {"expires_at": func.least(Export.expires_at, func.now()), "expired_at": func.now()}


def _forget_rows(versions: Rows) -> Change:
    """Explanations are a part of the model, but their data have values of the rows that they explain."""
    return Explanation, Explanation.dataset_version_id.in_(versions) & Explanation.data.is_not(None), {"data": None}


def _of_dataset(id_: UUID) -> Plan:
    versions = _ids(DatasetVersion, DatasetVersion.dataset_id == id_)
    own: list[Part] = [(table, table.dataset_id == id_) for table in (Tagging, ImportSchedule, PipelineInput, ModelDataset, SchemaProposal)]
    plan = _of_dataset_versions(versions, DatasetVersion.dataset_id == id_)
    return Plan([_deletions_of(versions), *own, *plan.parts], [*plan.rows, (Dataset, Dataset.id == id_)], plan.uploads, plan.changes)


def _of_dataset_version(id_: UUID) -> Plan:
    return _of_dataset_versions(_ids(DatasetVersion, DatasetVersion.id == id_), DatasetVersion.id == id_)


def _of_dataset_versions(versions: Rows, is_it: ColumnElement[bool]) -> Plan:
    return Plan(
        [*parts.of_dataset_versions(versions)],
        [(DatasetVersion, is_it)],
        ((Upload, Upload.version_id.in_(versions) & Upload.state.in_(HOLDING_UPLOAD_STATES)),),
        (_expire(Export.dataset_version_id.in_(versions)), _forget_rows(versions)),
    )


def _of_pipeline(id_: UUID) -> Plan:
    """Definitions that ran stay whole: they tell how models came to be, whatever became of the pipeline."""
    own: list[Part] = [(table, table.pipeline_id == id_) for table in (Tagging, PipelineInput)]
    return Plan(own, [(PipelineSnapshot, PipelineSnapshot.pipeline_id == id_), (Pipeline, Pipeline.id == id_)])


def _of_model(id_: UUID) -> Plan:
    versions = _ids(ModelVersion, ModelVersion.model_id == id_)
    own: list[Part] = [(table, table.model_id == id_) for table in (Tagging, ModelDataset, ModelAliasEvent)]
    plan = _of_model_versions(versions, ModelVersion.model_id == id_)
    return Plan([_deletions_of(versions), *own, *plan.parts], [*plan.rows, (Model, Model.id == id_)], changes=plan.changes)


def _of_model_version(id_: UUID) -> Plan:
    return _of_model_versions(_ids(ModelVersion, ModelVersion.id == id_), ModelVersion.id == id_)


def _of_model_versions(versions: Rows, is_it: ColumnElement[bool]) -> Plan:
    return Plan([*parts.of_model_versions(versions)], [(ModelVersion, is_it)], changes=(_expire(Export.model_version_id.in_(versions)),))


def _of_experiment(id_: UUID) -> Plan:
    runs = _ids(Run, Run.experiment_id == id_)
    plan = _of_runs(runs, Run.experiment_id == id_)
    own = (Tagging, Tagging.experiment_id == id_)
    budget = (CreditBudget, CreditBudget.experiment_id == id_)
    return Plan([_deletions_of(runs), own, budget, *plan.parts], [*plan.rows, (Experiment, Experiment.id == id_)], plan.uploads)


def _of_run(id_: UUID) -> Plan:
    return _of_runs(_ids(Run, Run.id == id_), Run.id == id_)


def _of_runs(runs: Rows, is_it: ColumnElement[bool]) -> Plan:
    is_open = ArtifactUpload.run_id.in_(runs) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
    return Plan([*parts.of_runs(runs)], [(Run, is_it)], ((ArtifactUpload, is_open),))


def _of_study(id_: UUID) -> Plan:
    return Plan([*parts.of_studies(_ids(Study, Study.id == id_))], [(Study, Study.id == id_)])


def _ids(table: Any, condition: ColumnElement[bool]) -> Select[tuple[UUID]]:
    return select(table.id).where(condition)


_PLANS: Mapping[DeletedKind, Callable[[UUID], Plan]] = {
    DeletedKind.DATASET: _of_dataset,
    DeletedKind.DATASET_VERSION: _of_dataset_version,
    DeletedKind.PIPELINE: _of_pipeline,
    DeletedKind.MODEL: _of_model,
    DeletedKind.MODEL_VERSION: _of_model_version,
    DeletedKind.EXPERIMENT: _of_experiment,
    DeletedKind.RUN: _of_run,
    DeletedKind.STUDY: _of_study,
}
