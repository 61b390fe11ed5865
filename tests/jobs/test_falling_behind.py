"""A watcher of many jobs that falls behind rereads what changed meanwhile and misses nothing."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database, Notice
from db.services.jobs.submitting import NewJob, submit
from db.tables.jobs import JobKind
from graph.core.ids import decode, encode
from tests.client import Client

pytestmark = pytest.mark.exhaustive

UPDATES = "subscription { jobUpdates { id progress parameters } }"
LARGE, SMALL = 200, 650
UPDATE_PROGRESS = text("UPDATE jobs SET progress = 7, last_sequence = last_sequence + 1 WHERE id = ANY(:ids) RETURNING id, last_sequence")
INSERT_EVENTS = text("""
    INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
    SELECT id, last_sequence, attempt, 'progress', status, progress FROM jobs WHERE id = ANY(:ids)""")


def rereads() -> float:
    return REGISTRY.get_sample_value("trellis_stream_rereads_total", {"stream": "jobUpdates"}) or 0


async def test_a_watcher_that_more_than_500_jobs_have_overtaken_hears_the_last_of_each(ada: Client, notifying_database: Database) -> None:
    owner_id = decode("user", (await ada.one("{ viewer { id } }"))["id"])
    fast_received: dict[str, int] = {}

    async def watch() -> None:
        async for answer in ada.subscribe(UPDATES):
            fast_received[answer["jobUpdates"]["id"]] = answer["jobUpdates"]["progress"]

    async def wait_until_received(count: int) -> None:
        async with asyncio.timeout(60):
            while list(fast_received.values()).count(7) < count:
                await asyncio.sleep(0.02)

    async def create_and_update_jobs(count: int, size: int) -> set[str]:
        """Create `count` jobs with `size` characters of parameters and update each once."""
        async with notifying_database.work(SYSTEM) as work:
            new = NewJob(owner_id=owner_id, kind=JobKind.PROFILE, queue="nobodys", parameters={"filling": "x" * size})
            ids = [(await submit(work, new)).id for _ in range(count)]
        async with notifying_database.work(SYSTEM) as work:
            for row in await work.all(UPDATE_PROGRESS, {"ids": ids}):
                work.notify(Notice(row.id, row.last_sequence))
            await work.run(INSERT_EVENTS, {"ids": ids})
        return {encode("job", id_) for id_ in ids}

    before = rereads()
    async with ada.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": UPDATES}})
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.5)
        # From here on the first socket is not read, so its client's and the server's buffers fill up.
        expected = await create_and_update_jobs(LARGE, 100_000)
        await wait_until_received(LARGE)
        expected |= await create_and_update_jobs(SMALL, 1)
        await wait_until_received(LARGE + SMALL)
        slow_received: dict[str, int] = {}
        async with asyncio.timeout(60):
            while set(slow_received) != expected or set(slow_received.values()) != {7}:
                job = (await receive())["payload"]["data"]["jobUpdates"]
                slow_received[job["id"]] = job["progress"]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert set(fast_received) == expected
    assert rereads() == before + 1
