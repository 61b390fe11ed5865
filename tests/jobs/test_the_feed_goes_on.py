"""The process-wide watchers of jobs and sessions survive malformed notices, failures and load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
from strawberry.types import ExecutionResult

from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.errors import Unavailable
from db.queries import accounts, jobchanges, jobevents
from db.services.accounts import revoke_tokens
from db.settings import StateSettings
from db.stores.redis import connect
from db.streams.feed import Feed, Revalidation
from db.streams.job_tail import StreamEvent
from db.streams.job_watch import ChangeQueries
from db.streams.notices import EVENTS_CHANNEL
from db.streams.sessions import Session, Sessions
from graph.core.ids import decode, encode
from graph.execution.context import RequestServices
from graph.execution.result_sharing import Sharing
from graph.execution.subscriptions import _ActiveSubscription  # pyright: ignore[reportPrivateUsage] - the only place that shows how long it takes
from tests.client import Client
from tests.event_writer import create_waiting_jobs, write_events

UNREACHABLE_REDIS = "redis://127.0.0.1:1/0"
NOTICES = [
    "",
    "5",
    "[]",
    "{",
    '{"events": [[5, 1]], "doubted": []}',
    '{"events": [["x", 1]], "doubted": []}',
    '{"events": [], "doubted": [null]}',
]
MAX_COMMIT_DELAY = 0.5  # seconds
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"


def new_viewer() -> Viewer:
    return Viewer(uuid4(), UserRole.MEMBER, uuid4())


async def test_a_notice_that_makes_no_sense_ends_nothing(ada: Client, notifying_database: Database, settings: StateSettings) -> None:
    (job,) = await create_waiting_jobs(notifying_database, decode("user", (await ada.one("{ viewer { id } }"))["id"]), 1)

    async def follow() -> list[int]:
        return [event["sequence"] async for event in ada.events(encode("job", job))]

    following = asyncio.create_task(follow())
    async with connect(settings.redis_url) as redis:
        for notice in NOTICES:
            await redis.publish(EVENTS_CHANNEL, notice)  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
    await asyncio.sleep(0.2)
    await write_events(notifying_database, [job])
    await ada.one(CANCEL, id=encode("job", job))
    async with asyncio.timeout(60):
        assert await following == [1, 2, 3]


async def test_a_part_that_fails_begins_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    start_times: list[float] = []

    async def fail_once(_: Feed) -> None:
        start_times.append(time.monotonic())
        if len(start_times) == 1:
            raise AttributeError("a mistake of ours")
        await asyncio.sleep(60)

    monkeypatch.setattr(Feed, "_listen", fail_once)
    revalidation, queries = (
        Revalidation(accounts.current_viewers, jobevents.visible_jobs, 30),
        ChangeQueries(jobchanges.load_changes, jobchanges.changed_since),
    )
    async with Feed.open(UNREACHABLE_REDIS, database, revalidation, queries) as feed:
        async with asyncio.timeout(60):
            while len(start_times) < 2:
                await asyncio.sleep(0.02)
        assert feed.broken_parts == []


class InterruptibleDatabase:
    """A database that can become unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = 0
        self.is_unavailable = False
        self.revalidation_listeners: list[Any] = []

    async def rows(self, statement: Any, parameters: Any = None) -> Sequence[Any]:
        self._queries += 1
        if self.is_unavailable:
            raise Unavailable("database")
        return await self._database.rows(statement, parameters)

    async def wait_for_queries(self, count: int) -> None:
        """Return after this many more queries."""
        expected = self._queries + count
        async with asyncio.timeout(60):
            while self._queries < expected:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("from_the_start", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
async def test_a_gap_that_is_longer_than_its_overlap_loses_no_change(
    ada: Client, notifying_database: Database, monkeypatch: pytest.MonkeyPatch, from_the_start: bool
) -> None:
    """Without Redis, and with a database that becomes unavailable before the first poll found a change."""
    monkeypatch.setattr("db.streams.feed.MAX_COMMIT_DELAY", timedelta(seconds=MAX_COMMIT_DELAY))
    (job,) = await create_waiting_jobs(notifying_database, decode("user", (await ada.one("{ viewer { id } }"))["id"]), 1)
    interruptible = InterruptibleDatabase(notifying_database)
    revalidation, queries = (
        Revalidation(accounts.current_viewers, jobevents.visible_jobs, 30),
        ChangeQueries(jobchanges.load_changes, jobchanges.changed_since),
    )
    async with Feed.open(UNREACHABLE_REDIS, cast("Database", interruptible), revalidation, queries) as feed:
        with feed.job_watch.watch(Session(Viewer(uuid4(), UserRole.ADMIN)), None) as watcher:
            interruptible.is_unavailable = from_the_start
            await interruptible.wait_for_queries(1)
            interruptible.is_unavailable = True
            await ada.one(CANCEL, id=encode("job", job))
            cancelled_at = time.monotonic()
            while time.monotonic() < cancelled_at + 2 * MAX_COMMIT_DELAY:
                await interruptible.wait_for_queries(1)
            interruptible.is_unavailable = False
            async with asyncio.timeout(60):
                assert [change.row.id for change in await watcher.next()] == [job]


async def test_notices_about_other_viewers_do_not_delay_the_revalidation_of_a_session() -> None:
    revoked, valid = new_viewer(), new_viewer()

    async def current_viewers(_: Database, viewers: Collection[Viewer]) -> Mapping[Viewer, Viewer]:
        return {viewer: viewer for viewer in viewers if viewer != revoked}  # its token has expired, for which there is no notice

    sessions = Sessions(cast("Database", None), current_viewers, 0.5)
    running = asyncio.create_task(sessions.run())
    with sessions.acquire(revoked) as session, sessions.acquire(valid) as other:
        async with asyncio.timeout(60):
            while not session.is_over:
                sessions.revalidate([valid.id])
                await asyncio.sleep(0.1)
        assert not other.is_over
    running.cancel()


async def test_a_newer_viewer_updates_the_shared_session() -> None:
    old_viewer = new_viewer()
    promoted = Viewer(old_viewer.id, UserRole.ADMIN, old_viewer.key_id)
    revalidation_started, may_answer = asyncio.Event(), asyncio.Event()

    async def current_viewers(_: Database, viewers: Collection[Viewer]) -> Mapping[Viewer, Viewer]:
        unchanged = {viewer: viewer for viewer in viewers}
        revalidation_started.set()
        await may_answer.wait()
        return unchanged

    sessions = Sessions(cast("Database", None), current_viewers, 60)
    running = asyncio.create_task(sessions.run())
    with sessions.acquire(old_viewer) as session:
        sessions.revalidate_all()
        await revalidation_started.wait()
        with sessions.acquire(promoted) as same:
            assert same is session
            assert session.viewer == promoted
            may_answer.set()
            await asyncio.sleep(0.05)
            assert (session.viewer, session.is_over) == (promoted, False)
    running.cancel()


async def test_a_token_that_was_revoked_while_redis_was_away_closes_its_streams(ada: Client, database: Database) -> None:
    """The next revalidation of sessions finds it; the interval is one second here."""
    async with AsyncExitStack() as stack:
        _, receive = await stack.enter_async_context(ada.socket())
        async with database.work(SYSTEM) as work:  # without a notice
            assert await revoke_tokens(work, "ada@example.org") == 1
        with pytest.raises(Exception, match="4403"):
            await asyncio.wait_for(receive(), 20)


async def test_all_sessions_are_revalidated_when_redis_comes_back(ada: Client, database: Database, settings: StateSettings) -> None:
    revalidation_sizes: list[int] = []

    async def current_viewers(_: Database, viewers: Collection[Viewer]) -> Mapping[Viewer, Viewer]:
        revalidation_sizes.append(len(viewers))
        return {viewer: viewer for viewer in viewers}

    revalidation, queries = (
        Revalidation(current_viewers, jobevents.visible_jobs, 60),
        ChangeQueries(jobchanges.load_changes, jobchanges.changed_since),
    )
    async with Feed.open(settings.redis_url, database, revalidation, queries) as feed, connect(settings.redis_url) as redis:
        with feed.sessions.acquire(new_viewer()), feed.sessions.acquire(new_viewer()):
            await asyncio.sleep(0.5)
            revalidation_sizes.clear()
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
            async with asyncio.timeout(60):
                while not revalidation_sizes:
                    await asyncio.sleep(0.02)
    assert revalidation_sizes == [2]


class _SlowRun(_ActiveSubscription):
    """Returns a fixed result after a delay."""

    executing = 0
    most_at_once = 0

    def __init__(self, viewer: Viewer, answer: ExecutionResult) -> None:
        self._context = RequestServices(cast("Any", None), cast("Any", None), cast("Any", None)).for_operation(viewer)
        self._answer = answer
        self.executions = 0

    async def _execute(self, source: Any) -> ExecutionResult:
        self.executions += 1
        _SlowRun.executing += 1
        _SlowRun.most_at_once = max(_SlowRun.most_at_once, _SlowRun.executing)
        await asyncio.sleep(0.1)
        _SlowRun.executing -= 1
        return self._answer


async def test_equal_subscribers_of_what_cannot_be_shared_do_not_wait_for_each_other() -> None:
    viewer, event = new_viewer(), StreamEvent(cast("Any", None))
    runs = [_SlowRun(viewer, ExecutionResult({"a": 1}, [cast("Any", "of each their own")])) for _ in range(50)]
    await asyncio.gather(*(run._get_shared(event, Sharing("same", per_viewer=True)) for run in runs))
    assert _SlowRun.most_at_once == 49  # all but the first, whose result turned out not to be shareable
    assert [run.executions for run in runs] == [1] * 50


async def test_when_the_one_who_works_it_out_leaves_one_other_does() -> None:
    viewer, event = new_viewer(), StreamEvent(cast("Any", None))
    runs = [_SlowRun(viewer, ExecutionResult({"a": 1}, None)) for _ in range(10)]
    first, *others = [asyncio.create_task(run._get_shared(event, Sharing("same", per_viewer=True))) for run in runs]
    await asyncio.sleep(0.05)
    first.cancel()
    answers = await asyncio.gather(*others)
    assert {answer.data["a"] for answer in answers if answer.data} == {1}
    assert sum(run.executions for run in runs) == 2


async def test_a_feed_that_is_closed_while_it_connects_ends(settings: StateSettings, database: Database) -> None:
    """Redis' client may swallow a cancellation: an API that failed to start hung for ever, deaf to SIGTERM."""
    revalidation = Revalidation(accounts.current_viewers, jobevents.visible_jobs, 30)
    queries = ChangeQueries(jobchanges.load_changes, jobchanges.changed_since)
    for tenths in range(60):
        async with asyncio.timeout(60), Feed.open(settings.redis_url, database, revalidation, queries):
            await asyncio.sleep(tenths / 10_000)
