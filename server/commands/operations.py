"""Reads and actions of the operator's commands, as the viewer SYSTEM, who sees everything."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Row

from db.core.criteria import Criteria
from db.core.page import Slice
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Conflict, NotFound, StateError
from db.queries import accounts, billing, jobevents, operations
from db.queries import jobs as queries
from db.services import credits, jobs
from db.settings import StateSettings
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from db.tables.billing import TransactionType
from db.tables.jobstates import TERMINAL, WAITING

if TYPE_CHECKING:
    from db.services.maintenance import MaintenanceResult

POLL_INTERVAL = 0.5
_JOB_ID = re.compile(r"job_([0-9a-f]{32})", re.ASCII)


class NoSuchOwner(StateError):
    """No user has this email address."""


class NoSuchMaintenanceTask(StateError):
    """There is no maintenance task of this name."""


@dataclass(frozen=True, slots=True)
class JobListEntry:
    """A listed job: its row, its owner's email address, and its wait reason and queue position if it waits."""

    job: Row[Any]
    owner: str
    wait: Row[Any] | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs; `next_cursor` is None on the last page."""

    jobs: Sequence[JobListEntry]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job with its attempts, nodes and last events."""

    job: Row[Any]
    owner: str
    wait: Row[Any] | None
    attempts: Sequence[Row[Any]]
    nodes: Sequence[Row[Any]]
    events: Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class CreditAccount:
    """A user's row and their last ledger entries, newest first."""

    user: Row[Any]
    entries: Sequence[Row[Any]]


@asynccontextmanager
async def open_database(settings: StateSettings) -> AsyncGenerator[Database]:
    """Open the database, with notices to workers and streams published to Redis."""
    redis = connect(settings.redis_url)
    async with redis, Database.open(settings, RedisNoticePublisher(redis)) as database:
        yield database


def parse_job_id(text: str) -> UUID:
    """Parse `job_<32 hex digits>` or a plain UUID. Raises `NotFound`."""
    match = _JOB_ID.fullmatch(text.strip())
    try:
        return UUID(match[1] if match else text.strip())
    except ValueError:
        raise NotFound(text) from None


async def owner_id(database: Database, email: str) -> UUID:
    """Raises `NoSuchOwner`."""
    row = await operations.owner_by_email(database, SYSTEM, email)
    if row is None:
        raise NoSuchOwner(f"No user has the email address {email!r}.")
    return row.id


async def list_jobs(database: Database, criteria: Criteria, limit: int, after: str | None) -> JobPage:
    """A page of jobs. Raises `InvalidCursor`."""
    page = await queries.listing.page(database, SYSTEM, Slice(limit, after), criteria)
    owners = await _owner_emails(database, [row.owner_id for row in page.rows])
    waits = await queries.wait_info(database, SYSTEM, [row.id for row in page.rows if row.status in WAITING])
    entries = [JobListEntry(row, owners[row.owner_id], waits.get(row.id)) for row in page.rows]
    return JobPage(entries, page.cursors[-1] if page.has_next else None)


async def job_details(database: Database, job_id: UUID, event_limit: int) -> JobDetails:
    """Raises `NotFound`."""
    job = (await queries.by_id(database, SYSTEM, [job_id])).get(job_id)
    if job is None:
        raise NotFound(f"job_{job_id.hex}")
    return JobDetails(
        job,
        (await _owner_emails(database, [job.owner_id]))[job.owner_id],
        (await queries.wait_info(database, SYSTEM, [job_id])).get(job_id),
        (await queries.attempts(database, SYSTEM, [job_id]))[job_id],
        (await queries.nodes(database, SYSTEM, [job_id]))[job_id],
        await jobevents.events_after(database, SYSTEM, job_id, max(0, job.last_sequence - event_limit), event_limit) if event_limit else (),
    )


async def follow_events(database: Database, job_id: UUID, sequence: int) -> AsyncGenerator[Row[Any]]:
    """Yield the events after this sequence until the job has ended. Polls: for one operator, two queries a second need no stream."""
    while True:
        events = await jobevents.events_after(database, SYSTEM, job_id, sequence)
        for event in events:
            sequence = event.sequence
            yield event
        if events:
            continue
        job = (await queries.by_id(database, SYSTEM, [job_id])).get(job_id)
        if job is None or (job.status in TERMINAL and job.last_sequence <= sequence):
            return
        await asyncio.sleep(POLL_INTERVAL)


async def cancel(settings: StateSettings, job_id: str) -> str:
    """Cancel; return the new status. Raises `NotFound` or `WrongState`."""
    async with open_database(settings) as database, database.work(SYSTEM) as work:
        return (await jobs.cancel(work, parse_job_id(job_id))).value


async def retry(settings: StateSettings, job_id: str) -> str:
    """Retry; return the new job's id. Raises `NotFound`, `WrongState` or `Conflict`."""
    async with open_database(settings) as database, database.work(SYSTEM) as work:
        new_id = await jobs.retry(work, parse_job_id(job_id))
    return f"job_{new_id.hex}"


async def requeue(settings: StateSettings, job_id: str) -> str:
    """Dispatch again at once; return the job's status. Raises `NotFound` or `WrongState`."""
    async with open_database(settings) as database, database.work(SYSTEM) as work:
        return (await jobs.requeue(work, parse_job_id(job_id))).value


async def maintenance_runs(settings: StateSettings) -> Sequence[Row[Any]]:
    """The last run of every maintenance task."""
    async with open_database(settings) as database:
        return await database.rows(operations.maintenance_tasks())


async def run_maintenance(settings: StateSettings, name: str) -> MaintenanceResult:
    """Run a maintenance task. Raises `NoSuchMaintenanceTask`, or `Conflict` while another process runs it."""
    from db.services import maintenance  # with what it cleans up, a fifth of a second that the other commands save
    from db.services.maintenance import MAINTENANCE_TASKS, MaintenanceContext
    from db.stores.objects import ObjectStore

    if name not in MAINTENANCE_TASKS:
        raise NoSuchMaintenanceTask(f"There is no maintenance task {name!r}. The tasks are {', '.join(sorted(MAINTENANCE_TASKS))}.")
    async with open_database(settings) as database, ObjectStore.open(settings) as objects:
        outcome = await maintenance.run_task(
            MaintenanceContext(database, objects, settings), name, f"trellis jobs at {socket.gethostname()}"
        )
    if outcome is None:
        raise Conflict(f"{name} is being run by another process. `trellis jobs maintenance` shows which.")
    return outcome


async def list_workers(settings: StateSettings, *, stopped: bool) -> Sequence[Row[Any]]:
    """The live worker processes, or the last hundred stopped ones as well."""
    async with open_database(settings) as database:
        return await operations.workers(database, stopped=stopped)


async def grant(settings: StateSettings, email: str, kind: str, amount: int, note: str | None) -> int:
    """Grant credits; return the available balance. Raises `NoSuchOwner`, `InvalidInput` or `InsufficientCredits`."""
    async with open_database(settings) as database:
        owner = await owner_id(database, email)
        async with database.work(SYSTEM) as work:
            return (await credits.grant(work, credits.Grant(owner, TransactionType(kind), amount, note))).balance


async def credit_account(settings: StateSettings, email: str, limit: int) -> CreditAccount:
    """Raises `NoSuchOwner`."""
    async with open_database(settings) as database:
        owner = await owner_id(database, email)
        user = (await accounts.by_id(database, SYSTEM, [owner]))[owner]
        return CreditAccount(user, await billing.last_of_owner(database, SYSTEM, owner, limit))


async def _owner_emails(database: Database, owner_ids: Sequence[UUID]) -> Mapping[UUID, str]:
    rows = await accounts.by_id(database, SYSTEM, list(dict.fromkeys(owner_ids)))
    return {key: row.email for key, row in rows.items()}
