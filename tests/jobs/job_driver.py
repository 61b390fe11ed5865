"""Drives jobs through their states by hand, as workers and users would."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, func, select

from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.services import accounts, jobs, workers
from db.services.jobs import Backoff, Claim, Failure
from db.tables import Job, JobAttempt, JobEvent, User
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

QUEUE = "transitions"
LEASE = 30.0


@dataclass
class JobDriver:
    """Calls the services for submitting, claiming, settling and reaping jobs, as one owner and one worker."""

    database: Database
    owner: Viewer
    worker_id: UUID

    async def add_owner(self, name: str) -> UUID:
        """Create another owner of jobs."""
        async with self.database.work(SYSTEM) as work:
            await accounts.add_user(work, f"{name}@example.org", name, None, UserRole.MEMBER)
            return await work.scalar(select(User.id).where(User.username == name))

    async def submit(self, kind: JobKind = JobKind.EXPORT, owner_id: UUID | None = None, queue: str = QUEUE, **new: Any) -> Row[Any]:
        async with self.database.work(self.owner) as work:
            return await jobs.submit(work, jobs.NewJob(owner_id or self.owner.id, kind, queue, **new))

    async def claim(self, job_id: UUID, lease: float = LEASE) -> Claim | None:
        async with self.database.work(SYSTEM) as work:
            job = await jobs.claim(work, job_id, self.worker_id, "test-worker", lease)
            return None if job is None else Claim(job.id, job.attempt, self.worker_id)

    async def submit_and_claim(self, **new: Any) -> Claim:
        claim = await self.claim((await self.submit(**new)).id)
        assert claim is not None
        return claim

    async def complete(self, claim: Claim) -> Row[Any] | None:
        async with self.database.work(SYSTEM) as work:
            return await jobs.complete(work, claim)

    async def fail(self, claim: Claim, failure: Failure, tries: int = 1) -> Row[Any] | None:
        async with self.database.work(SYSTEM) as work:
            return await jobs.fail(work, claim, failure, tries, 3, Backoff())

    async def cancel(self, job_id: UUID) -> JobStatus:
        async with self.database.work(self.owner) as work:
            return await jobs.cancel(work, job_id)

    async def sweep(self, max_losses: int = 10) -> list[UUID]:
        async with self.database.work(SYSTEM) as work:
            return await jobs.reap(work, 0.0, max_losses)

    async def job(self, job_id: UUID) -> Row[Any]:
        (row,) = await self.database.rows(select(*Job.__table__.c).where(Job.id == job_id))
        return row

    async def events(self, job_id: UUID) -> list[tuple[int, str]]:
        rows = await self.database.rows(
            select(JobEvent.sequence, JobEvent.type).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence)
        )
        return [(row.sequence, row.type.name) for row in rows]

    async def outcomes(self, job_id: UUID) -> list[str | None]:
        rows = await self.database.rows(select(JobAttempt.outcome).where(JobAttempt.job_id == job_id).order_by(JobAttempt.number))
        return [row.outcome for row in rows]


@pytest.fixture
async def job_driver(database: Database, clean: None) -> AsyncGenerator[JobDriver]:
    async with database.work(SYSTEM) as work:
        await accounts.add_user(work, "clerk@example.org", "clerk", None, UserRole.MEMBER)
        owner_id = await work.scalar(select(User.id).where(User.username == "clerk"))
        suffix = await work.scalar(select(func.uuidv7()))
        worker_id = await workers.register(work, f"test-worker-{suffix}", [QUEUE], 4)
    yield JobDriver(database, Viewer(owner_id, UserRole.MEMBER), worker_id)
    async with database.work(SYSTEM) as work:
        await workers.stop(work, worker_id)
