"""Many subscribers follow the same jobs: each receives every event once, none blocks another, and rows are read once for all."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings
from db.stores.redis import connect
from graph.core.ids import decode, encode
from tests.client import Client, GraphQLErrors
from tests.conftest import ADMIN_TOKEN
from tests.event_writer import create_waiting_jobs, write_events
from tests.exhaustive import exhaustive, is_sampled

EVENTS = "subscription($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { sequence type message cursor } }"
UPDATES = "subscription { jobUpdates { id status } }"
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"
SEED = 20_260_101
SIGNED_OUT = {"['UNAUTHENTICATED']", "4403"}


async def create_waiting_job(database: Database, owner: Client) -> tuple[UUID, str]:
    """Create a job that no worker claims; return its key and its id."""
    me = decode("user", (await owner.one("{ viewer { id } }"))["id"])
    (job,) = await create_waiting_jobs(database, me, 1)
    return job, encode("job", job)


async def received_events(client: Client, job: str, query: str = EVENTS, **variables: Any) -> list[Any]:
    return [answer["jobEvents"] async for answer in client.subscribe(query, id=job, **variables)]


async def wait_for_count(count: Callable[[], int], expected: int) -> None:
    async with asyncio.timeout(60):
        while count() < expected:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("follower_count", "event_count"), [(4, 150), exhaustive(8, 600)])
async def test_everyone_hears_everything_once_whoever_comes_and_goes_and_whatever_redis_forgets(
    ada: Client, notifying_database: Database, settings: StateSettings, follower_count: int, event_count: int
) -> None:
    rng = random.Random(SEED)
    job, id_ = await create_waiting_job(notifying_database, ada)
    is_done = asyncio.Event()

    async def follow(rng: random.Random) -> list[int]:
        """Subscribe after a random delay, disconnect after some events, resume from the cursor; some events are consumed slowly."""
        sequences: list[int] = []
        cursor = None
        await asyncio.sleep(rng.random())
        while True:
            remaining = rng.randint(1, 200)
            stream = ada.subscribe(EVENTS, id=id_, after=cursor)
            async for answer in stream:
                event = answer["jobEvents"]
                sequences.append(event["sequence"])
                cursor = event["cursor"]
                remaining -= 1
                if remaining == 0:
                    break
                if rng.random() < 0.01:
                    await asyncio.sleep(rng.random() / 10)
            else:
                return sequences
            await stream.aclose()

    async def disturb() -> None:
        redis = connect(settings.redis_url)
        async with redis:
            while not is_done.is_set():
                await asyncio.sleep(rng.random() / 2)
                await redis.execute_command("FLUSHALL")  # pyright: ignore[reportUnknownMemberType]
                await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # pyright: ignore[reportUnknownMemberType]

    followers = [asyncio.create_task(follow(random.Random(rng.random()))) for _ in range(follower_count)]
    disturbing = asyncio.create_task(disturb())
    written = 1
    while written < event_count:
        count = rng.choice((1, 1, 1, 2, 5, 30, 150))
        await write_events(notifying_database, [job], count)
        written += count
        await asyncio.sleep(rng.random() / 20)
    await ada.one(CANCEL, id=id_)
    is_done.set()
    async with asyncio.timeout(120):
        for follower in followers:
            assert await follower == list(range(1, written + 2)), f"seed {SEED}"
    with suppress(OSError, asyncio.CancelledError):
        disturbing.cancel()
        await disturbing


SHARED_FIELDS = "sequence cursor type status progress step message data createdAt attempt"
SELECTIONS = {
    "plain fields": SHARED_FIELDS,
    "aliases and the type's name": "n: sequence again: sequence __typename when: createdAt",
    "what is left out": "sequence message @skip(if: $no) cursor @include(if: $yes) step @include(if: $no)",
    "fragments": "...On ... on JobEvent { type ...Further }",
    "the job, which depends on the viewer": "sequence job { id owner { username } parameters retryOf { id } }",
    "a page, with arguments": "sequence job { events(first: $some) { totalCount edges { node { sequence } } } }",
}
FRAGMENTS = " fragment On on JobEvent { sequence data } fragment Further on JobEvent { status step }"


@pytest.mark.parametrize(
    "selection", [value if is_sampled(name, 2) else exhaustive(value) for name, value in SELECTIONS.items()], ids=SELECTIONS.keys()
)
async def test_a_shared_answer_is_the_one_that_each_would_have_had(ada: Client, notifying_database: Database, selection: str) -> None:
    job, id_ = await create_waiting_job(notifying_database, ada)
    variable_types = {"yes": "Boolean!", "no": "Boolean!", "some": "Int!"}
    head = (
        "subscription($id: ID!"
        + "".join(f", ${name}: {type_}" for name, type_ in variable_types.items() if f"${name}" in selection)
        + ") { "
    )
    fragments = FRAGMENTS if "...On" in selection else ""
    variables = {name: value for name, value in (("yes", True), ("no", False), ("some", 2)) if f"${name}" in selection}
    shared_query = f"{head}jobEvents(id: $id) {{ {selection} }} }}{fragments}"
    # A root field in a fragment is executed once for each subscriber.
    unshared_query = f"{head}...Root }} fragment Root on Subscription {{ jobEvents(id: $id) {{ {selection} }} }}{fragments}"
    following = [
        asyncio.create_task(received_events(ada, id_, query, **variables))
        for query in (shared_query, shared_query, shared_query, unshared_query)
    ]
    await asyncio.sleep(0.5)
    for _ in range(5):
        await write_events(notifying_database, [job], 2, 'a "word" of 🦉\n')
        await asyncio.sleep(0.02)
    await ada.one(CANCEL, id=id_)
    first, second, third, unshared = await asyncio.gather(*following)
    assert len(unshared) == 12
    if "totalCount" not in selection:  # the total count depends on the moment, so results with it are not shared
        assert first == second == third == unshared
    assert [event.keys() for event in first] == [event.keys() for event in unshared]


async def test_an_error_in_an_answer_is_each_subscribers_own(ada: Client, notifying_database: Database) -> None:
    _, id_ = await create_waiting_job(notifying_database, ada)
    query = "subscription($id: ID!) { jobEvents(id: $id) { sequence job { events(first: 5000) { totalCount } } } }"
    request_ids: list[str] = []
    for _ in range(2):
        with pytest.raises(GraphQLErrors) as error:
            await received_events(ada, id_, query)
        (graphql_error,) = error.value.errors
        request_ids.append(graphql_error["extensions"].pop("requestId"))
        assert (graphql_error["extensions"], graphql_error["path"]) == ({"code": "BAD_USER_INPUT"}, ["jobEvents", "job", "events"])
    assert request_ids[0] != request_ids[1]


async def test_what_is_read_for_one_is_read_for_all(
    ada: Client, notifying_database: Database, capture_statements: Callable[[], Any]
) -> None:
    job, id_ = await create_waiting_job(notifying_database, ada)
    counts = [0] * 60

    async def follow(place: int) -> None:
        async for _ in ada.subscribe(EVENTS, id=id_):
            counts[place] += 1

    followers = [asyncio.create_task(follow(place)) for place in range(len(counts))]
    await wait_for_count(lambda: min(counts), 1)
    await asyncio.sleep(0.2)
    with capture_statements() as sent:
        for written in range(20):
            await write_events(notifying_database, [job])
            await wait_for_count(lambda: min(counts), written + 2)
    read = [statement for statement in sent if "job_events" in statement and "SELECT" in statement and "INSERT" not in statement]
    assert len(read) <= 20, "at most one statement an event, for sixty subscribers"
    await ada.one(CANCEL, id=id_)
    await asyncio.gather(*followers)
    assert counts == [22] * 60


@pytest.mark.exhaustive
async def test_who_does_not_read_brakes_nobody_grows_nothing_and_misses_nothing(ada: Client, notifying_database: Database) -> None:
    job, id_ = await create_waiting_job(notifying_database, ada)
    batches, size = 60, 8_000
    async with ada.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": EVENTS, "variables": {"id": id_}}})
        assert (await receive())["payload"]["data"]["jobEvents"]["sequence"] == 1
        # From here on this socket is not read: its client's buffers fill up, then the server's.
        fast_reader = asyncio.create_task(received_events(ada, id_))
        await asyncio.sleep(0.3)
        for _ in range(batches):
            await write_events(notifying_database, [job], 20, "x" * size)
        await ada.one(CANCEL, id=id_)
        async with asyncio.timeout(60):
            assert [event["sequence"] for event in await fast_reader] == list(range(1, batches * 20 + 3))
        buffer_sizes = [
            protocol.transport.get_write_buffer_size()
            for protocol in gc.get_objects()
            if issubclass(type(protocol), WebSocketsSansIOProtocol)
        ]
        assert max(buffer_sizes) < 64 * 1024 + 2 * size, "what waits for a socket stays below the mark at which sending pauses"
        sequences = [1]
        while (message := await receive())["type"] == "next":
            sequences.append(message["payload"]["data"]["jobEvents"]["sequence"])
        assert message == {"id": "1", "type": "complete"}
        assert sequences == list(range(1, batches * 20 + 3))


async def test_a_stream_ends_when_its_token_does(ada: Client, admin: Client, notifying_database: Database) -> None:
    _, id_ = await create_waiting_job(notifying_database, ada)

    async def listen(client: Client, query: str, **variables: Any) -> str:
        """Return how the subscription ended: by an error in the stream, or by the close of the socket, whichever came first."""
        try:
            async for _ in client.subscribe(query, **variables):
                pass
        except GraphQLErrors as ended:
            return str(ended.codes)
        except ConnectionClosed as ended:
            return str(ended.rcvd and ended.rcvd.code)
        return "completed"

    async with asyncio.timeout(60):
        ada_streams = [asyncio.create_task(listen(ada, EVENTS, id=id_)), asyncio.create_task(listen(ada, UPDATES))]
        admin_stream = asyncio.create_task(listen(admin, EVENTS, id=id_))
        await asyncio.sleep(0.5)
        async with notifying_database.work(SYSTEM) as work:
            await accounts.ensure_admin(work, "admin@trellis.local", "another-token-of-the-admin")
        assert await admin_stream in SIGNED_OUT
        assert not any(task.done() for task in ada_streams)
        async with notifying_database.work(SYSTEM) as work:
            await work.run(text("UPDATE api_keys SET expires_at = now() FROM users u WHERE u.id = user_id AND u.username = 'ada'"))
        assert set(await asyncio.gather(*ada_streams)) <= SIGNED_OUT
    async with notifying_database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", ADMIN_TOKEN)


async def test_a_role_that_is_taken_away_takes_the_streams_with_it(bob: Client, ada: Client, notifying_database: Database) -> None:
    _, id_ = await create_waiting_job(notifying_database, ada)
    async with notifying_database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET role = 'admin' WHERE username = 'bob'"))

    async def listen() -> list[str | None]:
        with pytest.raises(GraphQLErrors) as ended:
            await received_events(bob, id_)
        return ended.value.codes

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.5)
    async with notifying_database.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET role = 'member' WHERE username = 'bob'"))
    async with asyncio.timeout(60):
        assert await listening == ["NOT_FOUND"]


async def test_one_poll_serves_all_watchers_and_shows_each_viewer_their_own_jobs(
    ada: Client, bob: Client, admin: Client, notifying_database: Database, capture_statements: Callable[[], Any]
) -> None:
    ids_by_viewer: dict[str, list[list[str]]] = {"ada": [], "bob": [], "admin": []}

    async def watch(client: Client, into: list[str]) -> None:
        async for answer in client.subscribe(UPDATES):
            into += [answer["jobUpdates"]["id"]]

    watching: list[asyncio.Task[None]] = []
    for name, client in (("ada", ada), ("bob", bob), ("admin", admin)):
        for _ in range(15):
            ids_by_viewer[name].append([])
            watching.append(asyncio.create_task(watch(client, ids_by_viewer[name][-1])))
    await asyncio.sleep(1)
    _, ada_job = await create_waiting_job(notifying_database, ada)
    _, bob_job = await create_waiting_job(notifying_database, bob)
    await wait_for_count(lambda: min(len(set(ids)) for ids in ids_by_viewer["admin"]), 2)
    with capture_statements() as sent:
        await ada.one(CANCEL, id=ada_job)
        await wait_for_count(lambda: min(ids.count(ada_job) for ids in ids_by_viewer["admin"] + ids_by_viewer["ada"]), 2)
    polls = [statement for statement in sent if "jsonb_build_array" in statement]
    assert len(polls) <= 3, "45 watchers of three viewers, and a change or two"
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    assert [set(ids) for ids in ids_by_viewer["ada"]] == [{ada_job}] * 15
    assert [set(ids) for ids in ids_by_viewer["bob"]] == [{bob_job}] * 15
    assert [set(ids) for ids in ids_by_viewer["admin"]] == [{ada_job, bob_job}] * 15
