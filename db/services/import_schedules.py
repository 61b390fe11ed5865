"""Import schedules: their changes, and the run of one that is due. A run that was missed is made up once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfoNotFoundError

import structlog
from sqlalchemy import Row, Select, delete, func, insert, select, update

from db.core.audit import differences, ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import Forbidden, InsufficientCredits, NotFound, QuotaExceeded
from db.queries import accounts
from db.services import cron, datasets, importing, reading_options
from db.services.reading_options import ReadingOptions
from db.settings import state_settings
from db.tables import Dataset, ImportSchedule, Job
from db.tables.datasets import DatasetSource
from db.tables.jobstates import TERMINAL

log: structlog.stdlib.BoundLogger = structlog.get_logger()

KIND = "schedule"
RESOURCE = "import schedules of a dataset"
_REQUIRED = {"url": "url", "cron": "cron", "timezone": "timezone", "is_active": "isActive"}


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """What is imported when, in a time zone."""

    dataset_id: UUID
    url: str
    cron: str
    timezone: str = "UTC"
    reading: ReadingOptions | None = None


async def create(work: Work, new: NewSchedule) -> UUID:
    """Raises `NotFound`, `InvalidInput` or `QuotaExceeded`."""
    work.viewer.require_write()
    dataset = await datasets.lock(work, new.dataset_id)
    values = await _validated(work, {"url": new.url, "cron": new.cron, "timezone": new.timezone, "reading": new.reading, "is_active": True})
    limit = state_settings().import_schedules_per_dataset
    used: int = await work.scalar(select(func.count()).where(ImportSchedule.dataset_id == dataset.id))
    if used >= limit:
        raise QuotaExceeded(RESOURCE, limit, used)
    insertion = insert(ImportSchedule).values(dataset_id=dataset.id, created_by_id=work.viewer.maker_id, **values)
    schedule_id: UUID = await work.scalar(insertion.returning(ImportSchedule.id))
    created = {**values, "url": importing.without_query(values["url"]), "dataset": ref("dataset", dataset.id)}
    work.record("create_import_schedule", KIND, schedule_id, dataset.owner_id, after=created)
    return schedule_id


async def change(work: Work, schedule_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set; a new time is counted from now. Raises `NotFound` or `InvalidInput`."""
    work.viewer.require_write()
    schedule = await _lock(work, schedule_id)
    checks = Checks()
    for name, path in _REQUIRED.items():
        if name in changes and changes[name] is None:
            checks.add(path, message="A schedule always has this; leave the field out to keep the present one.")
    checks.raise_if_invalid()
    if changes:
        present = {name: getattr(schedule, name) for name in _REQUIRED}
        values = await _validated(work, {**present, **changes})
        await work.run(update(ImportSchedule).where(ImportSchedule.id == schedule_id).values(values))
        before, after = differences(schedule, values)
        for fields in (before, after):
            if "url" in fields:
                fields["url"] = importing.without_query(fields["url"])
        work.record("update_import_schedule", KIND, schedule_id, schedule.owner_id, before, after)
    return schedule_id


async def remove(work: Work, schedule_id: UUID, action: str = "delete_import_schedule") -> UUID:
    """Delete a schedule; what it imported stays. Return the id of its dataset. Raises `NotFound`."""
    work.viewer.require_write()
    schedule = await _lock(work, schedule_id)
    await work.run(delete(ImportSchedule).where(ImportSchedule.id == schedule_id))
    before = {"url": importing.without_query(schedule.url), "cron": schedule.cron, "timezone": schedule.timezone}
    work.record(action, KIND, schedule_id, schedule.owner_id, {**before, "dataset": ref("dataset", schedule.dataset_id)})
    return schedule.dataset_id


def _live() -> Select[*tuple[Any, ...]]:
    columns = (*ImportSchedule.__table__.c, Dataset.owner_id)
    return select(*columns).join(Dataset, Dataset.id == ImportSchedule.dataset_id).where(Dataset.deleted_at.is_(None))


async def _lock(work: Work, schedule_id: UUID) -> Row[Any]:
    statement = _live().where(ImportSchedule.id == schedule_id, visible(ImportSchedule, work.viewer))
    row = await work.first(statement.with_for_update(of=ImportSchedule))
    if row is None:
        raise NotFound(str(schedule_id))
    return row


async def _validated(work: Work, values: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of a schedule: what was given, and when it runs next."""
    checks = Checks()
    now: datetime = await work.scalar(select(func.now()))
    validated = dict(values)
    validated["url"] = importing.checked_url(values["url"], checks)
    cron.check(values["cron"], values["timezone"], now, checks)
    if isinstance(values.get("reading"), ReadingOptions):
        validated["reading"] = reading_options.validated(values["reading"], checks)
    checks.raise_if_invalid()
    validated["next_at"] = cron.next_run(values["cron"], values["timezone"], now) if values["is_active"] else None
    return validated


async def run_due(database: Database, limit: int) -> int:
    """Run the schedules that are due, at most `limit`; return how many. Those of deleted datasets wait."""
    is_due = (ImportSchedule.next_at <= func.now()) & ImportSchedule.is_active
    due = await database.rows(_live().where(is_due).order_by(ImportSchedule.next_at).limit(limit))
    for schedule in due:
        await _run(database, schedule)
    return len(due)


async def _run(database: Database, due: Row[Any]) -> None:
    """Submit the import of a due schedule as its maker, and set the next time, in one unit of work: of two workers, one does."""
    maker = await accounts.viewer_of(database, due.created_by_id)
    try:
        if maker is None:
            raise NotFound(str(due.created_by_id))  # noqa: TRY301 - handled like a maker who does not see the dataset any more
        maker.require_write()
        maker.require_write_in(due.owner_id)
        async with database.work(maker) as work:
            dataset = await datasets.lock(work, due.dataset_id)
            if not await _advance(work, due) or await _is_running(work, due.last_job_id):
                return
            _, _, job_id = await importing.add(work, dataset, due.url, DatasetSource.SCHEDULED, reading=due.reading)
            await work.run(update(ImportSchedule).where(ImportSchedule.id == due.id).values(last_job_id=job_id))
    except (NotFound, Forbidden, ZoneInfoNotFoundError) as error:  # a time zone may be gone from the machine's database of them
        is_same = (ImportSchedule.id == due.id) & (ImportSchedule.next_at == due.next_at)
        live = select(Dataset.id).where(Dataset.deleted_at.is_(None))  # the schedule of one that was deleted meanwhile only waits
        async with database.work(SYSTEM) as work:
            stop = update(ImportSchedule).where(is_same, ImportSchedule.dataset_id.in_(live)).values(is_active=False, next_at=None)
            if await work.run(stop):
                log.warning("import_schedule_stopped", schedule=str(due.id), reason=type(error).__name__)
    except (QuotaExceeded, InsufficientCredits) as error:
        log.warning("scheduled_import_refused", schedule=str(due.id), error=str(error))
        async with database.work(SYSTEM) as work:
            await _advance(work, due)


async def _advance(work: Work, due: Row[Any]) -> bool:
    """Set when the schedule runs next; False if it was changed, or another worker did, since it was read."""
    now: datetime = await work.scalar(select(func.now()))
    following = cron.next_run(due.cron, due.timezone, now)
    is_same = (ImportSchedule.id == due.id) & (ImportSchedule.next_at == due.next_at)
    values = {"next_at": following, "is_active": following is not None}
    return await work.run(update(ImportSchedule).where(is_same).values(values)) > 0


async def _is_running(work: Work, job_id: UUID | None) -> bool:
    """Whether the import before has not ended: then this run is left out."""
    return await work.scalar(select(Job.id).where(Job.id == job_id, Job.status.not_in(TERMINAL))) is not None
