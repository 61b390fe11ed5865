"""The numbers of what a user owns are exact, whatever happens at once, and no transaction waits for another's."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from contextlib import AsyncExitStack, suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import Unavailable
from db.queries.accounts import COUNTED
from db.services import jobs, maintenance
from db.services.maintenance.user_counters import recount
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import Dataset, Experiment, Job, Model, Pipeline, Table, UserCounter
from db.tables.datasets import DatasetSource, Modality
from db.tables.jobs import JobKind
from db.tables.pipelines import PipelineStatus
from tests.client import Client

STATS = "{ viewer { stats { datasets pipelines models experiments jobs } } }"
NOTHING = dict.fromkeys(COUNTED, 0)
TABLES = {"datasets": Dataset, "pipelines": Pipeline, "models": Model, "experiments": Experiment, "jobs": Job}
REQUIRED: dict[str, dict[str, Any]] = {
    "datasets": {"modality": Modality.TABULAR, "source": DatasetSource.UPLOAD},
    "pipelines": {"modality": Modality.TABULAR, "definition": {}, "status": PipelineStatus.DRAFT},
}


class Abandoned(Exception):
    """A unit of work is to be rolled back."""


async def stats(client: Client) -> dict[str, int]:
    return (await client.one(STATS))["stats"]


async def owner_of(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def add(work: Work, kind: str, owner_id: UUID, name: str) -> UUID:
    if kind == "jobs":
        return (await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, "nobody"))).id
    table: Any = TABLES[kind]
    return await work.scalar(insert(table).values(owner_id=owner_id, name=name, **REQUIRED.get(kind, {})).returning(table.id))


async def counted(database: Database, owner_id: UUID) -> dict[str, int]:
    """Count the live rows themselves."""
    numbers: dict[str, int] = {}
    for kind in COUNTED:
        table = Table.metadata.tables[kind]
        live = select(func.count().label("number")).select_from(table).where(table.c.owner_id == owner_id)
        (row,) = await database.rows(live.where(table.c.deleted_at.is_(None)) if "deleted_at" in table.c else live)
        numbers[kind] = row.number
    return numbers


async def test_what_is_made_and_deleted_is_counted(ada: Client, bob: Client, admin: Client, worker: object) -> None:
    assert await stats(ada) == NOTHING
    await ada.ingest("wine", "a,b\n1,2\n2,3\n")
    beer = await ada.create_dataset("beer")
    assert await stats(ada) == {**NOTHING, "datasets": 2, "jobs": 1}
    await ada.create_pipeline("p", ("data", "dataset", {}))
    await ada.one('mutation { createExperiment(input: {name: "e"}) { __typename } }')
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=beer)
    expected = {"datasets": 1, "pipelines": 1, "models": 0, "experiments": 1, "jobs": 1}
    assert await stats(ada) == expected
    assert await stats(bob) == NOTHING
    everybody = await admin.one("{ users { edges { node { username stats { datasets pipelines models experiments jobs } } } } }")
    assert {edge["node"]["username"]: edge["node"]["stats"] for edge in everybody["edges"]} == {
        "ada": expected,
        "bob": NOTHING,
        "admin": NOTHING,
    }


async def test_each_change_of_a_row_counts(ada: Client, bob: Client, database: Database) -> None:
    ada_id, bob_id = await owner_of(ada), await owner_of(bob)
    for kind in COUNTED:
        table: Any = TABLES[kind]
        async with database.work(SYSTEM) as work:
            ids = [await add(work, kind, owner, f"{kind} {n}") for n, owner in enumerate((ada_id, ada_id, bob_id))]
        assert [(await stats(client))[kind] for client in (ada, bob)] == [2, 1]
        async with database.work(SYSTEM) as work:
            await work.run(update(table).where(table.id == ids[0]).values(owner_id=bob_id))
        assert [(await stats(client))[kind] for client in (ada, bob)] == [1, 2]
        if kind != "jobs":
            async with database.work(SYSTEM) as work:  # deleted and moved at once, then brought back
                await work.run(update(table).where(table.id == ids[0]).values(owner_id=ada_id, deleted_at=func.now()))
            assert [(await stats(client))[kind] for client in (ada, bob)] == [1, 1]
            async with database.work(SYSTEM) as work:
                await work.run(update(table).where(table.id == ids[0]).values(deleted_at=None))
            assert [(await stats(client))[kind] for client in (ada, bob)] == [2, 1]
            async with database.work(SYSTEM) as work:
                await work.run(update(table).where(table.id == ids[1]).values(deleted_at=func.now()))
        async with database.work(SYSTEM) as work:
            if kind == "jobs":
                await work.run(text("DELETE FROM job_events"))
            await work.run(delete(table).where(table.id.in_(ids)))
        assert [(await stats(client))[kind] for client in (ada, bob)] == [0, 0], "one that was deleted before does not count twice"


async def test_transactions_of_one_user_do_not_wait_for_each_other(ada: Client, database: Database) -> None:
    """Each holds what it locked while the others are executed, in another order of tables; the last one is rolled back."""
    ada_id, kinds = await owner_of(ada), list(COUNTED)
    async with database.work(SYSTEM) as work:
        for kind in kinds:
            await add(work, kind, ada_id, f"{kind} before")
    async with AsyncExitStack() as stack:
        works = [Work(await stack.enter_async_context(database.engine.connect()), SYSTEM) for _ in range(3)]
        for number, work in enumerate(works):
            await work.run(text("SET LOCAL lock_timeout = '2s'"))  # whoever waits would wait for ever
            for kind in kinds if number % 2 else reversed(kinds):
                await add(work, kind, ada_id, f"{kind} {number}")
        assert await stats(ada) == dict.fromkeys(kinds, 1)
        for work in works[:2]:
            await work.connection.commit()
        assert await stats(ada) == dict.fromkeys(kinds, 3)
    assert await stats(ada) == dict.fromkeys(kinds, 3)
    parts = select(UserCounter.kind, func.count().label("parts")).where(UserCounter.owner_id == ada_id).group_by(UserCounter.kind)
    assert {row.kind: row.parts for row in await database.rows(parts)} == dict.fromkeys(kinds, 2)
    for number in range(3, 6):
        async with database.work(SYSTEM) as work:
            for kind in kinds:
                await add(work, kind, ada_id, f"{kind} {number}")
    assert await stats(ada) == dict.fromkeys(kinds, 6)
    assert {row.kind: row.parts for row in await database.rows(parts)} == dict.fromkeys(kinds, 2), "a part that nobody holds is used again"


@pytest.mark.exhaustive
async def test_the_numbers_are_exact_after_random_changes_in_parallel(
    ada: Client, bob: Client, database: Database, settings: StateSettings
) -> None:
    """Some units of work are rolled back. Recounts in between find nothing wrong."""
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")  # a failure shows it
    owners = [await owner_of(client) for client in (ada, bob)]
    expected: Counter[tuple[UUID, str]] = Counter()

    async def change_at_random(number: int) -> None:
        choose = random.Random(f"{seed} {number}")
        mine: list[tuple[str, UUID, UUID, bool]] = []  # kind, id, owner, whether it is live
        for turn in range(25):
            after, changes = list(mine), Counter[tuple[UUID, str]]()
            is_abandoned = choose.random() < 0.2
            with suppress(Abandoned):
                async with database.work(SYSTEM) as work:
                    for step in range(choose.randint(1, 4)):
                        if not after or choose.random() < 0.6:
                            kind, owner = choose.choice(COUNTED), choose.choice(owners)
                            after.append((kind, await add(work, kind, owner, f"{number} {turn} {step}"), owner, True))
                            changes[owner, kind] += 1
                            continue
                        kind, row_id, owner, is_live = after.pop(choose.randrange(len(after)))
                        table: Any = TABLES[kind]
                        if kind == "jobs" or choose.random() < 0.3:
                            await work.run(text("DELETE FROM job_events WHERE job_id = :id"), {"id": row_id})
                            await work.run(delete(table).where(table.id == row_id))
                            changes[owner, kind] -= is_live
                        else:
                            await work.run(update(table).where(table.id == row_id).values(deleted_at=func.now() if is_live else None))
                            after.append((kind, row_id, owner, not is_live))
                            changes[owner, kind] += -1 if is_live else 1
                    if is_abandoned:
                        raise Abandoned
                mine[:] = after
                expected.update(changes)

    async with ObjectStore.open(settings) as objects:
        context = maintenance.MaintenanceContext(database, objects, settings)
        changing = [asyncio.create_task(change_at_random(number)) for number in range(6)]
        drifted = [await recount(context, "10s") for _ in range(5)]
        await asyncio.gather(*changing)
        assert [*drifted, await recount(context, "10s")] == [0] * 6
    for client, owner in zip((ada, bob), owners, strict=True):
        numbers = {kind: expected[owner, kind] for kind in COUNTED}
        assert await stats(client) == numbers == await counted(database, owner)


async def test_a_transaction_that_is_killed_leaves_the_numbers_exact(ada: Client, database: Database, settings: StateSettings) -> None:
    """Also one whose part of a counter others had to leave alone, because it was locked."""
    owner_id = await owner_of(ada)
    async with database.work(SYSTEM) as work:
        for kind in COUNTED:
            await add(work, kind, owner_id, "before")

    async def be_killed() -> None:
        async with database.work(SYSTEM) as work:
            for kind in COUNTED:
                await add(work, kind, owner_id, "lost")
            pid: int = await work.scalar(text("SELECT pg_backend_pid()"))
            async with database.work(SYSTEM) as other:
                for kind in COUNTED:
                    await add(other, kind, owner_id, "kept")
            await database.rows(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    with pytest.raises(Unavailable):
        await be_killed()
    expected = dict.fromkeys(COUNTED, 2)
    assert await stats(ada) == await counted(database, owner_id) == expected
    async with ObjectStore.open(settings) as objects:
        assert await recount(maintenance.MaintenanceContext(database, objects, settings), "10s") == 0, "nothing has to be corrected"
    assert await stats(ada) == expected
