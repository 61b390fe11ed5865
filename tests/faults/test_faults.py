"""Jobs survive every fault, one after the other: the product runs, jobs are under way, the fault happens, and then the invariants hold.

The seed is fixed here; `make chaos` takes any.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import AsyncGenerator

import psutil
import pytest

from tests.client import GraphQLErrors
from tests.faults import hooks
from tests.faults.crowd import Crowd
from tests.faults.ground import Ground, until
from tests.faults.invariants import hold, violations
from tests.faults.mischief import LINKS, Mischief, kinds
from tests.faults.proxy import Faults
from tests.faults.traces import executions

pytestmark = pytest.mark.xdist_group("faults")
SEED = 7
MIXED = ("nap 0.1", "nap 0.3", "linger 0.6 0.1", "nap 0.2")


@pytest.fixture(scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Ground]:
    with Ground(tmp_path_factory.mktemp("faults"), SEED) as ground:
        await ground.connect()
        await ground.start_up(1)
        await ground.start_worker()
        yield ground
        await ground.pool.close()


@pytest.fixture(scope="module")
async def crowd(ground: Ground) -> AsyncGenerator[Crowd]:
    crowd = Crowd(ground, random.Random(SEED))
    await crowd.gather()
    yield crowd
    await crowd.leave()


@pytest.fixture
def mischief(ground: Ground, crowd: Crowd) -> Mischief:
    return Mischief(ground, crowd, random.Random(SEED))


@pytest.mark.parametrize("kind", list(kinds()))
async def test_no_job_is_lost_or_done_twice(kind: str, ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    jobs = [await crowd.script(script) for script in MIXED]
    for job in jobs:
        crowd.watch(job, churn=0.2)
    await crowd.reach(jobs[2], "running", "completed")
    await kinds()[kind](mischief)
    jobs += [await crowd.script(script) for script in MIXED[:2]]
    await crowd.ended(*jobs)
    await crowd.watched()
    await hold(ground, crowd)


async def test_a_result_that_comes_after_the_lease_is_refused(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    """The body ends while its worker is frozen; when it thaws, another attempt holds the job."""
    job = await mischief.late_result(ground.workers[0].pid)
    assert await crowd.ended(job) == {job.job: "completed"}
    await hold(ground, crowd)
    row = await crowd.job(job)
    assert (row["attempt"], row["tries"], row["losses"]) == (2, 0, 1)


async def test_a_store_that_is_away_for_long_costs_no_try(ground: Ground, crowd: Crowd) -> None:
    ground.proxies.set("s3", Faults(error=1.0))
    job = await crowd.script("nap 0.1")

    async def tried_often() -> bool:
        return (await crowd.job(job))["attempt"] >= 4 or (await crowd.job(job))["status"] == "failed"

    await until(tried_often, 60.0, "a fourth attempt")
    ground.proxies.set("s3")
    assert await crowd.ended(job) == {job.job: "completed"}
    await hold(ground, crowd)


async def test_without_redis_from_the_start_jobs_run(ground: Ground, crowd: Crowd) -> None:
    """Neither the API nor the worker has ever seen a Redis; the workers that have are gone."""
    nowhere = {"TRELLIS_REDIS_URL": "redis://127.0.0.1:1/0"}
    for worker in list(ground.workers):
        await ground.stop_worker(worker)
    await ground.stop_server("valkey")
    urls, ground.urls = ground.urls, []
    try:
        url = await ground.start_api(**nowhere)
        worker = await ground.start_worker(**nowhere)
        jobs = [await crowd.script(script) for script in MIXED]
        watch = crowd.watch(jobs[2])
        assert set((await crowd.ended(*jobs)).values()) == {"completed"}
        await crowd.watched()
        assert watch.done
        await ground.stop_worker(worker)
        ground.apis.pop(url).stop()
    finally:
        ground.urls = urls
        await ground.start_server("valkey")
        await ground.start_worker()
    await hold(ground, crowd)


async def test_a_worker_that_cannot_take_leave_of_anybody_goes_all_the_same(ground: Ground, crowd: Crowd) -> None:
    """Postgres, Redis and S3 hang when it is told to stop: what it cannot give back is taken from it when its lease runs out."""
    worker = await ground.start_worker()
    others = [pid for pid in ground.worker_pids() if pid != worker.pid]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        job = await crowd.script("linger 60 0.05")
        await crowd.reach(job, "running")
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)
    for link in LINKS:
        ground.proxies.set(link, Faults(stall=True))
    try:
        await ground.stop_worker(worker)
    finally:
        for link in LINKS:
            ground.proxies.set(link)
    assert await crowd.ended(job) == {job.job: "completed"}
    await hold(ground, crowd)
    assert (await crowd.job(job))["tries"] == 0


async def test_a_worker_that_waits_for_postgres_can_be_told_to_stop(ground: Ground) -> None:
    ground.proxies.set("postgres", Faults(refuse=True))
    try:
        worker = ground.launch_worker()

        async def waits() -> bool:
            return "waiting_for_postgres" in worker.log_tail()

        await until(waits, 60.0, "the waiting for Postgres")
        await ground.stop_worker(worker)
    finally:
        ground.proxies.set("postgres")


async def test_a_postgres_that_falls_silent_is_told_to_be_unavailable(ground: Ground, crowd: Crowd) -> None:
    """Its connections stay open, and nothing comes: who asks is told so long before an operation is given up."""
    viewer = crowd.viewers[0]
    ground.proxies.set("postgres", Faults(stall=True))
    try:
        for _ in range(2):  # on connections that were lent before, and on new ones
            with pytest.raises(GraphQLErrors) as refused:
                await viewer.client().one("{ datasets { totalCount } }")
            assert refused.value.codes == ["UNAVAILABLE"]
    finally:
        ground.proxies.set("postgres")
    assert (await viewer.insist("{ datasets { totalCount } }"))["totalCount"] > 0
    await hold(ground, crowd)


async def test_bodies_that_misbehave_harm_only_themselves(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    lease = mischief.lease
    good = [await crowd.script("nap 0.2") for _ in range(3)]
    holds = await crowd.script(f"hold {lease * 1.5}")
    leaks = await crowd.script("leak", "failed")
    forks = await crowd.script("fork 0.3")
    chatters = await crowd.script("chatter 50")
    refuses = await crowd.script("refuse", "failed")
    stumbles = await crowd.script("stumble")
    workers = set(ground.worker_pids())
    await crowd.ended()
    assert workers <= set(ground.worker_pids()), "no worker died of it"
    assert (await crowd.job(holds))["attempt"] == 1, "a body that holds the lock for longer than a lease lives"
    fills = await crowd.script("fill 64", "completed" if ground.disk else "failed")
    await crowd.ended()
    assert (await crowd.job(leaks))["error"].count("OUT_OF_MEMORY") == 1
    assert (await crowd.job(refuses))["attempt"] == 1, "bad input is not tried again"
    assert (await crowd.job(stumbles))["tries"] == 1
    assert (await crowd.job(fills))["tries"] == 1, "a full disk is told, and passes"
    assert (await crowd.job(forks))["attempt"] == (await crowd.job(chatters))["attempt"] == 1
    assert not [process.pid for process in psutil.process_iter() if "3600.5" in _words(process)], "what a body forked dies with it"
    assert all([(await crowd.job(job))["status"] == "completed" for job in good])
    await hold(ground, crowd)


async def test_a_cancelled_body_is_gone_even_if_it_does_not_obey(ground: Ground, crowd: Crowd) -> None:
    obeys, ignores = await crowd.script("nap 60"), await crowd.script("stubborn 60")
    harmless = await crowd.script("nap 0.1")
    for job in (obeys, ignores):
        await crowd.reach(job, "running")

    async def both_run() -> bool:
        return {obeys.job, ignores.job} <= {each.job for each in executions(ground.traces)}

    await until(both_run)
    for job in (obeys, ignores):
        assert await crowd.cancel(job.job)
    assert await crowd.ended(obeys, ignores, harmless) == {obeys.job: "cancelled", ignores.job: "cancelled", harmless.job: "completed"}
    pids = [each.pid for each in executions(ground.traces) if each.job in {obeys.job, ignores.job}]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    again = await crowd.again(harmless.job)
    assert await crowd.ended(again) == {again.job: "completed"}
    await hold(ground, crowd)


async def test_without_the_fence_the_harness_finds_what_is_broken(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    """The last test here, for what is broken stays broken."""
    worker = await ground.start_worker(**{hooks.NO_FENCE: "1"})
    job = await mischief.late_result(worker.pid)
    await crowd.ended(job)
    broken = {name: found for name, found in (await violations(ground, crowd)).items() if found}
    assert broken == {"2  made by the attempt that the row names": [job.job]}


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
