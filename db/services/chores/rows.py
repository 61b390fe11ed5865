"""Chores that keep the tables in shape."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import ColumnElement, Delete, Table, delete, exists, func, select, table, text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import idempotency
from db.services.chores.ground import ChoreFailed, Ground
from db.services.jobs import retire_silent_workers
from db.tables import IdempotencyKey, Job, StagedPoint, Worker

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PARTITIONED = ("job_events", "metric_points")
PARTITIONS_AHEAD = 3
AT_ONCE = 5_000
WORKERS_KEPT = "interval '30 days'"
STAGED_KEPT = "interval '1 hour'"  # far longer than any transaction that takes points over


async def make_partitions(ground: Ground) -> int:
    """Partitions for this month and the next three. Fails when rows have fallen into a default partition, for these block the making."""
    full = [parent for parent in PARTITIONED if await _rows_in_default(ground.database, parent)]
    if full:
        log.warning("default_partitions_not_empty", tables=full)
        raise ChoreFailed(
            f"{', '.join(f'{parent}_default' for parent in full)} holds rows, which should have had a partition of their own. In one "
            "transaction, move them to a temporary table, run `SELECT trellis_make_partitions(3)`, and insert them again."
        )
    counted = select(func.count()).select_from(text("pg_inherits"))
    async with ground.database.work(SYSTEM) as work:
        before = await work.scalar(counted)
        await work.scalar(select(func.trellis_make_partitions(PARTITIONS_AHEAD)))
        return await work.scalar(counted) - before


async def _rows_in_default(database: Database, parent: str) -> bool:
    (row,) = await database.rows(select(exists().select_from(table(f"{parent}_default")).label("there")))
    return row.there


async def retire_workers(ground: Ground) -> int:
    """Workers that went silent count as stopped; those that stopped a month ago go, unless a job still names them."""
    async with ground.database.work(SYSTEM) as work:
        silent = await retire_silent_workers(work, ground.settings.worker_silence)
    named = exists().where(Job.worker_id == Worker.id)
    return silent + await _remove(ground.database, Worker, (Worker.stopped_at < func.now() - text(WORKERS_KEPT)) & ~named)


async def forget_keys(ground: Ground) -> int:
    """Idempotency keys are good for a day."""
    return await _remove(ground.database, IdempotencyKey, IdempotencyKey.created_at < func.now() - text(idempotency.KEPT))


async def forget_staged_points(ground: Ground) -> int:
    """Points that an attempt staged and never took over: it died in between."""
    return await _remove(ground.database, StagedPoint, StagedPoint.staged_at < func.now() - text(STAGED_KEPT))


async def _remove(database: Database, rows: Any, condition: ColumnElement[bool]) -> int:
    """Delete a few thousand at a time, each lot on its own; rows that somebody holds wait for the next time."""
    whole: Table = rows.__table__
    keys = list(whole.primary_key.columns)
    some = select(*keys).where(condition).limit(AT_ONCE).with_for_update(skip_locked=True).cte("some")
    statement: Delete = delete(rows)
    for key in keys:
        statement = statement.where(key == some.c[key.name])
    removed = 0
    while True:
        async with database.work(SYSTEM) as work:
            gone = await work.run(statement)
        removed += gone
        if gone < AT_ONCE:
            return removed
