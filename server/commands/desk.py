"""What an operator's commands look up and do, on behalf of the system, which sees everything."""

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

from db.core.page import Slice
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Conflict, NotFound, StateError
from db.queries import accounts, billing, jobevents, operations
from db.queries import jobs as queries
from db.services import credits, jobs
from db.settings import StateSettings
from db.stores.events import RedisPost, connect
from db.tables.billing import CreditKind
from db.tables.jobstates import TERMINAL, WAITING

if TYPE_CHECKING:
    from db.services.chores import Ran

LOOK = 0.5
_ID = re.compile(r"job_([0-9a-f]{32})", re.ASCII)


class NoSuchOwner(StateError):
    """Nobody has this email address."""


class NoSuchChore(StateError):
    """The workers have no chore of this name."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A job of a list: its row, its owner's email address, and where it stands in the line if it waits."""

    job: Row[Any]
    owner: str
    wait: Row[Any] | None


@dataclass(frozen=True, slots=True)
class Page:
    """`more` is the cursor of the next page, if there is one."""

    jobs: Sequence[Listed]
    more: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """A job and all that belongs to it; of its events the last few."""

    job: Row[Any]
    owner: str
    wait: Row[Any] | None
    attempts: Sequence[Row[Any]]
    nodes: Sequence[Row[Any]]
    events: Sequence[Row[Any]]


@dataclass(frozen=True, slots=True)
class Account:
    """A user's row, and the last lines of their ledger, the newest first."""

    user: Row[Any]
    lines: Sequence[Row[Any]]


@asynccontextmanager
async def opened(settings: StateSettings) -> AsyncGenerator[Database]:
    """The database; what is done to jobs is announced to workers and streams."""
    redis = connect(settings.redis_url)
    async with redis, Database.open(settings, RedisPost(redis)) as database:
        yield database


def key(text: str) -> UUID:
    """The job that an id as people copy it names. Raises `NotFound`."""
    found = _ID.fullmatch(text.strip())
    try:
        return UUID(found[1] if found else text.strip())
    except ValueError:
        raise NotFound(text) from None


async def owner_id(database: Database, email: str) -> UUID:
    """Raises `NoSuchOwner`."""
    row = await operations.owner_named(database, SYSTEM, email)
    if row is None:
        raise NoSuchOwner(f"Nobody has the email address {email!r}.")
    return row.id


async def listed(database: Database, wanted: queries.JobFilter, limit: int, after: str | None) -> Page:
    """A page of jobs. Raises `InvalidCursor`."""
    page = await queries.every.page(database, SYSTEM, Slice(limit, after), wanted)
    owners = await _owners(database, [row.owner_id for row in page.rows])
    waits = await queries.waiting(database, SYSTEM, [row.id for row in page.rows if row.status in WAITING])
    found = [Listed(row, owners[row.owner_id], waits.get(row.id)) for row in page.rows]
    return Page(found, page.cursors[-1] if page.has_next else None)


async def found(database: Database, job_id: UUID, events: int) -> Found:
    """Raises `NotFound`."""
    job = (await queries.by_id(database, SYSTEM, [job_id])).get(job_id)
    if job is None:
        raise NotFound(f"job_{job_id.hex}")
    return Found(
        job,
        (await _owners(database, [job.owner_id]))[job.owner_id],
        (await queries.waiting(database, SYSTEM, [job_id])).get(job_id),
        (await queries.attempts(database, SYSTEM, [job_id]))[job_id],
        (await queries.nodes(database, SYSTEM, [job_id]))[job_id],
        await jobevents.after(database, SYSTEM, job_id, max(0, job.last_sequence - events), events) if events else (),
    )


async def followed(database: Database, job_id: UUID, sequence: int) -> AsyncGenerator[Row[Any]]:
    """The events after this sequence, as they come, until the job has ended. One person's look twice a second needs no stream."""
    while True:
        events = await jobevents.after(database, SYSTEM, job_id, sequence)
        for event in events:
            sequence = event.sequence
            yield event
        if events:
            continue
        job = (await queries.by_id(database, SYSTEM, [job_id])).get(job_id)
        if job is None or (job.status in TERMINAL and job.last_sequence <= sequence):
            return
        await asyncio.sleep(LOOK)


async def cancel(settings: StateSettings, job: str) -> str:
    """The job's status from now on. Raises `NotFound` or `WrongState`."""
    async with opened(settings) as database, database.work(SYSTEM) as work:
        return (await jobs.cancel(work, key(job))).value


async def retry(settings: StateSettings, job: str) -> str:
    """The new job's id. Raises `NotFound`, `WrongState` or `Conflict`."""
    async with opened(settings) as database, database.work(SYSTEM) as work:
        new, _ = await jobs.retry(work, key(job))
    return f"job_{new.hex}"


async def requeue(settings: StateSettings, job: str) -> str:
    """The job's status. Raises `NotFound` or `WrongState`."""
    async with opened(settings) as database, database.work(SYSTEM) as work:
        return (await jobs.requeue(work, key(job))).value


async def chores(settings: StateSettings) -> Sequence[Row[Any]]:
    """The last run of every recurring task."""
    async with opened(settings) as database:
        return await database.rows(operations.chores())


async def run_chore(settings: StateSettings, name: str) -> Ran:
    """How it went. Raises `NoSuchChore`, or `Conflict` while another process does it."""
    from db.services import chores as services  # half a second of S3's client, which the other commands do without
    from db.services.chores import CHORES, Ground
    from db.stores.objects import ObjectStore

    if name not in CHORES:
        raise NoSuchChore(f"There is no chore {name!r}. The chores are {', '.join(sorted(CHORES))}.")
    async with opened(settings) as database, ObjectStore.open(settings) as objects:
        ran = await services.run_chore(Ground(database, objects, settings), name, f"trellis jobs at {socket.gethostname()}")
    if ran is None:
        raise Conflict(f"{name} is being done by another process. `trellis jobs chores` says by which.")
    return ran


async def workers(settings: StateSettings, *, stopped: bool) -> Sequence[Row[Any]]:
    """The worker processes."""
    async with opened(settings) as database:
        return await operations.workers(database, stopped=stopped)


async def grant(settings: StateSettings, email: str, kind: str, amount: int, note: str | None) -> int:
    """What the user can spend now. Raises `NoSuchOwner`, `InvalidInput` or `InsufficientCredits`."""
    async with opened(settings) as database:
        owner = await owner_id(database, email)
        async with database.work(SYSTEM) as work:
            return await credits.grant(work, owner, CreditKind(kind), amount, note)


async def account(settings: StateSettings, email: str, lines: int) -> Account:
    """Raises `NoSuchOwner`."""
    async with opened(settings) as database:
        owner = await owner_id(database, email)
        user = (await accounts.by_id(database, SYSTEM, [owner]))[owner]
        return Account(user, await billing.last_of_owner(database, SYSTEM, owner, lines))


async def _owners(database: Database, keys: Sequence[UUID]) -> Mapping[UUID, str]:
    rows = await accounts.by_id(database, SYSTEM, list(dict.fromkeys(keys)))
    return {key: row.email for key, row in rows.items()}
