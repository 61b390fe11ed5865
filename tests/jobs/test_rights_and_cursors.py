"""Where a stream can be resumed, and what happens to a page of events whose reader has lost access meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import jobevents, metrics
from graph.core.ids import decode, encode
from tests.client import Client, GraphQLErrors
from tests.event_writer import create_waiting_jobs, write_events

EVENTS = "subscription($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { sequence message } }"
METRICS = "subscription($id: ID!, $after: String) { runMetrics(id: $id, after: $after) { cursor } }"
CSV = "x,y,label\n" + "".join(f"{i % 17},{i * 7 % 23},{'a' if i % 2 else 'b'}\n" for i in range(400))


async def create_waiting_job(database: Database, owner: Client) -> tuple[UUID, str]:
    (job,) = await create_waiting_jobs(database, decode("user", (await owner.one("{ viewer { id } }"))["id"]), 1)
    return job, encode("job", job)


async def subscription_error(client: Client, query: str, **variables: Any) -> tuple[list[str | None], str]:
    """Return the codes of the error, and its text."""

    async def consume() -> None:
        async for _ in client.subscribe(query, **variables):
            pass

    with pytest.raises(GraphQLErrors) as ended:
        await asyncio.wait_for(consume(), 20)
    return ended.value.codes, ended.value.errors[0]["message"]


@pytest.mark.parametrize("sequence", [-1, 0, 4, 2**40])
async def test_a_cursor_that_names_no_event_is_refused(ada: Client, notifying_database: Database, sequence: int) -> None:
    job, id_ = await create_waiting_job(notifying_database, ada)
    await write_events(notifying_database, [job], 2)
    cursor = jobevents.cursor_of(job, sequence)
    codes, message = await subscription_error(ada, EVENTS, id=id_, after=cursor)
    assert (codes, message.startswith(f"The cursor '{cursor[:60]}' names no event of this job.")) == (["BAD_USER_INPUT"], True)


async def test_the_cursor_of_the_last_event_is_where_the_next_ones_come(ada: Client, notifying_database: Database) -> None:
    job, id_ = await create_waiting_job(notifying_database, ada)
    await write_events(notifying_database, [job], 2)
    stream = ada.subscribe(EVENTS, id=id_, after=jobevents.cursor_of(job, 3))
    following = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.3)
    await write_events(notifying_database, [job])
    async with asyncio.timeout(60):
        assert (await following)["jobEvents"]["sequence"] == 4
    await stream.aclose()


async def test_a_cursor_of_metrics_that_were_never_recorded_is_refused(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    pipeline = (
        await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_lightgbm", {"target": "label", "n_estimators": 5}))
    )["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version)
    await ada.wait(started["job"]["id"])
    for batch in (-1, 0, 2**40):
        cursor = metrics.cursor_of(decode("run", started["run"]["id"]), batch)
        codes, message = await subscription_error(ada, METRICS, id=started["run"]["id"], after=cursor)
        assert (codes, message.startswith(f"The cursor '{cursor[:60]}' names no batch of this run.")) == (["BAD_USER_INPUT"], True)


async def set_role(database: Database, role: str) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET role = :role WHERE username = 'bob'"), {"role": role})


async def test_a_right_that_is_lost_in_the_middle_of_a_page_ends_it_there(bob: Client, ada: Client, notifying_database: Database) -> None:
    job, id_ = await create_waiting_job(notifying_database, ada)
    await write_events(notifying_database, [job], 150, "x" * 100_000)  # more than the buffers in between hold
    await set_role(notifying_database, "admin")
    async with bob.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": EVENTS, "variables": {"id": id_}}})
        assert (await receive())["payload"]["data"]["jobEvents"]["sequence"] == 1
        await set_role(notifying_database, "member")
        await asyncio.sleep(2.5)  # sessions are revalidated each second here
        sequences = [1]
        async with asyncio.timeout(60):
            while (message := await receive())["payload"].get("data") is not None:
                sequences.append(message["payload"]["data"]["jobEvents"]["sequence"])
    assert [error["extensions"]["code"] for error in message["payload"]["errors"]] == ["NOT_FOUND"]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) < 151


@pytest.mark.exhaustive
async def test_metrics_of_a_run_that_may_not_be_seen_any_more_end(
    bob: Client, ada: Client, worker: object, notifying_database: Database
) -> None:
    version = await ada.ingest("d", CSV)
    steps = (("data", "dataset", {}), ("train", "train_lightgbm", {"target": "label", "n_estimators": 10_000}))
    pipeline = (await ada.create_pipeline("p", *steps))["pipeline"]["id"]
    started = await ada.run_pipeline(pipeline, version)
    await set_role(notifying_database, "admin")
    ending = asyncio.create_task(subscription_error(bob, METRICS, id=started["run"]["id"]))
    await asyncio.sleep(1)
    assert not ending.done()
    await set_role(notifying_database, "member")
    async with asyncio.timeout(60):
        assert (await ending)[0] == ["NOT_FOUND"]
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=started["job"]["id"])
    await ada.wait(started["job"]["id"])
