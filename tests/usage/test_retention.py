"""Requests are kept for their retention, by dropping whole months, and their sums for theirs."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, text

from db.core.work import Database
from db.services import maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import ApiMetric, ApiRequest, User
from tests.client import Client
from tests.workers.worker_harness import run_maintenance

DAY = 86_400.0
PARTITIONS = text("SELECT relname FROM pg_class WHERE relname LIKE 'api_requests_%' AND relkind = 'r' ORDER BY 1")
OLD_MONTH = (
    "CREATE TABLE api_requests_2020_05 PARTITION OF api_requests"
    " FOR VALUES FROM ('0171cd8f-5800-7000-8000-000000000000') TO ('01726d33-c400-7000-8000-000000000000')"
)


async def test_what_is_older_than_its_retention_is_removed(ada: Client, settings: StateSettings, database: Database) -> None:
    (user,) = await database.rows(select(User.id).where(User.username == "ada"))
    before = [row.relname for row in await database.rows(PARTITIONS)]
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(OLD_MONTH)
        for key, age in (
            (UUID("0171d000-0000-7000-8000-000000000000"), "6 years"),
            (UUID(int=7 << 120), "31 days"),
            (UUID(int=8 << 120), "29 days"),
        ):
            await connection.execute(
                text(
                    "INSERT INTO api_requests (id, created_at, user_id, operation_kind, cost, duration, request_bytes, response_bytes)"
                    f" VALUES (:id, now() - interval '{age}', :user, 'query', 0, 0, 0, 0)"
                ),
                {"id": key, "user": user.id},
            )
        for age in ("400 days", "390 days"):
            await connection.execute(
                text(
                    "INSERT INTO api_metrics (user_id, hour, requests, errors, cost, duration)"
                    f" VALUES (:user, date_trunc('hour', now()) - interval '{age}', 1, 0, 0, 0)"
                ),
                {"user": user.id},
            )
    async with ObjectStore.open(settings) as objects:
        context = maintenance.MaintenanceContext(database, objects, settings.model_copy(update={"api_request_retention": 30 * DAY}))
        run = await run_maintenance(context, "forget_api_usage")
        again = await run_maintenance(context, "forget_api_usage")
    assert (run.error, again) == (None, maintenance.MaintenanceResult("forget_api_usage", 0))
    # A partition, a request and a sum, unless a worker of another test was first.
    assert run.changed in {3, 0}
    assert [row.relname for row in await database.rows(PARTITIONS)] == before
    assert [row.id for row in await database.rows(select(ApiRequest.id))] == [UUID(int=8 << 120)]
    assert len(await database.rows(select(ApiMetric.id))) == 1
