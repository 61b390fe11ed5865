"""Changes of jobs that come at the wrong moment: in the middle of a look, between two statements of one, or while rights are lost."""

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

from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.errors import SignedOut, Unavailable
from db.queries import jobchanges
from db.queries.jobs import EVERY
from db.stores.changes import Changes, Looks, Place, Watch, Watcher
from db.stores.sessions import Session
from db.tables.jobstates import JobStatus
from graph.core.ids import decode, encode
from tests.client import Client
from tests.telling import waiting_jobs

_MOVE = text("""
    WITH moved AS (
        UPDATE jobs SET progress = progress + 1, last_sequence = last_sequence + 1 WHERE id = ANY(:ids)
        RETURNING id, last_sequence, attempt, status, progress
    ), told AS (
        INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
        SELECT id, last_sequence, attempt, 'progress', status, progress FROM moved
    )
    SELECT id, last_sequence FROM moved""")


def nobody_in_particular() -> Viewer:
    """An admin, unlike every other viewer."""
    return Viewer(uuid4(), UserRole.ADMIN)


async def moved(database: Database, *jobs: UUID) -> None:
    """One more event for each, with some progress."""
    async with database.work(SYSTEM) as work:
        await work.run(_MOVE, {"ids": list(jobs)})


async def job_of(client: Client, database: Database, count: int = 1) -> list[UUID]:
    return await waiting_jobs(database, decode("user", (await client.one("{ viewer { id } }"))["id"]), count)


@asynccontextmanager
async def looking(database: Database, looks: Looks) -> AsyncGenerator[Changes]:
    changes = Changes(database, looks)
    task = asyncio.create_task(changes.run())
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def last_heard(watcher: Watcher, sequence: int) -> list[int]:
    """The sequences that it is told of, up to this one."""
    heard: list[int] = []
    async with asyncio.timeout(5):
        while sequence not in heard:
            heard += [told.row.last_sequence for told in await watcher.next()]
    return heard


class Interrupted:
    """The state, with something that happens after each statement's snapshot."""

    def __init__(self, database: Database, then: Callable[[int], Awaitable[None]]) -> None:
        self._database = database
        self._then = then
        self._statements = 0

    async def rows(self, statement: Any, parameters: Any = None) -> Sequence[Any]:
        found = await self._database.rows(statement, parameters)
        self._statements += 1
        await self._then(self._statements)
        return found


def interrupted(then: Callable[[int], Awaitable[None]]) -> Looks:
    """Looks with something that happens after each of their statements, counted through."""
    places: list[Interrupted] = []

    async def look(database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime) -> Any:
        if not places:
            places.append(Interrupted(database, then))
        return await jobchanges.look(cast("Database", places[0]), watches, known, moment)

    return Looks(look, jobchanges.changed_since)


async def test_who_comes_during_a_look_hears_of_what_happens_after(ada: Client, announcing: Database) -> None:
    (job,) = await job_of(ada, announcing)
    asked, come = asyncio.Event(), asyncio.Event()

    async def late(database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime) -> Any:
        """As a look that waits for a connection: what it finds is of later than when it was asked for."""
        asked.set()
        await come.wait()
        return await jobchanges.look(database, watches, known, moment)

    async with looking(announcing, Looks(late, jobchanges.changed_since)) as changes:
        with changes.watch(Session(nobody_in_particular()), None) as first:
            changes.name(job, 1)
            await asked.wait()
            with changes.watch(Session(nobody_in_particular()), None) as newcomer:
                await moved(announcing, job)
                come.set()
                assert 2 in await last_heard(first, 2)
                changes.name(job, 2)
                assert await last_heard(newcomer, 2) == [2]


async def test_those_who_come_again_and_again_during_a_look_read_by_themselves(ada: Client, announcing: Database) -> None:
    (job,) = await job_of(ada, announcing)
    newcomers: list[Watcher] = []
    with ExitStack() as held:

        async def then(statement: int) -> None:
            newcomers.append(held.enter_context(changes.watch(Session(nobody_in_particular()), None)))
            if statement == 3:
                await moved(announcing, job)

        async with looking(announcing, interrupted(then)) as changes:
            held.enter_context(changes.watch(Session(nobody_in_particular()), None))
            changes.name(job, 1)
            async with asyncio.timeout(5):
                while len(newcomers) < 3:
                    await asyncio.sleep(0.01)
            assert await newcomers[2].next() == ()
            async with aclosing(changes.missed(newcomers[2])) as pages:
                assert [[told.row.last_sequence for told in page] async for page in pages] == [[2]]
            assert newcomers[2].behind_since is None


async def test_a_change_between_two_statements_of_a_look_is_told_to_all(ada: Client, announcing: Database) -> None:
    """More than a hundred watches take two statements, each with a moment of its own."""
    (job,) = await job_of(ada, announcing)
    over = replace(EVERY, status=(JobStatus.CANCELLED,))

    async def then(statement: int) -> None:
        if statement == 1:
            await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=encode("job", job))

    async with looking(announcing, interrupted(then)) as changes:
        with ExitStack() as held:
            watchers = [held.enter_context(changes.watch(Session(nobody_in_particular()), over)) for _ in range(101)]
            changes.name(job, 1)
            async with asyncio.timeout(5):
                while not any(watcher.has_news for watcher in watchers):
                    await asyncio.sleep(0.01)
            changes.name(job, 2)
            for watcher in watchers:
                assert set(await last_heard(watcher, 2)) == {2}


async def test_what_was_missed_is_read_in_pages_and_whoever_leaves_it_reads_it_again(ada: Client, announcing: Database) -> None:
    jobs = set(await job_of(ada, announcing, 501))
    moment = (await announcing.rows(text("SELECT clock_timestamp() - interval '1 hour' AS it")))[0].it
    changes = Changes(announcing, Looks(jobchanges.look, jobchanges.changed_since))
    with changes.watch(Session(nobody_in_particular()), None) as watcher:
        watcher.fall_behind(moment)
        async with aclosing(changes.missed(watcher)) as pages:
            assert len(await anext(pages)) == 500
            assert watcher.behind_since is None
        assert watcher.behind_since == moment
        async with aclosing(changes.missed(watcher)) as pages:
            read = [[told.row.id for told in page] async for page in pages]
        assert [len(page) for page in read] == [500, 1]
        assert {job for page in read for job in page} == jobs
        assert watcher.behind_since is None


async def test_what_was_missed_is_waited_for_while_the_database_is_away(ada: Client, announcing: Database) -> None:
    (job,) = await job_of(ada, announcing)
    moment = (await announcing.rows(text("SELECT clock_timestamp() - interval '1 hour' AS it")))[0].it
    failures = [Unavailable("database"), Unavailable("database")]

    async def since(database: Database, watch: Watch, place: Place, limit: int) -> Sequence[Place]:
        if failures:
            raise failures.pop()
        return await jobchanges.changed_since(database, watch, place, limit)

    changes = Changes(announcing, Looks(jobchanges.look, since))
    session = Session(nobody_in_particular())
    with changes.watch(session, None) as watcher:
        watcher.fall_behind(moment)
        async with aclosing(changes.missed(watcher)) as pages:
            assert [[told.row.id for told in page] async for page in pages] == [[job]]
        failures.append(Unavailable("database"))
        watcher.fall_behind(moment)
        session.end()
        with pytest.raises(SignedOut):
            await anext(changes.missed(watcher))


async def test_what_is_pending_is_read_anew_when_its_readers_rights_have_changed(ada: Client, announcing: Database) -> None:
    (job,) = await job_of(ada, announcing)
    session = Session(nobody_in_particular())
    async with looking(announcing, Looks(jobchanges.look, jobchanges.changed_since)) as changes:
        with changes.watch(session, None) as watcher:
            changes.name(job, 1)
            async with asyncio.timeout(5):
                while not watcher.has_news:
                    await asyncio.sleep(0.01)
            session.viewer = replace(session.viewer, role=UserRole.MEMBER)
            assert await watcher.next() == ()
            async with aclosing(changes.missed(watcher)) as pages:
                assert [page async for page in pages] == [[]]
