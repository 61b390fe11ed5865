"""A waiting job shows why it waits and its position in the queue."""

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
QUEUE_PLACE = """query($id: ID!) { job(id: $id) { status waitReason queuePosition } }"""


async def user_id(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def submit(database: Database, owner_id: UUID, priority: int = 5) -> str:
    async with database.work(SYSTEM) as work:
        row = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.PROCESS, QUEUE, priority))
    return f"job_{row.id.hex}"


async def execute(database: Database, statement: str, **parameters: Any) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement), parameters)


@pytest.fixture
async def served(database: Database) -> AsyncGenerator[None]:
    """A worker serves the queue but has no free slot."""
    await execute(database, "INSERT INTO workers (name, queues, slots) VALUES ('busy', ARRAY['nowhere'], 1)")
    yield
    await execute(database, "DELETE FROM workers WHERE name = 'busy'")


async def queue_places(client: Client, *ids: str) -> list[tuple[str | None, int | None]]:
    answers = [await client.one(QUEUE_PLACE, id=id_) for id_ in ids]
    return [(job["waitReason"], job["queuePosition"]) for job in answers]


async def test_owners_take_turns_and_priority_goes_first(ada: Client, bob: Client, database: Database, served: None) -> None:
    ada_id, bob_id = await user_id(ada), await user_id(bob)
    first, second, third = [await submit(database, ada_id) for _ in range(3)]
    other = await submit(database, bob_id)
    urgent = await submit(database, ada_id, priority=6)
    assert await queue_places(ada, urgent, first, second, third) == [("QUEUE", 1), ("QUEUE", 2), ("QUEUE", 4), ("QUEUE", 5)]
    assert await queue_places(bob, other) == [("QUEUE", 3)]


async def test_waiting_raises_the_priority(ada: Client, database: Database, served: None) -> None:
    ada_id = await user_id(ada)
    old, urgent = await submit(database, ada_id), await submit(database, ada_id, priority=7)
    assert await queue_places(ada, old, urgent) == [("QUEUE", 2), ("QUEUE", 1)]
    await execute(
        database, "UPDATE jobs SET waiting_since = now() - interval '16 minutes' WHERE id = :id", id=UUID(old.removeprefix("job_"))
    )
    assert await queue_places(ada, old, urgent) == [("QUEUE", 1), ("QUEUE", 2)]


async def test_a_job_that_waits_to_be_retried_has_no_place_in_the_queue(ada: Client, database: Database, served: None) -> None:
    ada_id = await user_id(ada)
    later, now = await submit(database, ada_id), await submit(database, ada_id)
    await execute(database, "UPDATE jobs SET run_after = now() + interval '1 minute' WHERE id = :id", id=UUID(later.removeprefix("job_")))
    assert await queue_places(ada, later, now) == [("RETRY_BACKOFF", None), ("QUEUE", 1)]


async def test_without_a_worker_that_is_what_it_waits_for(ada: Client, database: Database) -> None:
    job = await submit(database, await user_id(ada))
    assert await queue_places(ada, job) == [("NO_WORKER", 1)]
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
    assert await queue_places(ada, job) == [(None, None)]
