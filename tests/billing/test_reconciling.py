"""Tampering with the ledger is detected, by the nightly maintenance task and by the invariants after every fault, and not repaired."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import credits, jobs, maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from tests.billing.conftest import BillingDriver
from tests.client import Client
from tests.faults.invariants import INVARIANTS
from tests.workers.worker_harness import run_maintenance

CREDIT_INVARIANTS = {name: query for name, query in INVARIANTS.items() if name.startswith("4")}
ENDS, SUMS = sorted(CREDIT_INVARIANTS)  # "a hold ends once", "the ledger adds up"

OVERPAID_REFUND = """INSERT INTO credit_transactions (owner_id, sequence, kind, amount, balance_after, held_after, job_id)
    SELECT owner_id, 90, 'refund', 2, 9, 1, id FROM jobs WHERE status = 'completed'"""

# Statements that a database superuser could run, what the maintenance task then reports, and which invariants are violated.
TAMPERING = [
    ("UPDATE users SET credit_balance = credit_balance + 1 WHERE username = 'ada'", ["user"], [SUMS]),
    ("UPDATE users SET credits_held = 0 WHERE username = 'ada'", ["user"], [SUMS]),
    ("UPDATE users SET credit_sequence = credit_sequence + 1 WHERE username = 'ada'", ["user"], [SUMS]),
    ("UPDATE credit_transactions SET balance_after = balance_after + 1 WHERE sequence = 2", ["user"], [SUMS]),
    ("UPDATE credit_transactions SET sequence = 90 WHERE sequence = 3", ["user"], [SUMS]),
    ("DELETE FROM credit_transactions WHERE kind = 'consumption'", ["user", "job"], [ENDS, SUMS]),
    ("DELETE FROM credit_transactions WHERE kind = 'release'", ["user", "job"], [ENDS, SUMS]),
    ("DELETE FROM credit_transactions WHERE kind = 'hold' AND job_id IN (SELECT id FROM jobs WHERE status = 'pending')", ["user", "job"], [ENDS, SUMS]),
    ("UPDATE credit_transactions SET kind = 'consumption', amount = 0 WHERE kind = 'release'", ["user", "job"], [ENDS, SUMS]),
    (OVERPAID_REFUND, ["user", "job"], [SUMS]),
    ("UPDATE jobs SET credit_cost = 2 WHERE status = 'completed'", ["job"], [ENDS]),
    ("UPDATE jobs SET status = 'cancelled', completed_at = now() WHERE status = 'pending'", ["job"], [ENDS]),
    ("UPDATE jobs SET owner_id = (SELECT id FROM users WHERE username = 'bob') WHERE status = 'pending'", ["job"], [ENDS]),
]  # fmt: skip


@pytest.fixture
async def owner_with_jobs(billing: BillingDriver, prices: Mapping[str, int], ada: Client, bob: Client) -> UUID:
    """Ada, with one completed, one cancelled and one pending job."""
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 9)
    await billing.submit(ada_id)
    claim = await billing.claim(await billing.submit(ada_id))
    cancelled = await billing.submit(ada_id)
    async with billing.database.work(SYSTEM) as work:
        await jobs.complete(work, claim)
    async with billing.database.work(SYSTEM) as work:
        await jobs.cancel(work, cancelled)
    assert await billing.balances(ada_id) == (7, 1)
    return ada_id


async def reconcile(settings: StateSettings, database: Database) -> tuple[maintenance.MaintenanceResult, list[str]]:
    """Run the maintenance task; return its result and the kinds of rows it reported."""
    async with ObjectStore.open(settings) as objects:
        with capture_logs() as logged:
            ran = await run_maintenance(maintenance.MaintenanceContext(database, objects, settings), "reconcile_credits")
    errors = [entry for entry in logged if entry["log_level"] == "error"]
    return ran, ["job" if "job" in entry else "user" for entry in errors]


async def violated_invariants(database: Database) -> list[str]:
    return [name for name, query in sorted(CREDIT_INVARIANTS.items()) if await database.rows(text(query))]


async def test_a_ledger_that_adds_up_is_not_reported(owner_with_jobs: UUID, settings: StateSettings, database: Database) -> None:
    assert await reconcile(settings, database) == (maintenance.MaintenanceResult("reconcile_credits", 0), [])
    async with database.work(SYSTEM) as work:
        completed = await work.scalar(text("SELECT id FROM jobs WHERE status = 'completed'"))
        await credits.refund_job(work, completed, "It was slow.")
    assert await reconcile(settings, database) == (maintenance.MaintenanceResult("reconcile_credits", 0), [])
    assert await violated_invariants(database) == []


@pytest.mark.parametrize(("statement", "complaints", "noticed"), TAMPERING, ids=[each[0][:60] for each in TAMPERING])
async def test_a_ledger_that_does_not_add_up_is_reported_and_not_repaired(
    owner_with_jobs: UUID,
    billing: BillingDriver,
    settings: StateSettings,
    database: Database,
    statement: str,
    complaints: list[str],
    noticed: list[str],
) -> None:
    # One job is pending; the invariants hold only once all jobs have ended, so violations that exist beforehand do not count.
    violations_before = await violated_invariants(database)
    assert violations_before == []
    await billing.tamper(statement)
    ledger_before = await billing.balances(owner_with_jobs), await billing.ledger(owner_with_jobs)
    assert await reconcile(settings, database) == (maintenance.MaintenanceResult("reconcile_credits", len(complaints)), complaints)
    assert (await billing.balances(owner_with_jobs), await billing.ledger(owner_with_jobs)) == ledger_before
    assert await violated_invariants(database) == noticed
