"""Purge accounts that were deleted long ago: objects first, rows after.

The start of a purge empties the user's row of all that is personal, and from then on nobody can restore the account. Every further step deletes what
is there, in transactions of its own, so that the next run continues one that was killed. At the end only the row of the user remains, with its ledger
and the jobs that the ledger refers to, emptied, and the events of the audit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import ColumnElement, Update, case, delete, exists, func, literal, or_, select, true, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.selectable import Select

from db.core.base import Table
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.accounts.owned import pays_for
from db.services.maintenance import parts
from db.services.maintenance.batches import in_batches
from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.objects import PREFIXES
from db.services.maintenance.rows import PURGE_BATCH_SIZE, delete_in_batches
from db.services.maintenance.tombstones import PURGED
from db.tables import (
    Artifact,
    ArtifactUpload,
    CreditTransaction,
    Dataset,
    DatasetVersion,
    Experiment,
    Explanation,
    Export,
    Job,
    JobAttempt,
    JobCheckpoint,
    JobDocument,
    JobEvent,
    JobInput,
    JobNode,
    JobOutput,
    Model,
    ModelAliasEvent,
    ModelVersion,
    Pipeline,
    PipelineSnapshot,
    Run,
    StoredObject,
    Study,
    SuppressedAddress,
    Tag,
    Tagging,
    User,
)
from db.tables.jobstates import PURGED_ERROR, TERMINAL

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ATTEMPTS, LOCK_WAIT = 20, 0.1  # seconds between attempts to delete rows that others hold; then the next run goes on
_PERSONAL: dict[str, Any] = {
    "email": PURGED,
    "username": PURGED,
    **dict.fromkeys(
        (
            "email_verified_at",
            "full_name",
            "password_hash",
            "password_changed_at",
            "last_login_at",
            "totp_secret",
            "totp_step",
            "totp_pending_secret",
            "totp_pending_at",
        )
    ),
}
_EMPTIED: dict[str, Any] = {
    "parameters": {},
    "error": orjson.loads(PURGED_ERROR),
    **dict.fromkeys(
        (
            "current_step",
            "retry_of_id",
            "dataset_id",
            "dataset_version_id",
            "pipeline_id",
            "snapshot_id",
            "model_version_id",
            "worker_id",
        )
    ),
}
"""What the guard of `jobs` allows to be done with an ended job."""


async def purge_accounts(context: MaintenanceContext) -> int:
    """Purge the accounts that were deleted longer ago than they can be restored; return how many objects and rows were removed.

    An account with a job that has not ended, or that pays for one of a team, waits for it.
    """
    await _start(context)
    removed = 0
    for row in await context.database.rows(select(User.id).where(User.purge_started_at.is_not(None), User.purged_at.is_(None))):
        removed += await _purge(context, row.id)
    return removed


async def _start(context: MaintenanceContext) -> None:
    is_over = User.deleted_at <= func.now() - timedelta(seconds=context.settings.deleted_account_retention)
    is_idle = ~exists().where(or_(Job.owner_id == User.id, pays_for(User.id)), Job.status.not_in(TERMINAL))
    statement = update(User).where(is_over, User.purge_started_at.is_(None), is_idle).values(_PERSONAL | {"purge_started_at": func.now()})
    addresses = select(func.lower(User.email)).where(is_over, User.purge_started_at.is_(None), is_idle)
    async with context.database.work(SYSTEM) as work:
        await work.run(delete(SuppressedAddress).where(SuppressedAddress.address.in_(addresses)))
        await work.run(statement)


async def _purge(context: MaintenanceContext, user_id: UUID) -> int:
    removed = 0
    await context.objects.multipart.abort(f"uploads/{user_id}/")
    for prefix in PREFIXES:
        async for page in context.objects.pages(f"{prefix}{user_id}/"):
            keys = [listed.key for listed in page.objects]
            await context.objects.delete(keys)
            removed += len(keys)
    for _ in range(ATTEMPTS):
        while changed := await _delete_rows(context.database, user_id):
            removed += changed
        if await _end(context.database, user_id):
            log.info("account_purged", user=str(user_id), removed=removed)
            return removed
        await asyncio.sleep(LOCK_WAIT)
    log.info("account_purge_waits", user=str(user_id), removed=removed)  # for the next run
    return removed


async def _end(database: Database, user_id: UUID) -> bool:
    """Mark the account as purged, unless a row is left: one that another transaction held was left out."""
    owned = [*_parts(user_id), *_owned(user_id), *_personal(user_id)]
    is_empty = [~exists(select(literal(1)).select_from(table).where(condition)) for table, condition in owned]
    async with database.work(SYSTEM) as work:
        return await work.run(update(User).where(User.id == user_id, *is_empty).values(purged_at=func.now())) > 0


async def _delete_rows(database: Database, user_id: UUID) -> int:
    # Jobs refer to the models that they predicted with, and models to the jobs that trained them.
    changed = await _empty_jobs(database, user_id, Job.model_version_id.is_not(None))
    for table, condition in _parts(user_id):
        changed += await delete_in_batches(database, table, condition, PURGE_BATCH_SIZE)
    changed += await _empty_jobs(database, user_id, true())
    for table, condition in _owned(user_id):
        changed += await delete_in_batches(database, table, condition, PURGE_BATCH_SIZE)
    for table, condition in _personal(user_id):
        changed += await delete_in_batches(database, table, condition, PURGE_BATCH_SIZE)
    return changed


def _parts(user_id: UUID) -> Iterator[tuple[Any, ColumnElement[bool]]]:
    """What refers to jobs or is a large part of something, each before what it refers to."""
    jobs, runs, models, studies = (_ids(table, user_id) for table in (Job, Run, Model, Study))
    yield Tagging, Tagging.tag_id.in_(_ids(Tag, user_id))
    yield Tag, Tag.owner_id == user_id
    yield ArtifactUpload, ArtifactUpload.owner_id == user_id
    yield JobOutput, JobOutput.job_id.in_(jobs)
    yield Artifact, Artifact.owner_id == user_id
    yield Export, Export.owner_id == user_id
    yield Explanation, Explanation.owner_id == user_id
    yield ModelAliasEvent, ModelAliasEvent.model_id.in_(models)
    yield ModelVersion, ModelVersion.model_id.in_(models)
    yield Model, Model.owner_id == user_id
    yield from parts.of_runs(runs)
    yield from parts.of_studies(studies)
    yield Run, Run.owner_id == user_id
    yield Study, Study.owner_id == user_id
    yield Experiment, Experiment.owner_id == user_id
    for table in (JobEvent, JobNode, JobInput, JobDocument, JobCheckpoint, JobAttempt):
        yield table, table.job_id.in_(jobs)


def _owned(user_id: UUID) -> Iterator[tuple[Any, ColumnElement[bool]]]:
    """What jobs refer to until they are emptied, and the jobs, without those that the ledger refers to."""
    versions, datasets = select(DatasetVersion.id).where(DatasetVersion.dataset_id.in_(_ids(Dataset, user_id))), _ids(Dataset, user_id)
    yield Job, (Job.owner_id == user_id) & ~exists().where(CreditTransaction.job_id == Job.id)
    yield from parts.of_dataset_versions(versions)
    yield DatasetVersion, DatasetVersion.dataset_id.in_(datasets)
    yield Dataset, Dataset.owner_id == user_id
    yield PipelineSnapshot, PipelineSnapshot.owner_id == user_id
    yield Pipeline, Pipeline.owner_id == user_id
    yield StoredObject, StoredObject.owner_id == user_id


def _personal(user_id: UUID) -> Iterator[tuple[Any, ColumnElement[bool]]]:
    """What would be deleted with the user's row, if that were: sessions, keys, mails, usage, counters."""
    for mapper in sorted(Table.registry.mappers, key=lambda mapper: mapper.class_.__tablename__):
        for column in mapper.class_.__table__.c:
            if any(key.column.table.name == "users" and key.ondelete == "CASCADE" for key in column.foreign_keys):
                yield mapper.class_, column == user_id


def _ids(table: Any, user_id: UUID) -> Select[tuple[UUID]]:
    return select(table.id).where(table.owner_id == user_id)


async def _empty_jobs(database: Database, user_id: UUID, condition: ColumnElement[bool]) -> int:
    """Empty these of the user's jobs, so that they refer to nothing any more, in batches."""
    is_purged = Job.error["code"].astext == _EMPTIED["error"]["code"]
    references = func.num_nonnulls(*(getattr(Job, name) for name, value in _EMPTIED.items() if value is None))
    is_full = or_(Job.parameters != {}, references > 0, Job.error.is_not(None) & ~is_purged)
    values = _EMPTIED | {"error": case((Job.error.is_not(None), literal(_EMPTIED["error"], JSONB)))}

    def change(limit: int) -> Update:
        batch = select(Job.id).where(Job.owner_id == user_id, condition, is_full).limit(limit).with_for_update(skip_locked=True)
        return update(Job).where(Job.id.in_(batch)).values(values)

    return await in_batches(database, PURGE_BATCH_SIZE, change)
