"""Timers of one length, and limits on the time of a block that use them."""

from __future__ import annotations

import asyncio

import pytest

from db.core.deadlines import Deadlines


async def test_timers_go_off_in_their_order_unless_they_were_cleared() -> None:
    deadlines, gone_off, all_gone = Deadlines(0.01), list[str](), asyncio.Event()
    deadlines.set(lambda: gone_off.append("first"))
    cleared = deadlines.set(lambda: gone_off.append("cleared"))
    deadlines.set(lambda: gone_off.append("second"))
    deadlines.clear(cleared)
    deadlines.set(all_gone.set)
    await all_gone.wait()
    assert gone_off == ["first", "second"]
    assert len(deadlines) == 0
    again = asyncio.Event()
    deadlines.set(again.set)
    await again.wait()


async def test_a_block_that_takes_too_long_is_ended_and_its_task_goes_on() -> None:
    with pytest.raises(TimeoutError), Deadlines(0.01).limit():
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with Deadlines(60).limit():
        await asyncio.sleep(0)


async def test_an_error_in_time_and_a_cancellation_by_others_stay_what_they_are() -> None:
    deadlines = Deadlines(60)
    with pytest.raises(KeyError), deadlines.limit():
        raise KeyError

    async def wait_within_limit() -> None:
        with deadlines.limit():
            await asyncio.Event().wait()

    task = asyncio.create_task(wait_within_limit())
    await asyncio.sleep(0)
    assert len(deadlines) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(deadlines) == 0


async def test_a_task_that_is_cancelled_by_others_too_is_cancelled() -> None:
    async def be_cancelled_while_it_expires() -> None:
        task = asyncio.current_task()
        assert task is not None
        with Deadlines(0.01).limit():
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(be_cancelled_while_it_expires())
