"""The actions of `trellis retention`."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db.core.work import Database
from db.queries import retention
from db.queries.retention import Forecast
from db.services import maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore

TASKS = ("apply_retention", "forget_api_usage", "forget_sign_ins", "forget_notifications")


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed of a table now."""

    table: str
    rows: int
    partitions: int


@dataclass(frozen=True, slots=True)
class Removals:
    """What was removed by table, and what stood in the way."""

    tables: Sequence[Removal]
    problems: Sequence[str]


async def forecast(settings: StateSettings) -> Sequence[Forecast]:
    """What would be removed of each table now."""
    async with Database.open(settings, statement_timeout=0) as database:
        tables = retention.RETAINED_TABLES
        return [await retention.forecast(database, table, settings, whole_only=settings.retention_archive) for table in tables]


async def remove(settings: StateSettings) -> Removals:
    """Run the maintenance tasks that remove it, whether due or not."""
    problems: list[str] = []
    async with Database.open(settings) as database, ObjectStore.open(settings) as objects:
        context = maintenance.MaintenanceContext(database, objects, settings)
        before = await retention.totals(database)
        for task in TASKS:
            result = await maintenance.run_task(context, task, f"{socket.gethostname()}-{os.getpid()}-retention")
            if result is None:
                problems.append(f"A worker runs {task} at this moment. Try again when it is done: `trellis jobs maintenance` shows it.")
            elif result.error is not None:
                problems.append(result.error)
        after: Any = await retention.totals(database)
    removals = [Removal(name, after[name].rows - row.rows, after[name].partitions - row.partitions) for name, row in before.items()]
    return Removals(removals, problems)
