"""The numbers of the engine, taken small: with a lease of two seconds and few of everything. `make chaos ARGS="--numbers all"` takes them whole.

A bound that is a time has room for a machine that does much else, and less of it than what would have to go wrong takes.
"""

from __future__ import annotations

import asyncio
import random

from db.settings import StateSettings
from tests.faults.crowd import Crowd
from tests.faults.ground import Ground, until
from tests.faults.invariants import hold
from tests.faults.measures import NOWHERE, again, broken_streams, cancelled, churn, rolling, sockets, statements, throughput
from tests.faults.mischief import Mischief
from workers.settings import WorkerSettings

ROOM = 0.9  # seconds
DEFAULTS = {f"TRELLIS_WORKER_{name.upper()}": str(WorkerSettings.model_fields[name].default) for name in ("lease", "pulse", "look")}
# On a ground that is a minute old all are due at once, and a worker that is the only one to move does them all; in an hour they are nothing.
NO_CHORES = {f"TRELLIS_{name.upper()}": "0" for name in StateSettings.model_fields if name.startswith("chore_")}


async def test_a_job_whose_child_was_killed_runs_again_within_a_second(crowd: Crowd) -> None:
    """Its worker is told at once; did it have to be found out, a lease of two seconds would pass."""
    spans = await asyncio.gather(*(again(crowd, "child", pause) for pause in (0.1, 0.3, 0.5, 0.7)))
    assert max(spans) <= 1 + ROOM, spans
    await crowd.ended()
    await hold(crowd.ground, crowd)


async def test_a_job_whose_worker_was_killed_runs_again_a_lease_later(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    replacement = ground.launch_aside()
    span = await again(crowd, "worker", 0.3)
    assert span <= mischief.lease + 1 + ROOM
    ground.aside.remove(replacement)
    ground.workers.append(replacement)
    await ground.serves(replacement)
    await crowd.ended()
    await hold(ground, crowd)


async def test_who_is_cancelled_is_gone_within_seconds(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    """A body that does not obey is killed when the worker's patience is over, which is two seconds here."""
    patience = float(ground.settings["TRELLIS_WORKER_CANCEL_PATIENCE"])
    spans = await cancelled(crowd, ["nap 600"] * 4 + ["stubborn 600"] * 4, random.Random(7))
    assert max(spans[:4]) <= 2 + ROOM, spans
    assert patience <= min(spans[4:]) <= max(spans[4:]) <= patience + 2 + ROOM, spans
    await crowd.ended()
    await hold(ground, crowd)


async def test_rolling_restarts_cost_no_try_and_no_event(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    api = ground.urls[-1]
    rolled = await rolling(crowd, mischief, api, turns=3, people=8, script="nap 0.5")
    assert (rolled.tries, rolled.not_completed, rolled.broken_streams) == (0, 0, 0)
    await hold(ground, crowd)


async def test_jobs_run_where_there_never_was_a_redis(ground: Ground, crowd: Crowd) -> None:
    """Neither the API nor the workers have ever seen one, and those that have stand still; then it is the other way round."""
    those_with = list(ground.workers)
    those_without = [ground.launch_worker(**NOWHERE) for _ in those_with]
    await asyncio.gather(ground.start_api(**NOWHERE), *map(ground.serves, those_without))
    api = ground.urls[-1]
    urls, ground.urls = ground.urls[:-1], [api]
    share = 0.0
    try:
        for _ in range(3):
            with ground.frozen(*(worker.pid for worker in those_with)):
                watch = crowd.watch(await crowd.script("nap 0.05"))
                without, jobs = await throughput(crowd, those_without, "nap 0.05", 40)
                await crowd.watched()
            assert watch.done
            rows = await ground.rows("SELECT worker FROM job_attempts WHERE job_id = ANY($1)", [job.job for job in jobs])
            assert {int(row["worker"].split("-")[-2]) for row in rows} <= {worker.pid for worker in those_without}
            with ground.frozen(*(worker.pid for worker in those_without)):
                with_one, _ = await throughput(crowd, those_with, "nap 0.05", 40)
            share = max(share, without / with_one)
            if share >= 0.5:
                break
    finally:
        ground.urls = urls
        ground.apis.pop(api).stop()
        await asyncio.gather(*map(ground.stop_worker, those_without))
    assert share >= 0.5, f"{share:.0%} of the throughput with a Redis, at best of three times"
    await hold(ground, crowd)


async def test_subscribers_that_come_and_go_miss_nothing_though_redis_is_wiped(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    connections = await churn(crowd, mischief, jobs=20, people=100, pause=0.4)
    assert connections > 100, "nobody hung up"
    assert await broken_streams(crowd) == 0
    await hold(ground, crowd)


async def test_hundreds_of_sockets_hear_each_event_once_and_in_order(ground: Ground, crowd: Crowd) -> None:
    heard = await sockets(crowd, count=300, events=20)
    assert (heard.received, heard.misplaced) == (heard.wanted, 0)
    await hold(ground, crowd)


async def test_an_idle_worker_asks_twice_a_second_at_most_and_a_subscriber_never(ground: Ground, crowd: Crowd) -> None:
    """With the APIs' own rounds, which are none while nobody waits for news."""
    usual = ground.launch_aside(**DEFAULTS, **NO_CHORES)
    await ground.serves(usual)
    with ground.frozen(*ground.worker_pids()):
        await asyncio.sleep(0.5)
        # What a worker does once at its start is no part of it, and may take longer where the machine does much else.
        idle = await statements(ground, 3)
        for _ in range(2):
            idle = idle if idle <= 2 else await statements(ground, 3)
        await ground.stop_worker(usual)
        job = await crowd.script("nap 0.05")
        watches = [crowd.watch(job) for _ in range(50)]

        async def all_follow() -> bool:
            return all(watch.saw for watch in watches)

        await until(all_follow)
        await asyncio.sleep(0.5)
        followed = await statements(ground, 1.5)
    assert 1 <= idle <= 2
    assert followed <= len(watches) / 5, "each API looks once a second for all that are watched there, and now and then for something else"
    await crowd.ended()
    await crowd.watched()
    await hold(ground, crowd)
