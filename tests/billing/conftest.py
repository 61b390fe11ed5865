"""Fixtures for credits: users with credits, jobs that cost some, and direct access to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row, func, select, text

from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.services import credits, jobs, workers
from db.services.jobs import Claim
from db.settings import StateSettings, state_settings
from db.tables import CreditTransaction, Job, User
from db.tables.billing import TransactionType
from db.tables.jobs import JobKind
from tests.client import Client
from tests.workers.worker_harness import harness, harness_with_worker, owner, shared_worker_queue

__all__ = ["harness", "harness_with_worker", "owner", "shared_worker_queue"]


@dataclass
class BillingDriver:
    """Grant credits, submit jobs that cost one credit each to a queue without workers, and read the ledger."""

    database: Database
    queue: str

    async def user_id(self, client: Client) -> UUID:
        return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))

    async def grant(self, owner_id: UUID, amount: int, kind: TransactionType = TransactionType.PURCHASE) -> int:
        async with self.database.work(SYSTEM) as work:
            return (await credits.grant(work, credits.Grant(owner_id, kind, amount))).balance

    async def submit(self, owner_id: UUID, kind: JobKind = JobKind.EXPORT) -> UUID:
        async with self.database.work(Viewer(owner_id, UserRole.MEMBER)) as work:
            return (await jobs.submit(work, jobs.NewJob(owner_id, kind, self.queue))).id

    async def claim(self, job_id: UUID, lease: float = 60.0) -> Claim:
        """Claim the job for a worker that does nothing."""
        async with self.database.work(SYSTEM) as work:
            name = f"idle-{uuid4().hex[:8]}"
            worker_id = await workers.register(work, name, [self.queue], 1)
            job = await jobs.claim(work, job_id, worker_id, name, lease)
            assert job is not None
            return Claim(job.id, job.attempt, worker_id)

    async def sweep(self, max_losses: int = 10) -> list[UUID]:
        async with self.database.work(SYSTEM) as work:
            return await jobs.reap(work, 0.0, max_losses)

    async def balances(self, owner_id: UUID) -> tuple[int, int]:
        """Return (spendable credits, held credits)."""
        (row,) = await self.database.rows(select(User.credit_balance, User.credits_held).where(User.id == owner_id))
        return row.credit_balance, row.credits_held

    async def ledger(self, owner_id: UUID) -> Sequence[Row[Any]]:
        statement = select(*CreditTransaction.__table__.c).where(CreditTransaction.owner_id == owner_id)
        return await self.database.rows(statement.order_by(CreditTransaction.sequence))

    async def entries(self, owner_id: UUID) -> list[tuple[str, int, int]]:
        return [(row.kind.name, row.amount, row.held) for row in await self.ledger(owner_id)]

    async def job_count(self) -> int:
        return (await self.database.rows(select(func.count()).select_from(Job)))[0][0]

    async def tamper(self, *statements: str) -> None:
        """Change rows that are immutable, with triggers disabled."""
        async with self.database.engine.begin() as connection:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                await connection.execute(text(statement))


@pytest.fixture
def billing(database: Database, clean: None) -> BillingDriver:
    return BillingDriver(database, f"test-{uuid4()}")


@pytest.fixture
def prices(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The prices of jobs in this process, which the API shares; a test may change them."""
    costs = {"EXPORT": 1, "PROCESS": 10, "TRAIN": 25}
    monkeypatch.setattr(state_settings(), "credit_prices", costs)
    return costs
