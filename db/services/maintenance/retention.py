"""The maintenance task that removes the events of jobs and the points of runs that ended long ago."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries.retention import JOB_EVENTS, METRIC_POINTS, Partition, RetainedTable, is_over, kept_since, months
from db.services.maintenance.archive import archive_month
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.partitions import NotOver, add_to_totals, drop_detached, replace_month

log: structlog.stdlib.BoundLogger = structlog.get_logger()

EVENTS_A_BATCH = 5_000
POINTS_A_BATCH = 20_000
RUNS_A_PAGE = 500


async def apply_retention(context: MaintenanceContext) -> int:
    """Remove the job events and metric points whose retention is over; return how many.

    A month goes as a whole once all of its jobs or runs have ended and are past the retention: its partition is dropped, and one with the last event of
    each job is in its place. Until then rows go in batches, unless months are archived. Fails if a partition was in use all the time.
    """
    removed, failures = 0, list[str]()
    for retained in (JOB_EVENTS, METRIC_POINTS):
        try:
            removed += await _apply(context, retained)
        except MaintenanceTaskFailed as failure:  # the other table may be free
            failures.append(str(failure))
    if failures:
        raise MaintenanceTaskFailed(" ".join(failures))
    return removed


async def _apply(context: MaintenanceContext, retained: RetainedTable) -> int:
    database = context.database
    await drop_detached(database, retained.name)
    since = await kept_since(database, retained, context.settings)
    if since is None:
        return 0
    removed = 0
    for partition in await months(database, retained.name):
        if partition.starts < since and not await _is_done(database, retained, partition):
            removed += await _remove(context, retained, partition, since)
    return removed


async def _remove(context: MaintenanceContext, retained: RetainedTable, partition: Partition, since: datetime) -> int:
    database = context.database
    if await is_over(database.rows, retained, partition, since):
        archived_rows = await archive_month(context, partition) if context.settings.retention_archive else None
        try:
            return await replace_month(database, retained, partition, since, archived_rows)
        except NotOver:
            log.info("partition_not_over", partition=partition.name)
            return 0
    if context.settings.retention_archive:  # what went before would be missing in the archive of the month
        return 0
    removed = 0
    batches = _event_batches if retained is JOB_EVENTS else _point_batches
    async for count in batches(database, partition, since):
        removed += count
    return removed


async def _is_done(database: Database, retained: RetainedTable, partition: Partition) -> bool:
    """Whether nothing of the month is left but what stays: ended jobs have no further events, but the points of an external run may go on."""
    statement = text(
        f"SELECT NOT EXISTS (SELECT FROM {partition.name}) AS is_empty,"  # noqa: S608 - our own name
        " EXISTS (SELECT FROM dropped_partitions WHERE name = :name AND drops > 0) AS was_dropped"
    )
    (row,) = await database.rows(statement, {"name": partition.name})
    return row.is_empty or (row.was_dropped and retained is JOB_EVENTS)


async def _event_batches(database: Database, partition: Partition, since: datetime) -> AsyncIterator[int]:
    """Delete the events of ended jobs but the last in batches, those of a job from the first on; yield the number in each."""
    statement = text(
        f"WITH batch AS MATERIALIZED (SELECT t.job_id, t.sequence FROM {JOB_EVENTS.source.format(partition.name)}"  # noqa: S608 - our own names
        f" WHERE {JOB_EVENTS.goes} AND t.job_id >= :first ORDER BY t.job_id, t.sequence LIMIT {EVENTS_A_BATCH}),"
        f" gone AS (DELETE FROM {partition.name} t USING batch WHERE t.job_id = batch.job_id AND t.sequence = batch.sequence RETURNING t.job_id)"
        " SELECT count(*) AS rows, (array_agg(job_id ORDER BY job_id DESC))[1] AS last FROM gone"
    )
    first = partition.ids[0]
    while True:
        async with database.work(SYSTEM) as work:
            row = await work.one(statement, {"since": since, "first": first})
            if row.rows:
                await add_to_totals(work, partition.parent, row.rows)
                first = row.last
        yield row.rows
        if row.rows < EVENTS_A_BATCH:
            return


async def _point_batches(database: Database, partition: Partition, since: datetime) -> AsyncIterator[int]:
    """Delete the points of ended runs, those of a run in one transaction: so a series is whole or gone. Yield the number in each."""
    first, end = partition.ids
    page_of_runs = text(
        f"SELECT p.id, (SELECT sum(m.count) FROM run_metrics m WHERE m.run_id = p.id) AS points FROM runs p"  # noqa: S608 - our own names
        f" WHERE p.id > :after AND p.id < :end AND {METRIC_POINTS.is_due} AND EXISTS (SELECT FROM {partition.name} t WHERE t.run_id = p.id)"
        f" ORDER BY p.id LIMIT {RUNS_A_PAGE}"
    )
    after = UUID(int=first.int - 1)
    while True:
        runs = await database.rows(page_of_runs, {"since": since, "after": after, "end": end})
        for batch in _batches(runs):
            yield await _delete_points(database, partition, batch, since)
        if len(runs) < RUNS_A_PAGE:
            return
        after = runs[-1].id


def _batches(runs: Any) -> list[list[UUID]]:
    """Divide runs into batches of about `POINTS_A_BATCH` points, or of one run that has more."""
    batches: list[list[UUID]] = []
    points = POINTS_A_BATCH
    for run in runs:
        if points >= POINTS_A_BATCH:
            batches.append([])
            points = 0
        batches[-1].append(run.id)
        points += int(run.points or 0)
    return batches


async def _delete_points(database: Database, partition: Partition, run_ids: list[UUID], since: datetime) -> int:
    statement = text(
        f"DELETE FROM {partition.name} t USING runs p WHERE p.id = t.run_id AND p.id = ANY(:run_ids) AND {METRIC_POINTS.is_due}"  # noqa: S608 - our own names
    )
    async with database.work(SYSTEM) as work:
        for name in ("statement_timeout", "transaction_timeout"):  # a run may have millions
            await work.run(text(f"SET LOCAL {name} = 0"))
        deleted = await work.run(statement, {"run_ids": run_ids, "since": since})
        await add_to_totals(work, partition.parent, deleted)
    return deleted
