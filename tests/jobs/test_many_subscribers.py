"""Many follow the same jobs: each hears all of it once, none waits for another, and what is read is read once for all."""

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
from db.stores.events import connect
from graph.core.ids import decode, encode
from tests.client import Client, GraphQLErrors
from tests.conftest import ADMIN_TOKEN
from tests.telling import tell, waiting_jobs

EVENTS = "subscription($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { sequence type message cursor } }"
UPDATES = "subscription { jobUpdates { id status } }"
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"
SEED = 20_260_101
TOLD = {"['UNAUTHENTICATED']", "4403"}
FOLLOWERS = 8
EVERYTHING = 600


async def a_job(database: Database, owner: Client) -> tuple[UUID, str]:
    """A job that no worker takes: its key, and its id."""
    me = decode("user", (await owner.one("{ viewer { id } }"))["id"])
    (job,) = await waiting_jobs(database, me, 1)
    return job, encode("job", job)


async def heard(client: Client, job: str, query: str = EVENTS, **variables: Any) -> list[Any]:
    return [answer["jobEvents"] async for answer in client.subscribe(query, id=job, **variables)]


async def settled(count: Callable[[], int], expected: int) -> None:
    async with asyncio.timeout(30):
        while count() < expected:
            await asyncio.sleep(0.01)


async def test_everyone_hears_everything_once_whoever_comes_and_goes_and_whatever_redis_forgets(
    ada: Client, announcing: Database, settings: StateSettings
) -> None:
    chance = random.Random(SEED)
    job, id_ = await a_job(announcing, ada)
    over = asyncio.Event()

    async def follow(chance: random.Random) -> list[int]:
        """Come at some time, leave after some events, come back with the cursor; a straggler reads slowly."""
        sequences: list[int] = []
        cursor = None
        await asyncio.sleep(chance.random())
        while True:
            patience = chance.randint(1, 200)
            stream = ada.subscribe(EVENTS, id=id_, after=cursor)
            async for answer in stream:
                event = answer["jobEvents"]
                sequences.append(event["sequence"])
                cursor = event["cursor"]
                patience -= 1
                if patience == 0:
                    break
                if chance.random() < 0.01:
                    await asyncio.sleep(chance.random() / 10)
            else:
                return sequences
            await stream.aclose()

    async def disturb() -> None:
        redis = connect(settings.redis_url)
        async with redis:
            while not over.is_set():
                await asyncio.sleep(chance.random() / 2)
                await redis.execute_command("FLUSHALL")  # pyright: ignore[reportUnknownMemberType]
                await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # pyright: ignore[reportUnknownMemberType]

    followers = [asyncio.create_task(follow(random.Random(chance.random()))) for _ in range(FOLLOWERS)]
    disturbing = asyncio.create_task(disturb())
    told = 1
    while told < EVERYTHING:
        some = chance.choice((1, 1, 1, 2, 5, 30, 150))
        await tell(announcing, [job], some)
        told += some
        await asyncio.sleep(chance.random() / 20)
    await ada.one(CANCEL, id=id_)
    over.set()
    async with asyncio.timeout(120):
        for follower in followers:
            assert await follower == list(range(1, told + 2)), f"seed {SEED}"
    with suppress(OSError, asyncio.CancelledError):
        disturbing.cancel()
        await disturbing


SAME = "sequence cursor type status progress step message data createdAt attempt"
SELECTIONS = {
    "plain fields": SAME,
    "aliases and the type's name": "n: sequence again: sequence __typename when: createdAt",
    "what is left out": "sequence message @skip(if: $no) cursor @include(if: $yes) step @include(if: $no)",
    "fragments": "...On ... on JobEvent { type ...Further }",
    "the job, which depends on who looks": "sequence job { id owner { username } parameters retryOf { id } }",
    "a page, with arguments": "sequence job { events(first: $some) { totalCount edges { node { sequence } } } }",
}
FRAGMENTS = " fragment On on JobEvent { sequence data } fragment Further on JobEvent { status step }"


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS.keys())
async def test_a_shared_answer_is_the_one_that_each_would_have_had(ada: Client, announcing: Database, selection: str) -> None:
    job, id_ = await a_job(announcing, ada)
    used = {"yes": "Boolean!", "no": "Boolean!", "some": "Int!"}
    head = "subscription($id: ID!" + "".join(f", ${name}: {type_}" for name, type_ in used.items() if f"${name}" in selection) + ") { "
    fragments = FRAGMENTS if "...On" in selection else ""
    variables = {name: value for name, value in (("yes", True), ("no", False), ("some", 2)) if f"${name}" in selection}
    shared = f"{head}jobEvents(id: $id) {{ {selection} }} }}{fragments}"
    # A root field in a fragment is answered one by one.
    alone = f"{head}...Root }} fragment Root on Subscription {{ jobEvents(id: $id) {{ {selection} }} }}{fragments}"
    following = [asyncio.create_task(heard(ada, id_, query, **variables)) for query in (shared, shared, shared, alone)]
    await asyncio.sleep(0.5)
    for _ in range(5):
        await tell(announcing, [job], 2, 'a "word" of 🦉\n')
        await asyncio.sleep(0.02)
    await ada.one(CANCEL, id=id_)
    first, second, third, own = await asyncio.gather(*following)
    assert len(own) == 12
    if "totalCount" not in selection:  # how many there are is as of the moment, and nobody's moment is another's
        assert first == second == third == own
    assert [event.keys() for event in first] == [event.keys() for event in own]


async def test_an_error_in_an_answer_is_each_subscribers_own(ada: Client, announcing: Database) -> None:
    _, id_ = await a_job(announcing, ada)
    query = "subscription($id: ID!) { jobEvents(id: $id) { sequence job { events(first: 5000) { totalCount } } } }"
    refused: list[str] = []
    for _ in range(2):
        with pytest.raises(GraphQLErrors) as error:
            await heard(ada, id_, query)
        (said,) = error.value.errors
        refused.append(said["extensions"].pop("requestId"))
        assert (said["extensions"], said["path"]) == ({"code": "BAD_USER_INPUT"}, ["jobEvents", "job", "events"])
    assert refused[0] != refused[1]


async def test_what_is_read_for_one_is_read_for_all(ada: Client, announcing: Database, statements: Callable[[], Any]) -> None:
    job, id_ = await a_job(announcing, ada)
    counts = [0] * 60

    async def follow(place: int) -> None:
        async for _ in ada.subscribe(EVENTS, id=id_):
            counts[place] += 1

    followers = [asyncio.create_task(follow(place)) for place in range(len(counts))]
    await settled(lambda: min(counts), 1)
    await asyncio.sleep(0.2)
    with statements() as sent:
        for told in range(20):
            await tell(announcing, [job])
            await settled(lambda: min(counts), told + 2)
    read = [statement for statement in sent if "job_events" in statement and "SELECT" in statement and "INSERT" not in statement]
    assert len(read) <= 20, "at most one statement an event, for sixty subscribers"
    await ada.one(CANCEL, id=id_)
    await asyncio.gather(*followers)
    assert counts == [22] * 60


async def test_who_does_not_read_brakes_nobody_grows_nothing_and_misses_nothing(ada: Client, announcing: Database) -> None:
    job, id_ = await a_job(announcing, ada)
    batches, size = 60, 8_000
    async with ada.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": EVENTS, "variables": {"id": id_}}})
        assert (await receive())["payload"]["data"]["jobEvents"]["sequence"] == 1
        # From here on nothing is taken from this socket: its client's own buffers fill up, and then the server's.
        swift = asyncio.create_task(heard(ada, id_))
        await asyncio.sleep(0.3)
        for _ in range(batches):
            await tell(announcing, [job], 20, "x" * size)
        await ada.one(CANCEL, id=id_)
        async with asyncio.timeout(60):
            assert [event["sequence"] for event in await swift] == list(range(1, batches * 20 + 3))
        waiting = [kept.transport.get_write_buffer_size() for kept in gc.get_objects() if issubclass(type(kept), WebSocketsSansIOProtocol)]
        assert max(waiting) < 64 * 1024 + 2 * size, "what waits for a socket stays below the mark at which sending pauses"
        sequences = [1]
        while (message := await receive())["type"] == "next":
            sequences.append(message["payload"]["data"]["jobEvents"]["sequence"])
        assert message == {"id": "1", "type": "complete"}
        assert sequences == list(range(1, batches * 20 + 3))


async def test_a_stream_ends_when_its_token_does(ada: Client, admin: Client, announcing: Database) -> None:
    _, id_ = await a_job(announcing, ada)

    async def listen(client: Client, query: str, **variables: Any) -> str:
        """How it was told: by the stream's own last answer, or by the socket's end, whichever came first."""
        try:
            async for _ in client.subscribe(query, **variables):
                pass
        except GraphQLErrors as ended:
            return str(ended.codes)
        except ConnectionClosed as ended:
            return str(ended.rcvd and ended.rcvd.code)
        return "completed"

    async with asyncio.timeout(20):
        mine = [asyncio.create_task(listen(ada, EVENTS, id=id_)), asyncio.create_task(listen(ada, UPDATES))]
        theirs = asyncio.create_task(listen(admin, EVENTS, id=id_))
        await asyncio.sleep(0.5)
        async with announcing.work(SYSTEM) as work:
            await accounts.ensure_admin(work, "admin@trellis.local", "another-token-of-the-admin")
        assert await theirs in TOLD
        assert not any(task.done() for task in mine)
        async with announcing.work(SYSTEM) as work:
            await work.run(text("UPDATE api_keys SET expires_at = now() FROM users u WHERE u.id = user_id AND u.username = 'ada'"))
        assert set(await asyncio.gather(*mine)) <= TOLD
    async with announcing.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", ADMIN_TOKEN)


async def test_a_role_that_is_taken_away_takes_the_streams_with_it(bob: Client, ada: Client, announcing: Database) -> None:
    _, id_ = await a_job(announcing, ada)
    async with announcing.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET role = 'admin' WHERE username = 'bob'"))

    async def listen() -> list[str | None]:
        with pytest.raises(GraphQLErrors) as ended:
            await heard(bob, id_)
        return ended.value.codes

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0.5)
    async with announcing.work(SYSTEM) as work:
        await work.run(text("UPDATE users SET role = 'member' WHERE username = 'bob'"))
    async with asyncio.timeout(20):
        assert await listening == ["NOT_FOUND"]


async def test_a_look_at_changes_serves_all_who_watch_and_shows_each_their_own(
    ada: Client, bob: Client, admin: Client, announcing: Database, statements: Callable[[], Any]
) -> None:
    seen: dict[str, list[list[str]]] = {"ada": [], "bob": [], "admin": []}

    async def watch(client: Client, into: list[str]) -> None:
        async for answer in client.subscribe(UPDATES):
            into += [answer["jobUpdates"]["id"]]

    watching: list[asyncio.Task[None]] = []
    for name, client in (("ada", ada), ("bob", bob), ("admin", admin)):
        for _ in range(15):
            seen[name].append([])
            watching.append(asyncio.create_task(watch(client, seen[name][-1])))
    await asyncio.sleep(1)
    _, hers = await a_job(announcing, ada)
    _, his = await a_job(announcing, bob)
    await settled(lambda: min(len(set(ids)) for ids in seen["admin"]), 2)
    with statements() as sent:
        await ada.one(CANCEL, id=hers)
        await settled(lambda: min(ids.count(hers) for ids in seen["admin"] + seen["ada"]), 2)
    looks = [statement for statement in sent if "jsonb_build_array" in statement]
    assert len(looks) <= 3, "45 watchers of three viewers, and a change or two"
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    assert [set(ids) for ids in seen["ada"]] == [{hers}] * 15
    assert [set(ids) for ids in seen["bob"]] == [{his}] * 15
    assert [set(ids) for ids in seen["admin"]] == [{hers, his}] * 15
