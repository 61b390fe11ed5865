"""What ran is stored while it runs, and once more if the store was away."""

from __future__ import annotations

import asyncio

import pytest

from db.errors import Unavailable
from workers.pipeline_config import finished


async def test_a_store_that_was_away_when_a_body_began_costs_no_result() -> None:
    tries: list[int] = []

    async def store(failures: int) -> int:
        tries.append(failures)
        if len(tries) <= failures:
            raise Unavailable("The object storage", "it was away")
        return len(tries)

    for failures, stored in ((0, 1), (1, 2)):
        tries.clear()
        first = asyncio.create_task(store(failures))
        await asyncio.sleep(0)  # the body runs, and the try has ended
        assert (await finished(first, lambda failures=failures: store(failures)), len(tries)) == (stored, stored)
    tries.clear()
    with pytest.raises(Unavailable):
        await finished(store(2), lambda: store(2))
