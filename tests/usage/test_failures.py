"""What PostgreSQL does not take is kept, within a bound, and written once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from db.core.work import Database
from db.errors import Unavailable
from db.services import usage
from db.settings import StateSettings
from db.tables import ApiRequest, User
from graph.execution.observation import Observation
from server import api_usage, metrics
from server.api_usage import ApiUsage
from tests.client import Client
from tests.usage.conftest import counts_of


@pytest.fixture
async def observe(ada: Client, database: Database) -> Callable[..., Observation]:
    """Make operations of ada that have ended."""
    (row,) = await database.rows(select(User.id).where(User.username == "ada"))

    def observe(user_id: UUID = row.id) -> Observation:
        return Observation("a request", user_id, name="Read", type="query", cost=3, seconds=0.01)

    return observe


async def detail_count(database: Database) -> int:
    return len(await database.rows(select(ApiRequest.id)))


async def test_counts_survive_a_database_that_is_away(
    ada: Client, observe: Callable[..., Observation], settings: StateSettings, database: Database
) -> None:
    nowhere = settings.model_copy(update={"database_url": "postgresql://nobody@127.0.0.1:1/nothing"})
    async with Database.open(nowhere) as away:
        recorder = ApiUsage(away)
        for count in (3, 4):
            for _ in range(count):
                recorder.note(observe())
            with pytest.raises(Unavailable):
                await recorder.flush()
    recorder._database = database  # pyright: ignore[reportPrivateUsage] - the same server has come back
    recorder.note(observe())
    await recorder.flush()
    await recorder.flush()
    assert (await counts_of(ada)).operations == {"Read": (8, 0)}
    assert (await counts_of(ada)).cost == 24
    assert await detail_count(database) == 8


async def test_a_batch_whose_answer_was_lost_is_not_written_twice(
    ada: Client, observe: Callable[..., Observation], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = ApiUsage(database)
    for _ in range(3):
        recorder.note(observe())
    write = usage.write

    async def write_and_lose_the_answer(database: Database, batch: usage.UsageBatch, *, is_retry: bool) -> None:
        await write(database, batch, is_retry=is_retry)
        raise Unavailable("database", "The connection was lost.")

    with monkeypatch.context() as patch:
        patch.setattr(usage, "write", write_and_lose_the_answer)
        with pytest.raises(Unavailable):
            await recorder.flush()
    recorder.note(observe())
    await recorder.flush()
    assert (await counts_of(ada)).requests == await detail_count(database) == 4


async def test_beyond_the_bound_requests_are_only_counted(
    ada: Client, observe: Callable[..., Observation], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_usage, "MAX_RECORDS", 5)
    omitted = metrics.USAGE_OMITTED._value.get()  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportUnknownVariableType, reportAttributeAccessIssue]
    recorder = ApiUsage(database)
    for _ in range(20):
        recorder.note(observe())
    await recorder.flush()
    assert (await counts_of(ada)).requests == 20
    assert await detail_count(database) == 5
    assert metrics.USAGE_OMITTED._value.get() - omitted == 15  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType, reportAttributeAccessIssue]


async def test_requests_of_a_user_who_is_gone_hold_up_no_others(
    ada: Client, observe: Callable[..., Observation], database: Database
) -> None:
    recorder = ApiUsage(database)
    gone = uuid4()
    for user in (gone, None, gone):
        recorder.note(observe() if user is None else observe(user))
    await recorder.flush()
    assert (await counts_of(ada)).requests == await detail_count(database) == 1


async def test_what_is_left_is_written_when_the_process_ends(ada: Client, observe: Callable[..., Observation], database: Database) -> None:
    async with ApiUsage.open(database) as recorder:
        recorder.note(observe())
        await asyncio.sleep(0)
        assert await detail_count(database) == 0
    assert (await counts_of(ada)).requests == await detail_count(database) == 1
