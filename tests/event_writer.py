"""Write job events without a worker, as many and as fast as a test needs, with the usual change notices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database, Notice
from db.services.jobs.submitting import NewJob, submit
from db.settings import StateSettings
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from db.tables.jobs import JobKind

_INSERT_EVENTS = text("""
    WITH moved AS (
        UPDATE jobs SET last_sequence = last_sequence + 1 WHERE id = ANY(:ids) RETURNING id, last_sequence, attempt, status, progress
    ), inserted AS (
        INSERT INTO job_events (job_id, sequence, attempt, type, status, progress, message)
        SELECT id, last_sequence, attempt, 'log', status, progress, :message FROM moved
    )
    SELECT id, last_sequence FROM moved""")


@pytest.fixture
async def notifying_database(settings: StateSettings) -> AsyncGenerator[Database]:
    """The database with the change notices that the API and the workers publish."""
    redis = connect(settings.redis_url)
    async with redis, Database.open(settings, RedisNoticePublisher(redis)) as opened:
        yield opened


async def create_waiting_jobs(database: Database, owner_id: UUID, count: int) -> list[UUID]:
    """Create jobs that no worker claims, each with its first event."""
    async with database.work(SYSTEM) as work:
        return [(await submit(work, NewJob(owner_id=owner_id, kind=JobKind.PROFILE, queue="nobodys"))).id for _ in range(count)]


async def write_events(database: Database, job_ids: Sequence[UUID], count: int = 1, message: str = "word") -> None:
    """Add `count` LOG events to each of the jobs in one transaction."""
    async with database.work(SYSTEM) as work:
        for _ in range(count):
            for row in await work.all(_INSERT_EVENTS, {"ids": list(job_ids), "message": message}):
                work.notify(Notice(row.id, row.last_sequence))
