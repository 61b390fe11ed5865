"""How many jobs there are, and how long they took and waited, by what they have in common."""

from __future__ import annotations

from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.factories import platform

STATISTICS = "query($filter: JobFilter, $by: [JobGrouping!]!) { jobStatistics(filter: $filter, groupBy: $by) { group count medianDuration medianWait } }"


async def test_jobs_are_counted_by_groups(ada: Client, bob: Client, database: Database) -> None:
    await platform.fill(database, "ada", 5)
    async with database.engine.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))  # jobs that have ended do not change
        await connection.execute(
            text(
                "UPDATE jobs j SET created_at = n.at, started_at = n.at + n.i * interval '1 second', completed_at = n.at + n.i * interval '11 seconds'"
                " FROM (SELECT id, date_trunc('day', now()) - row_number() OVER (PARTITION BY kind ORDER BY id) * interval '15 days' AS at,"
                " row_number() OVER (PARTITION BY kind ORDER BY id) AS i FROM jobs) n WHERE n.id = j.id"
            )
        )
    viewer = (await ada.one("{ viewer { id } }"))["id"]
    counts = {row["group"]["kind"]: row for row in await ada.one(STATISTICS, by=["KIND", "STATUS", "OWNER"])}
    train = counts["TRAIN"]
    # Of the five only the first is not older than 30 days: the second is so by the time of day.
    assert train == {
        "group": {"kind": "TRAIN", "status": "COMPLETED", "owner": viewer},
        "count": 1,
        "medianDuration": 10.0,
        "medianWait": 1.0,
    }
    long_ago = {"kind": ["TRAIN"], "createdAt": {"gte": "2000-01-01T00:00:00Z"}}
    assert await ada.one(STATISTICS, by=[], filter=long_ago) == [{"group": {}, "count": 5, "medianDuration": 30.0, "medianWait": 3.0}]
    days = await ada.one(STATISTICS, by=["DAY"], filter=long_ago)
    assert [row["count"] for row in days] == [1] * 5
    assert len({row["group"]["day"] for row in days}) == 5
    assert [row["group"] for row in await ada.one("{ jobStatistics(filter: { kind: [TRAIN] }) { group } }")] == [{"status": "COMPLETED"}]
    assert await bob.one(STATISTICS, by=["STATUS"], filter=long_ago) == []
