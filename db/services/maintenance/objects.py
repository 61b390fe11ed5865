"""Remove unneeded objects: rows without a reference and their objects, and objects without a row (orphans)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from sqlalchemy import Select, Text, Uuid, any_, bindparam, column, delete, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import scheduling
from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.counters import REFERENCES
from db.tables import ArtifactUpload, Job, JobCheckpoint, StoredObject, Upload, User
from db.tables.datasets import HOLDING_UPLOAD_STATES
from db.tables.experiments import ArtifactUploadState
from db.tables.jobstates import ACTIVE

BATCH_SIZE = 200
CLOCK_SKEW = timedelta(minutes=1)  # by which the clock of the store may be ahead
PREFIXES = ("uploads/", "datasets/", "models/", "jobs/", "exports/", "runs/")


async def remove_unreferenced(context: MaintenanceContext) -> int:
    """Remove stored objects without references; return how many. Rows are deleted first: an object without a row is collected as an
    orphan, but a row without its object would be a dangling reference.

    A row that a concurrent settle is about to refer to is locked and skipped; a later settle stores its own object. The owners, whose
    counters the removal changes, are locked first, in the order of their ids, so that no lock is waited for afterwards.
    """
    unreferenced = [~select(column_).where(column_ == StoredObject.id).exists() for column_ in REFERENCES]  # not trusting the counter alone
    candidates = select(StoredObject.id, StoredObject.owner_id).where(StoredObject.reference_count == 0, *unreferenced)
    candidates = candidates.order_by(StoredObject.created_at).limit(BATCH_SIZE)
    owners = select(User.id).where(User.id.in_(select(candidates.subquery().c.owner_id))).order_by(User.id).with_for_update(key_share=True)
    of_locked_owners = candidates.with_only_columns(StoredObject.id).where(
        StoredObject.owner_id == any_(bindparam("owners", type_=ARRAY(Uuid)))
    )
    deletion = (
        delete(StoredObject)
        .where(StoredObject.id.in_(of_locked_owners.with_for_update(skip_locked=True)))
        .returning(StoredObject.object_key)
    )
    removed = 0
    while True:
        async with context.database.work(SYSTEM) as work:
            locked_owners = [row.id for row in await work.all(owners)]
            keys = [row.object_key for row in await work.all(deletion, {"owners": locked_owners})]
        await context.objects.delete(keys)
        removed += len(keys)
        if len(keys) < BATCH_SIZE:
            return removed


async def collect_orphans(context: MaintenanceContext) -> int:
    """Remove objects and unfinished uploads in parts that no row refers to and that are old enough, page by page; return how many.

    For each page, first the running attempts are read, then the references. An object in the page was written before by an attempt that
    either still runs, and is skipped, or has ended, so that its references are visible and it cannot add more. So no removed object is
    ever referred to, even if a copy has the timestamp of its source.
    """
    age = timedelta(seconds=context.settings.orphan_age)
    removed = 0
    for prefix in PREFIXES:
        async for page in context.objects.pages(prefix):
            old = [listed.key for listed in page.objects if listed.modified <= page.now - age]
            if old:
                orphans = await _orphans(context.database, old)
                await context.objects.delete(orphans)
                removed += len(orphans)
        removed += await _abort_unfinished(context, prefix)
    return removed


async def _abort_unfinished(context: MaintenanceContext, prefix: str) -> int:
    """Abort uploads in parts that nobody goes on with, such as those of a killed worker: their parts are in no listing of objects."""
    begun_before = datetime.now(UTC) - timedelta(seconds=context.settings.orphan_age) - CLOCK_SKEW
    old = [upload for upload in await context.objects.multipart.unfinished(prefix) if upload.begun <= begun_before]
    if not old:
        return 0
    orphans = set(await _orphans(context.database, [upload.key for upload in old]))
    aborted = [upload for upload in old if upload.key in orphans]
    for upload in aborted:
        await context.objects.multipart.abort_one(upload.key, upload.id)
    return len(aborted)


_ACTIVE = select(Job.id, Job.attempt, Job.dataset_version_id).where(scheduling.in_states(ACTIVE))


async def _orphans(database: Database, keys: Sequence[str]) -> list[str]:
    busy: set[str] = set()
    for job in await database.rows(_ACTIVE):
        busy |= {str(job.id), str(attempt_key(job.id, job.attempt)), str(job.dataset_version_id)}
    idle = [key for key in keys if busy.isdisjoint(key.split("/"))]
    return [row.key for row in await database.rows(_UNREFERENCED, {"keys": idle})] if idle else []


def attempt_key(job_id: UUID, number: int) -> UUID:
    """The id of an attempt in the keys of objects that it writes."""
    return uuid5(job_id, str(number))


def _unreferenced() -> Select[str]:
    """Those of `keys` that no row refers to."""
    key = func.unnest(bindparam("keys", type_=ARRAY(Text))).table_valued(column("key", Text)).render_derived(name="listed").c.key
    upload = select(Upload.id).where(Upload.object_key == key, Upload.state.in_(HOLDING_UPLOAD_STATES))
    stored = select(StoredObject.id).where(StoredObject.object_key == key)
    checkpoint = select(JobCheckpoint.job_id).where(JobCheckpoint.object_key == key)
    file = select(ArtifactUpload.id).where(ArtifactUpload.object_key == key, ArtifactUpload.state == ArtifactUploadState.OPEN)
    return select(key).where(~stored.exists(), ~checkpoint.exists(), ~upload.exists(), ~file.exists())


_UNREFERENCED = _unreferenced()
