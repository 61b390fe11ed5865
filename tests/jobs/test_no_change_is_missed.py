"""Changes of jobs at critical moments: during a poll, between two of its statements, or while access is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from db.core.criteria import Criteria, OneOf
from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.errors import SignedOut, Unavailable
from db.queries import jobchanges
from db.streams.job_watch import ChangeQueries, JobWatch, Position, Watch, Watcher
from db.streams.sessions import Session
from db.tables.jobstates import JobStatus
from graph.core.ids import decode, encode
from tests.client import Client
from tests.event_writer import create_waiting_jobs

_WRITE_PROGRESS = text("""
    WITH moved AS (
        UPDATE jobs SET progress = progress + 1, last_sequence = last_sequence + 1 WHERE id = ANY(:ids)
        RETURNING id, last_sequence, attempt, status, progress
    ), inserted AS (
        INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
        SELECT id, last_sequence, attempt, 'progress', status, progress FROM moved
    )
    SELECT id, last_sequence FROM moved""")


def new_admin() -> Viewer:
    """An admin distinct from every other viewer, so that no results are shared."""
    return Viewer(uuid4(), UserRole.ADMIN)


async def write_progress(database: Database, *jobs: UUID) -> None:
    """Add one event with progress to each job."""
    async with database.work(SYSTEM) as work:
        await work.run(_WRITE_PROGRESS, {"ids": list(jobs)})


async def create_jobs_of(client: Client, database: Database, count: int = 1) -> list[UUID]:
    return await create_waiting_jobs(database, decode("user", (await client.one("{ viewer { id } }"))["id"]), count)


@asynccontextmanager
async def running_changes(database: Database, queries: ChangeQueries) -> AsyncGenerator[JobWatch]:
    changes = JobWatch(database, queries)
    task = asyncio.create_task(changes.run())
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def sequences_until(watcher: Watcher, sequence: int) -> list[int]:
    """Return the sequences that the watcher receives, up to this one."""
    sequences: list[int] = []
    async with asyncio.timeout(60):
        while sequence not in sequences:
            sequences += [change.row.last_sequence for change in await watcher.next()]
    return sequences


class InterruptedDatabase:
    """A database that runs a callback after each statement's snapshot."""

    def __init__(self, database: Database, after_statement: Callable[[int], Awaitable[None]]) -> None:
        self._database = database
        self._after_statement = after_statement
        self._statements = 0

    async def rows(self, statement: Any, parameters: Any = None) -> Sequence[Any]:
        rows = await self._database.rows(statement, parameters)
        self._statements += 1
        await self._after_statement(self._statements)
        return rows


def interrupted(after_statement: Callable[[int], Awaitable[None]]) -> ChangeQueries:
    """Polls that run a callback after each statement, numbered across all polls."""
    databases: list[InterruptedDatabase] = []

    async def poll(database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime) -> Any:
        if not databases:
            databases.append(InterruptedDatabase(database, after_statement))
        return await jobchanges.load_changes(cast("Database", databases[0]), watches, known, moment)

    return ChangeQueries(poll, jobchanges.changed_since)


async def test_a_watcher_that_subscribes_during_a_poll_gets_later_changes(ada: Client, notifying_database: Database) -> None:
    (job,) = await create_jobs_of(ada, notifying_database)
    poll_started, may_proceed = asyncio.Event(), asyncio.Event()

    async def delayed_poll(database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime) -> Any:
        """Delay the poll as if it waited for a connection: its snapshot is later than its request."""
        poll_started.set()
        await may_proceed.wait()
        return await jobchanges.load_changes(database, watches, known, moment)

    async with running_changes(notifying_database, ChangeQueries(delayed_poll, jobchanges.changed_since)) as changes:
        with changes.watch(Session(new_admin()), None) as first:
            changes.notify(job, 1)
            await poll_started.wait()
            with changes.watch(Session(new_admin()), None) as newcomer:
                await write_progress(notifying_database, job)
                may_proceed.set()
                assert 2 in await sequences_until(first, 2)
                changes.notify(job, 2)
                assert await sequences_until(newcomer, 2) == [2]


async def test_watchers_that_keep_subscribing_during_a_poll_catch_up_by_themselves(ada: Client, notifying_database: Database) -> None:
    (job,) = await create_jobs_of(ada, notifying_database)
    newcomers: list[Watcher] = []
    with ExitStack() as stack:

        async def after_statement(statement: int) -> None:
            newcomers.append(stack.enter_context(changes.watch(Session(new_admin()), None)))
            if statement == 3:
                await write_progress(notifying_database, job)

        async with running_changes(notifying_database, interrupted(after_statement)) as changes:
            stack.enter_context(changes.watch(Session(new_admin()), None))
            changes.notify(job, 1)
            async with asyncio.timeout(60):
                while len(newcomers) < 3:
                    await asyncio.sleep(0.01)
            assert await newcomers[2].next() == ()
            async with aclosing(changes.catch_up(newcomers[2])) as pages:
                assert [[change.row.last_sequence for change in page] async for page in pages] == [[2]]
            assert newcomers[2].behind_since is None


async def test_a_change_between_two_statements_of_a_poll_reaches_all_watchers(ada: Client, notifying_database: Database) -> None:
    """More than a hundred watches take two statements, each with its own snapshot."""
    (job,) = await create_jobs_of(ada, notifying_database)
    cancelled_only = Criteria.of(status=OneOf((JobStatus.CANCELLED,)))

    async def after_statement(statement: int) -> None:
        if statement == 1:
            await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=encode("job", job))

    async with running_changes(notifying_database, interrupted(after_statement)) as changes:
        with ExitStack() as stack:
            watchers = [stack.enter_context(changes.watch(Session(new_admin()), cancelled_only)) for _ in range(101)]
            changes.notify(job, 1)
            async with asyncio.timeout(60):
                while not any(watcher.has_changes for watcher in watchers):
                    await asyncio.sleep(0.01)
            changes.notify(job, 2)
            for watcher in watchers:
                assert set(await sequences_until(watcher, 2)) == {2}


async def test_what_was_missed_is_read_in_pages_and_whoever_leaves_it_reads_it_again(ada: Client, notifying_database: Database) -> None:
    jobs = set(await create_jobs_of(ada, notifying_database, 501))
    moment = (await notifying_database.rows(text("SELECT clock_timestamp() - interval '1 hour' AS it")))[0].it
    changes = JobWatch(notifying_database, ChangeQueries(jobchanges.load_changes, jobchanges.changed_since))
    with changes.watch(Session(new_admin()), None) as watcher:
        watcher.fall_behind(moment)
        async with aclosing(changes.catch_up(watcher)) as pages:
            assert len(await anext(pages)) == 500
            assert watcher.behind_since is None
        assert watcher.behind_since == moment
        async with aclosing(changes.catch_up(watcher)) as pages:
            id_pages = [[change.row.id for change in page] async for page in pages]
        assert [len(page) for page in id_pages] == [500, 1]
        assert {job for page in id_pages for job in page} == jobs
        assert watcher.behind_since is None


async def test_what_was_missed_is_waited_for_while_the_database_is_away(ada: Client, notifying_database: Database) -> None:
    (job,) = await create_jobs_of(ada, notifying_database)
    moment = (await notifying_database.rows(text("SELECT clock_timestamp() - interval '1 hour' AS it")))[0].it
    failures = [Unavailable("database"), Unavailable("database")]

    async def failing_changed_since(database: Database, watch: Watch, place: Position, limit: int) -> Sequence[Position]:
        if failures:
            raise failures.pop()
        return await jobchanges.changed_since(database, watch, place, limit)

    changes = JobWatch(notifying_database, ChangeQueries(jobchanges.load_changes, failing_changed_since))
    session = Session(new_admin())
    with changes.watch(session, None) as watcher:
        watcher.fall_behind(moment)
        async with aclosing(changes.catch_up(watcher)) as pages:
            assert [[change.row.id for change in page] async for page in pages] == [[job]]
        failures.append(Unavailable("database"))
        watcher.fall_behind(moment)
        session.end()
        with pytest.raises(SignedOut):
            await anext(changes.catch_up(watcher))


async def test_what_is_pending_is_read_anew_when_its_readers_rights_have_changed(ada: Client, notifying_database: Database) -> None:
    (job,) = await create_jobs_of(ada, notifying_database)
    session = Session(new_admin())
    async with running_changes(notifying_database, ChangeQueries(jobchanges.load_changes, jobchanges.changed_since)) as changes:
        with changes.watch(session, None) as watcher:
            changes.notify(job, 1)
            async with asyncio.timeout(60):
                while not watcher.has_changes:
                    await asyncio.sleep(0.01)
            session.viewer = replace(session.viewer, role=UserRole.MEMBER)
            assert await watcher.next() == ()
            async with aclosing(changes.catch_up(watcher)) as pages:
                assert [page async for page in pages] == [[]]
