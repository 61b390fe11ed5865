"""Jobs survive what networks do to connections with Postgres, Redis and S3, and what S3 does to transfers."""

from __future__ import annotations

import pytest

from tests.faults.crowd import MIXED, Crowd
from tests.faults.ground import Ground, until
from tests.faults.invariants import hold
from tests.faults.mischief import LINKS, ON_A_LINK, ON_ALL_LINKS, Mischief
from tests.faults.proxy import FURTHEST, Faults


async def test_links_may_do_whatever_networks_do(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    workers = ground.worker_pids()
    async with crowd.busy(*MIXED) as jobs:
        struck = {kind: await getattr(mischief, kind)() for kind in ON_ALL_LINKS}
    assert struck == dict.fromkeys(ON_ALL_LINKS, True)
    await crowd.ended(*jobs)
    await crowd.watched()
    await hold(ground, crowd)
    assert ground.worker_pids() == workers


@pytest.mark.parametrize("link", LINKS)
async def test_a_link_may_fall_silent_or_refuse_everybody(link: str, ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    workers = ground.worker_pids()
    async with crowd.busy(*MIXED) as jobs:
        struck = {kind: await getattr(mischief, kind)(link) for kind in ON_A_LINK}
    assert struck == dict.fromkeys(ON_A_LINK, True)
    await crowd.ended(*jobs)
    await crowd.watched()
    await hold(ground, crowd)
    assert ground.worker_pids() == workers


@pytest.mark.parametrize("fault", ["cut", "lose"])
async def test_transfers_of_megabytes_may_be_broken_off(fault: str, ground: Ground, crowd: Crowd) -> None:
    """What people upload goes past the proxy: it is the workers' own copies, downloads and uploads that are struck."""
    uploaded = [await crowd.upload(megabytes=4) for _ in range(2)]
    ground.proxies.set("s3", Faults(cut=0.4) if fault == "cut" else Faults(lose=0.4))
    try:
        jobs = [await crowd.complete(upload) for upload in uploaded]

        async def in_their_middle() -> bool:
            struck = ground.proxies.struck("s3")
            if not await ground.rows("SELECT 1 FROM jobs WHERE id = $1 AND completed_at IS NULL", jobs[-1].job):
                jobs.append(await crowd.ingest(megabytes=4))  # all that are there got through
            return struck[fault] >= 3 and (fault != "cut" or struck[FURTHEST] > 100_000)

        async with crowd.busy(*MIXED) as small:
            await until(in_their_middle, 40.0, f"{fault} striking in the middle of a transfer")
    finally:
        ground.proxies.set("s3")
    assert set((await crowd.ended(*jobs, *small)).values()) == {"completed"}
    await crowd.watched()
    await hold(ground, crowd)


async def test_a_store_that_is_away_for_long_costs_no_try(ground: Ground, crowd: Crowd) -> None:
    ground.proxies.set("s3", Faults(error=1.0))
    try:
        job = await crowd.script("nap 0.1")

        async def tried_often() -> bool:
            return (await crowd.job(job))["attempt"] >= 3

        await until(tried_often, 60.0, "a third attempt")
    finally:
        ground.proxies.set("s3")
    assert await crowd.ended(job) == {job.job: "completed"}
    assert (await crowd.job(job))["tries"] == 0
    await hold(ground, crowd)
