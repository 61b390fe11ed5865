"""Writes the step definitions of the code to the table that the API reads and validates steps against, and the templates and
tutorials that ship.
"""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import func, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.learning import publish_tutorials
from db.services.pipelines import publish_templates
from db.settings import StateSettings
from db.tables import StepDefinition
from db.tables.pipelines import StepType
from workers.ml.steps import DEFINITIONS


async def project_steps(database: Database) -> None:
    """Upsert all step definitions, templates and tutorials. A step removed from the code keeps its row, marked retired. Safe to run concurrently."""
    rows = [_row(position, definition) for position, definition in enumerate(DEFINITIONS)]
    statement = upsert(StepDefinition).values(sorted(rows, key=lambda step: step["key"]))
    updated_columns = {
        name: getattr(statement.excluded, name) for name in ("position", "type", "title", "description", "modalities", "parameter_schema")
    }
    async with database.work(SYSTEM) as work:
        await work.run(statement.on_conflict_do_update(index_elements=["key"], set_={**updated_columns, "retired_at": None}))
        retire = update(StepDefinition).where(
            StepDefinition.key.not_in([step["key"] for step in rows]), StepDefinition.retired_at.is_(None)
        )
        await work.run(retire.values(retired_at=func.now()))
        await publish_templates(work)
        await publish_tutorials(work)


def _row(position: int, definition: dict[str, Any]) -> dict[str, Any]:
    converted = {"type": StepType[definition["type"]], "modalities": [modality.lower() for modality in definition["modalities"]]}
    return {**definition, **converted, "position": position}


def project_steps_sync(database_url: str) -> None:
    """`project_steps` for callers without an event loop."""

    async def run() -> None:
        async with Database.open(StateSettings(database_url=database_url)) as database:
            await project_steps(database)

    with asyncio.Runner() as runner:
        runner.run(run())
