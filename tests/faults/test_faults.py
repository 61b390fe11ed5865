"""Jobs survive every fault, one after the other: the product runs, jobs are under way, the fault strikes, and then the invariants hold.

The seed is fixed here; `make chaos` takes any.
"""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from server.embedded import Child
from tests.client import GraphQLErrors
from tests.faults import hooks
from tests.faults.crowd import MIXED, Crowd
from tests.faults.ground import Ground, until
from tests.faults.invariants import hold
from tests.faults.mischief import LINKS, ON_A_LINK, ON_ALL_LINKS, Mischief, kinds
from tests.faults.proxy import Faults

AIMED = {*ON_ALL_LINKS, *ON_A_LINK, "store_cuts_transfers", "store_loses_answers", "shift_clock"}  # each has a test of its own
REPLACED = {"kill_worker", "roll_worker"}  # after these a worker is another process
UNAVAILABLE_WITHIN = 3.0
ROOM = 0.7  # seconds that a machine which does much else may add to a bound
LEAVING: list[tuple[Child, asyncio.Task[None]]] = []


async def test_a_worker_that_cannot_take_leave_of_anybody_is_told_to_stop(ground: Ground, crowd: Crowd) -> None:
    """Postgres, Redis and S3 hang for it alone. It takes some seconds, so what became of it is the last test here."""
    proxies, through = ground.proxied()
    worker = ground.launch_aside(**through)
    await ground.serves(worker)
    with ground.frozen(*ground.worker_pids()):
        job = await crowd.script("linger 60 0.05")
        await crowd.reach(job, "running")
    for link in LINKS:
        proxies.set(link, Faults(stall=True))
    LEAVING.append((worker, asyncio.create_task(ground.stop_worker(worker))))
    assert await crowd.ended(job) == {job.job: "completed"}
    row = await crowd.job(job)
    assert (row["attempt"], row["tries"]) == (2, 0), "what it could not give back was taken from it when its lease ran out"


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind not in AIMED])
async def test_no_job_is_lost_or_done_twice(kind: str, ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    workers = ground.worker_pids()
    async with crowd.busy(*MIXED) as jobs:
        await until(lambda: kinds()[kind](mischief), 30.0, f"{kind} striking anything")
    await crowd.ended(*jobs)
    await crowd.watched()
    await hold(ground, crowd)
    assert kind in REPLACED or ground.worker_pids() == workers, "no worker died of it"


async def test_workers_whose_clocks_are_wrong_keep_jobs_for_longer_than_a_lease(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    workers = [ground.launch_worker(**{hooks.CLOCK: seconds}) for seconds in ("90", "-90")]
    worked = await asyncio.gather(*(mischief.works(worker, mischief.lease * 1.2) for worker in workers))
    assert worked == [True, True]
    await asyncio.gather(*map(ground.stop_worker, workers))
    await crowd.ended()
    await hold(ground, crowd)


async def test_a_result_that_comes_after_the_lease_is_refused(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    """The body ends while its worker is frozen; when it thaws, another attempt holds the job."""
    job = await mischief.late_result(ground.workers[0].pid)
    assert await crowd.ended(job) == {job.job: "completed"}
    await hold(ground, crowd)
    row = await crowd.job(job)
    assert (row["attempt"], row["tries"], row["losses"]) == (2, 0, 1)


async def test_a_worker_that_waits_for_postgres_can_be_told_to_stop(ground: Ground) -> None:
    proxies, through = ground.proxied()
    proxies.set("postgres", Faults(refuse=True))
    worker = ground.launch_aside(**through)

    async def waits() -> bool:
        return "waiting_for_postgres" in worker.log_tail()

    await until(waits, 60.0, "the waiting for Postgres")
    await ground.stop_worker(worker)


@pytest.mark.parametrize("how", ["silent", "refusing", "stopped"])
async def test_without_postgres_people_are_told_within_seconds(how: str, ground: Ground, crowd: Crowd) -> None:
    """However many they are: on connections that were lent before, on new ones, and where all are being waited for."""
    viewer = crowd.viewers[0]
    if how == "stopped":
        await ground.stop_server("postgres")
    else:
        ground.proxies.set("postgres", Faults(stall=True) if how == "silent" else Faults(refuse=True))
    took: list[float] = []

    async def refused(turn: int) -> None:
        asked = time.monotonic()
        with pytest.raises(GraphQLErrors) as refusal:
            await viewer.client(turn).one("{ datasets { totalCount } }")
        took.append(time.monotonic() - asked)
        assert refusal.value.codes == ["UNAVAILABLE"]

    try:
        async with asyncio.TaskGroup() as people:
            for _ in range(8 if how == "silent" else 1):  # each wave comes before the one before it has its answer
                for turn in range(15 * len(ground.urls)):  # soon more than may read at once
                    people.create_task(refused(turn))
                await asyncio.sleep(0.55)
    finally:
        if how == "stopped":
            await ground.start_server("postgres")
        else:
            ground.proxies.set("postgres")
    assert max(took) <= UNAVAILABLE_WITHIN + ROOM, took
    assert (await viewer.insist("{ datasets { totalCount } }"))["totalCount"] > 0
    await hold(ground, crowd)


async def test_the_worker_that_could_not_take_leave_has_gone(ground: Ground, crowd: Crowd) -> None:
    ((worker, leaving),) = LEAVING
    await leaving
    assert worker.exit_code() in {0, -signal.SIGTERM}
    await hold(ground, crowd)
