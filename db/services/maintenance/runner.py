"""Doing a chore: one worker at a time, not more often than it is due, and told in its row.

The lock is an advisory one of a session that does nothing else, so it lasts over the chore's transactions and ends with its process. A
worker that loses that session (Postgres restarted) may for a moment do a chore beside another; every chore bears that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Double, Text, bindparam, case, cast, column, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.sql import Column
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Unavailable
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.registry import MAINTENANCE_TASKS, MaintenanceTask
from db.tables import MaintenanceTaskState as TaskState

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RETRY_AFTER = 60.0  # seconds until a chore that failed, or that nobody ended, is done again, if it is not due sooner


@dataclass(frozen=True, slots=True)
class MaintenanceResult:
    """How a chore went. `changed` counts rows or objects; `error` says why it failed."""

    name: str
    changed: int
    error: str | None = None


async def run_task(context: MaintenanceContext, name: str, worker: str) -> MaintenanceResult | None:
    """Do this chore now, due or not, and say how it went; None while another process does it. `KeyError` for a name that there is not."""
    return await _run(context, MAINTENANCE_TASKS[name], worker, 0.0)


async def run_if_due(context: MaintenanceContext, name: str, worker: str) -> MaintenanceResult | None:
    """The same, but only when it is due; None also when it is not."""
    task = MAINTENANCE_TASKS[name]
    return await _run(context, task, worker, task.interval(context.settings))


def _seconds_until_due(interval: Any) -> Any:
    """Seconds until a chore is due; one that failed or was broken off is due sooner."""
    effective_interval = case(
        (or_(TaskState.ended_at.is_(None), TaskState.error.is_not(None)), func.least(interval, RETRY_AFTER)), else_=interval
    )
    return effective_interval - func.extract("epoch", func.clock_timestamp() - TaskState.started_at)


def _due_statement() -> Any:
    names = func.unnest(bindparam("names", type_=ARRAY(Text)), bindparam("every", type_=ARRAY(Double)))
    tasks = names.table_valued(column("name", Text), column("every", Double)).render_derived(name="known")
    return select(tasks.c.name, func.coalesce(_seconds_until_due(tasks.c.every), 0.0).label("left")).outerjoin(
        TaskState, TaskState.name == tasks.c.name
    )


_DUE_STATEMENT = _due_statement()


async def seconds_until_due(context: MaintenanceContext) -> dict[str, float]:
    """How many seconds each chore still waits, by name; those that are due have none left, those that are turned off are left out."""
    intervals = {task.name: task.interval(context.settings) for task in MAINTENANCE_TASKS.values() if task.interval(context.settings) > 0}
    rows = await context.database.rows(_DUE_STATEMENT, {"names": list(intervals), "every": list(intervals.values())})
    return {row.name: max(float(row.left), 0.0) for row in rows}


async def _run(context: MaintenanceContext, task: MaintenanceTask, worker: str, interval: float) -> MaintenanceResult | None:
    async with _exclusive(context.database, task.name) as is_exclusive:
        if not is_exclusive or not await _begin(context.database, task.name, worker, interval):
            return None
        changed, error = 0, None
        try:
            changed = await task.run(context)
        except (MaintenanceTaskFailed, Unavailable) as failure:
            error = str(failure)
            log.warning("chore_failed", chore=task.name, error=error)
        except Exception as failure:  # recorded like any other end, for an operator to find
            error = f"{type(failure).__name__}: {failure}"
            log.exception("chore_failed", chore=task.name)
        await _end(context.database, task.name, changed, error)
        if changed:
            log.info("chore_done", chore=task.name, changed=changed)
        return MaintenanceResult(task.name, changed, error)


@asynccontextmanager
async def _exclusive(database: Database, name: str) -> AsyncGenerator[bool]:
    """Whether nobody else does this chore, for as long as the block lasts."""
    lock_key = func.hashtextextended(literal(f"chore {name}", Text), 0)
    async with database.session() as connection:
        if not (await connection.execute(select(func.pg_try_advisory_lock(lock_key)))).scalar():
            yield False
            return
        try:
            yield True
        finally:
            try:
                await connection.execute(select(func.pg_advisory_unlock(lock_key)))
            except BaseException:
                await connection.invalidate()  # or the pool would lend the lock to somebody else
                raise


async def _begin(database: Database, name: str, worker: str, interval: float) -> bool:
    """Whether it was due: another may have done it since we looked."""
    insertion = upsert(TaskState).values(name=name, worker=worker, started_at=func.clock_timestamp())
    is_due = or_(TaskState.started_at.is_(None), _seconds_until_due(cast(interval, Double)) <= 0) if interval > 0 else None
    upsert_statement = insertion.on_conflict_do_update(
        index_elements=["name"], set_={"worker": worker, "started_at": func.clock_timestamp(), "ended_at": None}, where=is_due
    )
    async with database.work(SYSTEM) as work:
        return await work.scalar(upsert_statement.returning(TaskState.name)) is not None


async def _end(database: Database, name: str, changed: int, error: str | None) -> None:
    values: dict[str, Column | Any] = {
        "ended_at": func.clock_timestamp(),
        "runs": TaskState.runs + 1,
        "failures": TaskState.failures + int(error is not None),
        "changed": TaskState.changed + changed,
        "error": error[:2_000] if error is not None else None,
    }
    async with database.work(SYSTEM) as work:
        await work.run(update(TaskState).where(TaskState.name == name).values(values))
