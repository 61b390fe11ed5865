"""Run maintenance tasks: each on one worker at a time, when it is due, with its outcome in the task's row.

The lock is an advisory lock of a dedicated session, so it spans the task's transactions and ends with the process. After that session is
lost (PostgreSQL restarted), two workers may briefly run the same task; every task tolerates that.
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

RETRY_AFTER = 60.0  # seconds until a failed or interrupted task is run again, if it is not due sooner


@dataclass(frozen=True, slots=True)
class MaintenanceResult:
    """The outcome of a task. `changed` counts rows or objects; `error` says why it failed."""

    name: str
    changed: int
    error: str | None = None


async def run_task(context: MaintenanceContext, name: str, worker: str) -> MaintenanceResult | None:
    """Run a task now, whether due or not; None if another process runs it. Raises `KeyError` for an unknown name."""
    return await _run(context, MAINTENANCE_TASKS[name], worker, 0.0)


async def run_if_due(context: MaintenanceContext, name: str, worker: str) -> MaintenanceResult | None:
    """Run a task if it is due; None if it is not, or another process runs it."""
    task = MAINTENANCE_TASKS[name]
    return await _run(context, task, worker, task.interval(context.settings))


def _seconds_until_due(interval: Any) -> Any:
    """Seconds until a task is due; a failed or interrupted one is due sooner."""
    effective_interval = case(
        (or_(TaskState.ended_at.is_(None), TaskState.error.is_not(None)), func.least(interval, RETRY_AFTER)), else_=interval
    )
    return effective_interval - func.extract("epoch", func.clock_timestamp() - TaskState.started_at)


def _due_statement() -> Any:
    names = func.unnest(bindparam("names", type_=ARRAY(Text)), bindparam("intervals", type_=ARRAY(Double)))
    tasks = names.table_valued(column("name", Text), column("interval_seconds", Double)).render_derived(name="tasks")
    return select(tasks.c.name, func.coalesce(_seconds_until_due(tasks.c.interval_seconds), 0.0).label("seconds_left")).outerjoin(
        TaskState, TaskState.name == tasks.c.name
    )


_DUE_STATEMENT = _due_statement()


async def seconds_until_due(context: MaintenanceContext) -> dict[str, float]:
    """Seconds until each task is due, by name: 0 for due tasks; disabled tasks are left out."""
    intervals = {task.name: task.interval(context.settings) for task in MAINTENANCE_TASKS.values() if task.interval(context.settings) > 0}
    rows = await context.database.rows(_DUE_STATEMENT, {"names": list(intervals), "intervals": list(intervals.values())})
    return {row.name: max(float(row.seconds_left), 0.0) for row in rows}


async def _run(context: MaintenanceContext, task: MaintenanceTask, worker: str, interval: float) -> MaintenanceResult | None:
    async with _exclusive(context.database, task.name) as is_exclusive:
        if not is_exclusive or not await _begin(context.database, task.name, worker, interval):
            return None
        changed, error = 0, None
        try:
            changed = await task.run(context)
        except (MaintenanceTaskFailed, Unavailable) as failure:
            error = str(failure)
            log.warning("maintenance_task_failed", task=task.name, error=error)
        except Exception as failure:  # recorded like any other failure
            error = f"{type(failure).__name__}: {failure}"
            log.exception("maintenance_task_failed", task=task.name)
        await _end(context.database, task.name, changed, error)
        if changed:
            log.info("maintenance_task_completed", task=task.name, changed=changed)
        return MaintenanceResult(task.name, changed, error)


@asynccontextmanager
async def _exclusive(database: Database, name: str) -> AsyncGenerator[bool]:
    """Yield whether this process holds the task's lock, until the block ends."""
    # "chore" stays in the key: during a rolling restart, old and new releases must take the same lock.
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
                await connection.invalidate()  # else the pool would hand out a session that holds the lock
                raise


async def _begin(database: Database, name: str, worker: str, interval: float) -> bool:
    """Record the start; return whether the task was still due, as another worker may have run it since."""
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
