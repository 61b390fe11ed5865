"""A job that waits says why, and at which place of its queue it stands."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import jobs
from db.tables.jobs import JobKind
from tests.client import Client

QUEUE = "nowhere"  # the workers of the tests do not serve it
LINE = """query($id: ID!) { job(id: $id) { status waitReason queuePosition } }"""


async def owner(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def submit(database: Database, owner_id: UUID, priority: int = 5) -> str:
    async with database.work(SYSTEM) as work:
        row = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.PROCESS, QUEUE, priority))
    return f"job_{row.id.hex}"


async def run(database: Database, statement: str, **parameters: Any) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


@pytest.fixture
async def served(database: Database) -> AsyncGenerator[None]:
    """Somebody serves the queue, and is busy with something else."""
    await run(database, "INSERT INTO workers (name, queues, slots) VALUES ('busy', ARRAY['nowhere'], 1)")
    yield
    await run(database, "DELETE FROM workers WHERE name = 'busy'")


async def line(client: Client, *ids: str) -> list[tuple[str | None, int | None]]:
    found = [await client.one(LINE, id=id_) for id_ in ids]
    return [(job["waitReason"], job["queuePosition"]) for job in found]


async def test_owners_take_turns_and_priority_goes_first(ada: Client, bob: Client, database: Database, served: None) -> None:
    hers, his = await owner(ada), await owner(bob)
    first, second, third = [await submit(database, hers) for _ in range(3)]
    other = await submit(database, his)
    urgent = await submit(database, hers, priority=6)
    assert await line(ada, urgent, first, second, third) == [("QUEUE", 1), ("QUEUE", 2), ("QUEUE", 4), ("QUEUE", 5)]
    assert await line(bob, other) == [("QUEUE", 3)]


async def test_waiting_raises_the_priority(ada: Client, database: Database, served: None) -> None:
    hers = await owner(ada)
    old, urgent = await submit(database, hers), await submit(database, hers, priority=7)
    assert await line(ada, old, urgent) == [("QUEUE", 2), ("QUEUE", 1)]
    await run(database, "UPDATE jobs SET waiting_since = now() - interval '16 minutes' WHERE id = :id", id=UUID(old.removeprefix("job_")))
    assert await line(ada, old, urgent) == [("QUEUE", 1), ("QUEUE", 2)]


async def test_a_job_that_waits_to_be_retried_stands_in_no_line(ada: Client, database: Database, served: None) -> None:
    hers = await owner(ada)
    later, now = await submit(database, hers), await submit(database, hers)
    await run(database, "UPDATE jobs SET run_after = now() + interval '1 minute' WHERE id = :id", id=UUID(later.removeprefix("job_")))
    assert await line(ada, later, now) == [("RETRY_BACKOFF", None), ("QUEUE", 1)]


async def test_without_a_worker_that_is_what_it_waits_for(ada: Client, database: Database) -> None:
    job = await submit(database, await owner(ada))
    assert await line(ada, job) == [("NO_WORKER", 1)]
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    assert await line(ada, job) == [(None, None)]
