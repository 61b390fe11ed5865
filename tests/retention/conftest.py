"""Jobs and runs of long ago: time is moved by their ids and the times of their ends, in months that have partitions of their own."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from db.core.work import Database
from db.services import maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from tests.client import Client
from tests.workers.worker_harness import run_maintenance

MAY, JUNE = datetime(2020, 5, 1, tzinfo=UTC), datetime(2020, 6, 1, tzinfo=UTC)
DAYS = 30.0
_TABLES = ("job_events", "metric_points")
_STATEMENTS = """
INSERT INTO jobs (id, owner_id, kind, status, queue, attempt, tries, last_sequence, created_at, queued_at, started_at, completed_at, lease_until)
VALUES (:job, :owner, 'train', :status, 'tabular', 1, 1, :events, :created, :created, :created, :ended, :lease);
INSERT INTO job_events (job_id, sequence, attempt, type, status, progress, message, data, created_at)
SELECT CAST(:job AS uuid), s, least(s - 1, 1), CASE s WHEN 1 THEN 'created' WHEN :events THEN CAST(:last AS text) ELSE 'log' END,
  CASE s WHEN 1 THEN 'pending' WHEN :events THEN CAST(:status AS text) ELSE 'running' END, 0, 'line "' || s || E'",\nüber', jsonb_build_object('s', s),
  CAST(:created AS timestamptz) + s * interval '1 second'
FROM generate_series(1, :events) s;
INSERT INTO experiments (owner_id, name, last_number) VALUES (:owner, :name, 1);
INSERT INTO runs (id, owner_id, experiment_id, number, status, seed, job_id, created_at, started_at, completed_at)
SELECT CAST(:run AS uuid), CAST(:owner AS uuid), e.id, 1, CAST(:status AS text), 7, CAST(:job AS uuid),
  CAST(:created AS timestamptz), CAST(:created AS timestamptz), CAST(:ended AS timestamptz) FROM experiments e WHERE e.name = :name;
INSERT INTO metric_points (run_id, key, step, value, batch, recorded_at)
SELECT CAST(:run AS uuid), k, s, CASE s WHEN 1 THEN 'NaN' WHEN 2 THEN '-Infinity' ELSE s / 10.0 END, 2, CAST(:created AS timestamptz)
FROM unnest(ARRAY['accuracy', 'loss']) k, generate_series(0, :points - 1) s;
INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, min, min_step, max, max_step, count)
SELECT r.id, r.experiment_id, k, (:points - 1) / 10.0, :points - 1, 0, 0, (:points - 1) / 10.0, :points - 1, :points
FROM runs r, unnest(ARRAY['accuracy', 'loss']) k WHERE r.id = :run;
"""


@dataclass(frozen=True)
class OldJob:
    """The ids of a job and of its run, and what GraphQL calls them."""

    job: UUID
    run: UUID

    @property
    def names(self) -> dict[str, str]:
        return {"job": f"job_{self.job.hex}", "run": f"run_{self.run.hex}"}


class Past:
    """Makes jobs of 2020, and removes what the retention of 30 days is over for."""

    def __init__(self, database: Database, objects: ObjectStore, settings: StateSettings) -> None:
        self.database = database
        self.settings = settings.model_copy(update={"retention_job_events": DAYS, "retention_metric_points": DAYS})
        self.context = maintenance.MaintenanceContext(database, objects, self.settings)

    async def add_job(
        self,
        owner: str,
        created: datetime,
        status: str = "completed",
        *,
        events: int = 5,
        points: int = 4,
        ended: timedelta = timedelta(hours=1),
    ) -> OldJob:
        """Add a job with its run, of which each of two metrics has `points` points."""
        (user,) = await self.database.rows(text("SELECT id FROM users WHERE username = :name"), {"name": owner})
        ids = OldJob(_id(created), _id(created))
        is_over = status == "completed"
        values = {
            "job": ids.job,
            "name": str(ids.job),
            "run": ids.run,
            "owner": user.id,
            "status": status,
            "last": "completed" if is_over else "log",
            "created": created,
            "ended": created + ended if is_over else None,
            "lease": None if is_over else datetime.now(UTC) + timedelta(days=1),
            "events": events,
            "points": points,
        }
        async with self.database.engine.begin() as connection:
            await connection.execute(
                text("SET LOCAL session_replication_role = replica")
            )  # jobs begin as pending, and get there step by step
            for statement in _STATEMENTS.split(";\n"):
                if statement.strip():
                    await connection.execute(
                        text(statement), {name: value for name, value in values.items() if re.search(rf":{name}\b", statement)}
                    )
        return ids

    async def apply(self, **settings: Any) -> maintenance.MaintenanceResult:
        """Run the task now."""
        context = maintenance.MaintenanceContext(self.database, self.context.objects, self.settings.model_copy(update=settings))
        return await run_maintenance(context, "apply_retention")

    async def count(self, table: str) -> int:
        (row,) = await self.database.rows(text(f"SELECT count(*) AS rows FROM {table}"))
        return row.rows

    async def sequences(self, old: OldJob) -> list[int]:
        rows = await self.database.rows(text("SELECT sequence FROM job_events WHERE job_id = :id ORDER BY 1"), {"id": old.job})
        return [row.sequence for row in rows]

    async def points(self, old: OldJob) -> int:
        (row,) = await self.database.rows(text("SELECT count(*) AS rows FROM metric_points WHERE run_id = :id"), {"id": old.run})
        return row.rows

    async def relations(self) -> list[str]:
        """The tables of 2020, with whether they are partitions."""
        rows = await self.database.rows(
            text(
                "SELECT relname || CASE WHEN relispartition THEN '' ELSE ' (detached)' END AS name FROM pg_class WHERE relkind = 'r' AND relname ~ '_2020_' ORDER BY 1"
            )
        )
        return [row.name for row in rows]


def _id(created: datetime) -> UUID:
    return UUID(int=int(created.timestamp() * 1_000) << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62))


async def _drop_months(database: Database) -> None:
    async with database.engine.begin() as connection:
        for row in (await connection.execute(text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_2020_'"))).all():
            await connection.exec_driver_sql(f"DROP TABLE {row.relname}")


@pytest.fixture
async def past(ada: Client, bob: Client, database: Database, settings: StateSettings) -> AsyncGenerator[Past]:
    await _drop_months(database)
    async with database.engine.begin() as connection:
        for table in _TABLES:
            for begin, end in ((MAY, JUNE), (JUNE, datetime(2020, 7, 1, tzinfo=UTC))):
                first, after = (UUID(int=int(time.timestamp() * 1_000) << 80) for time in (begin, end))
                await connection.exec_driver_sql(
                    f"CREATE TABLE {table}_{begin:%Y_%m} PARTITION OF {table} FOR VALUES FROM ('{first}') TO ('{after}')"
                )
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()
        yield Past(database, objects, settings)
    await _drop_months(database)
