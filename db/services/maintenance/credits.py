"""Check credits against the ledger. Mismatches are logged and not corrected: their cause must be found first."""

from __future__ import annotations

import structlog
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.counters import STATEMENT_TIMEOUT

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# One statement each: it sees every ledger operation, which is one statement too, entirely or not at all.
_UNBALANCED_ACCOUNTS = text("""
    WITH lines AS (
        SELECT owner_id, amount, held, sequence = row_number() OVER per_owner AS in_place,
            balance_after = sum(amount) OVER per_owner AND held_after = sum(held) OVER per_owner AS adds_up
        FROM credit_transactions WINDOW per_owner AS (PARTITION BY owner_id ORDER BY sequence)
    ), ledgers AS (
        SELECT owner_id, count(*) AS lines, sum(amount) AS balance, sum(held) AS held, bool_and(in_place AND adds_up) AS whole
        FROM lines GROUP BY owner_id
    )
    SELECT u.id, u.credit_balance, u.credits_held, u.credit_sequence,
        coalesce(l.balance, 0) AS balance, coalesce(l.held, 0) AS held, coalesce(l.lines, 0) AS lines, coalesce(l.whole, true) AS whole
    FROM users u LEFT JOIN ledgers l ON l.owner_id = u.id
    WHERE (u.credit_balance, u.credits_held, u.credit_sequence) <> (coalesce(l.balance, 0), coalesce(l.held, 0), coalesce(l.lines, 0))
        OR NOT coalesce(l.whole, true)
    ORDER BY u.id""")

# Of every job with a cost: one hold, one charge or release once it has ended, and no refund of more than was charged.
_UNBALANCED_JOBS = text("""
    SELECT j.id, j.owner_id, j.status, j.credit_cost, coalesce(sum(t.held), 0) AS held,
        -coalesce(sum(t.amount) FILTER (WHERE t.kind <> 'refund'), 0) AS taken, coalesce(sum(t.amount) FILTER (WHERE t.kind = 'refund'), 0) AS refunded
    FROM jobs j LEFT JOIN credit_transactions t ON t.job_id = j.id AND t.owner_id = coalesce(j.payer_id, j.owner_id)
        AND t.kind IN ('hold', 'consumption', 'release', 'refund')
    WHERE j.credit_cost > 0
    GROUP BY j.id HAVING coalesce(sum(t.held), 0) <> CASE WHEN j.status IN ('completed', 'failed', 'cancelled') THEN 0 ELSE j.credit_cost END
        OR -coalesce(sum(t.amount) FILTER (WHERE t.kind <> 'refund'), 0) <> CASE WHEN j.status IN ('failed', 'cancelled') THEN 0 ELSE j.credit_cost END
        OR sum(t.amount) FILTER (WHERE t.kind = 'refund') > CASE j.status WHEN 'completed' THEN j.credit_cost ELSE 0 END
    ORDER BY j.id""")

# Of every budget: what its jobs hold and were charged.
_UNBALANCED_BUDGETS = text("""
    SELECT b.id, b.owner_id, b.held, b.charged, coalesce(j.held, 0) AS jobs_held, coalesce(j.charged, 0) AS jobs_charged
    FROM credit_budgets b LEFT JOIN (
        SELECT c.budget_id, sum(j.credit_cost) FILTER (WHERE j.status NOT IN ('completed', 'failed', 'cancelled')) AS held,
            sum(j.credit_cost) FILTER (WHERE j.status = 'completed') AS charged
        FROM credit_budget_jobs c JOIN jobs j ON j.id = c.job_id GROUP BY c.budget_id
    ) j ON j.budget_id = b.id
    WHERE (b.held, b.charged) <> (coalesce(j.held, 0), coalesce(j.charged, 0)) ORDER BY b.id""")


async def reconcile_credits(context: MaintenanceContext) -> int:
    """Log users, jobs and budgets whose credits differ from the ledger or the jobs, as errors, and return how many. Changes nothing."""
    async with context.database.work(SYSTEM) as work:
        await work.run(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
        await work.run(text("SET LOCAL transaction_timeout = 0"))
        users = await work.all(_UNBALANCED_ACCOUNTS)
        jobs = await work.all(_UNBALANCED_JOBS)
        budgets = await work.all(_UNBALANCED_BUDGETS)
    for row in users:
        log.error(
            "user_credits_mismatched",
            user=str(row.id),
            says={"balance": row.credit_balance, "held": row.credits_held, "lines": row.credit_sequence},
            ledger={"balance": int(row.balance), "held": int(row.held), "lines": row.lines},
            lines_add_up=row.whole,
        )
    for row in jobs:
        details = {
            "status": row.status,
            "cost": row.credit_cost,
            "held": int(row.held),
            "taken": int(row.taken),
            "refunded": int(row.refunded),
        }
        log.error("job_credits_mismatched", job=str(row.id), user=str(row.owner_id), **details)
    for row in budgets:
        says, counted = {"held": row.held, "charged": row.charged}, {"held": int(row.jobs_held), "charged": int(row.jobs_charged)}
        log.error("credit_budget_mismatched", budget=str(row.id), user=str(row.owner_id), says=says, jobs=counted)
    return len(users) + len(jobs) + len(budgets)
