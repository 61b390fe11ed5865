"""Who watches many jobs and does not keep up: what changed meanwhile is read anew, and nothing of it is missed."""

from __future__ import annotations

import asyncio

from prometheus_client import REGISTRY
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database, Notice
from db.services.jobs.submitting import NewJob, submit
from db.tables.jobs import JobKind
from graph.core.ids import decode, encode
from tests.client import Client

UPDATES = "subscription { jobUpdates { id progress parameters } }"
LARGE, SMALL = 200, 650
MOVE = text("UPDATE jobs SET progress = 7, last_sequence = last_sequence + 1 WHERE id = ANY(:ids) RETURNING id, last_sequence")
TELL = text("""
    INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
    SELECT id, last_sequence, attempt, 'progress', status, progress FROM jobs WHERE id = ANY(:ids)""")


def rereads() -> float:
    return REGISTRY.get_sample_value("trellis_stream_rereads_total", {"stream": "jobUpdates"}) or 0


async def test_a_watcher_that_more_than_500_jobs_have_overtaken_hears_the_last_of_each(ada: Client, announcing: Database) -> None:
    me = decode("user", (await ada.one("{ viewer { id } }"))["id"])
    swift: dict[str, int] = {}

    async def watch() -> None:
        async for answer in ada.subscribe(UPDATES):
            swift[answer["jobUpdates"]["id"]] = answer["jobUpdates"]["progress"]

    async def told(count: int) -> None:
        async with asyncio.timeout(60):
            while list(swift.values()).count(7) < count:
                await asyncio.sleep(0.02)

    async def moved(count: int, size: int) -> set[str]:
        """So many new jobs, each changed once, with parameters that are as long."""
        async with announcing.work(SYSTEM) as work:
            new = NewJob(owner_id=me, kind=JobKind.PROFILE, queue="nobodys", parameters={"filling": "x" * size})
            ids = [(await submit(work, new)).id for _ in range(count)]
        async with announcing.work(SYSTEM) as work:
            for row in await work.all(MOVE, {"ids": ids}):
                work.notify(Notice(row.id, row.last_sequence))
            await work.run(TELL, {"ids": ids})
        return {encode("job", id_) for id_ in ids}

    before = rereads()
    async with ada.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": UPDATES}})
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.5)
        # From here on nothing is taken from the first socket until its client's buffers and the server's are full.
        expected = await moved(LARGE, 100_000)
        await told(LARGE)
        expected |= await moved(SMALL, 1)
        await told(LARGE + SMALL)
        seen: dict[str, int] = {}
        async with asyncio.timeout(60):
            while set(seen) != expected or set(seen.values()) != {7}:
                job = (await receive())["payload"]["data"]["jobUpdates"]
                seen[job["id"]] = job["progress"]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert set(swift) == expected
    assert rereads() == before + 1
