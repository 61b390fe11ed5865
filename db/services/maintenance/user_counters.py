"""Recount what users own, see `db.tables.UserCounter`."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import BigInteger, Select, Table, Text, cast, exists, func, literal, select, text, union_all

from db.core.viewer import SYSTEM
from db.queries.accounts import COUNTED
from db.services.maintenance.context import MaintenanceContext
from db.tables import Table as MappedTable
from db.tables import User, UserCounter

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RECOUNT_LOCK = 7_263_004  # of PostgreSQL's advisory locks: two corrections at once would each add what is missing


def _rows_of(table: Table) -> Select[*tuple[Any, ...]]:
    rows: Select[*tuple[Any, ...]] = select(
        table.c.owner_id, literal(table.name, Text).label("kind"), func.count().label("number")
    ).group_by(table.c.owner_id)
    return rows.where(table.c.deleted_at.is_(None)) if "deleted_at" in table.c else rows


def _correction() -> Select[*tuple[Any, ...]]:
    """Add what is missing to each number that is wrong. A row and its counter change in one commit, so within the snapshot of one statement
    the difference is exact, whatever is written meanwhile, and nothing needs to be locked."""
    actual = union_all(*(_rows_of(MappedTable.metadata.tables[name]) for name in COUNTED)).subquery("actual")
    parts = select(UserCounter.owner_id, UserCounter.kind, cast(func.sum(UserCounter.value), BigInteger).label("number"))
    counted = parts.group_by(UserCounter.owner_id, UserCounter.kind).subquery("counted")
    is_same = (actual.c.owner_id == counted.c.owner_id) & (actual.c.kind == counted.c.kind)
    was, is_now = func.coalesce(counted.c.number, 0), func.coalesce(actual.c.number, 0)
    columns: tuple[Any, ...] = (
        func.coalesce(actual.c.owner_id, counted.c.owner_id).label("owner_id"),
        func.coalesce(actual.c.kind, counted.c.kind).label("kind"),
        was.label("was"),
        is_now.label("is_now"),
    )
    # Of a purged account, jobs stay that the ledger refers to, but no counter.
    is_kept = ~exists().where(User.id == columns[0], User.purge_started_at.is_not(None))
    drift = select(*columns).select_from(actual.outerjoin(counted, is_same, full=True)).where(was != is_now, is_kept).cte("drift")
    added = func.trellis_add_to_counter(drift.c.owner_id, drift.c.kind, drift.c.is_now - drift.c.was)
    return select(drift, cast(added, Text).label("added")).order_by(drift.c.owner_id, drift.c.kind)


_CORRECTION = _correction()


async def recount(context: MaintenanceContext, statement_timeout: str) -> int:
    """Correct and log the numbers that are wrong; return how many."""
    async with context.database.work(SYSTEM) as work:
        await work.run(text(f"SET LOCAL statement_timeout = '{statement_timeout}'"))
        await work.run(text("SET LOCAL transaction_timeout = 0"))
        await work.run(select(func.pg_advisory_xact_lock(RECOUNT_LOCK)))
        corrected = await work.all(_CORRECTION)
    for row in corrected:
        log.warning("counter_drift_corrected", counter=f"user_counters.{row.kind}", row=str(row.owner_id), was=row.was, is_now=row.is_now)
    return len(corrected)
