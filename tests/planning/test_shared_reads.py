"""Look-ups of one moment share a statement, and nothing else: neither errors nor cancellations nor rights."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from db.core.shared_reads import SharedReads
from tests.client import Client

DATASET = "query Shared($id: ID!) { dataset(id: $id) { id name } }"


class _Reader:
    """Reads the double of each key. `failures` are the numbers of the calls that raise."""

    def __init__(self, *failures: int) -> None:
        self.calls: list[list[int]] = []
        self._failures = failures
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.calls.append(list(keys))
        number = len(self.calls)
        await self.may_answer.wait()
        if number in self._failures:
            raise ConnectionError(number)
        return {key: 2 * key for key in keys}


async def test_keys_of_one_moment_are_read_together_and_each_but_once() -> None:
    shared, reader, other = SharedReads(), _Reader(), _Reader()
    asked = [(1, reader), (2, reader), (1, reader), (3, other)]
    rows = await asyncio.gather(*(shared.rows(read, key, read) for key, read in asked))
    assert [found[key] for (key, _), found in zip(asked, rows, strict=True)] == [2, 4, 2, 6]
    assert (reader.calls, other.calls) == ([[1, 2]], [[3]])
    assert (await shared.rows(reader, 5, reader))[5] == 10
    assert reader.calls[1:] == [[5]]


async def test_whoever_shared_a_statement_that_failed_sends_an_own_one() -> None:
    shared, reader = SharedReads(), _Reader(1, 3)
    results = await asyncio.gather(*(shared.rows(reader, key, reader) for key in (1, 2, 3)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError, dict, ConnectionError]
    assert reader.calls == [[1, 2, 3], [2], [3]]


async def test_the_cancellation_of_one_is_not_that_of_others() -> None:
    shared, reader = SharedReads(), _Reader()
    reader.may_answer.clear()
    first, second, third = (asyncio.create_task(shared.rows(reader, key, reader)) for key in (1, 2, 3))
    while not reader.calls:
        await asyncio.sleep(0)
    third.cancel()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    reader.may_answer.set()
    assert (await second)[2] == 4
    with pytest.raises(asyncio.CancelledError):
        await third
    assert reader.calls == [[1, 2, 3], [2]]


async def test_nobody_sees_through_the_look_up_of_another(ada: Client, bob: Client) -> None:
    dataset = await ada.create_dataset("hers")
    answers = await asyncio.gather(*(client.one(DATASET, id=dataset) for client in (ada, bob, ada, bob)))
    assert answers == [{"id": dataset, "name": "hers"}, None, {"id": dataset, "name": "hers"}, None]
