"""What bodies and people do to a job: misbehave, fill the disk, cancel, and ask twice at the same moment."""

from __future__ import annotations

import asyncio
import os
import random

import psutil
import pytest

from tests.faults.crowd import PROCESSING, RUN, Crowd
from tests.faults.ground import Ground, until
from tests.faults.invariants import hold
from tests.faults.mischief import Mischief
from tests.faults.traces import executions

MIB = 1024**2


async def test_bodies_that_misbehave_harm_only_themselves(ground: Ground, crowd: Crowd, mischief: Mischief) -> None:
    workers = ground.worker_pids()
    good = await crowd.scripts(*["nap 0.2"] * 3)
    holds = await crowd.script(f"hold {mischief.lease * 1.5}")
    leaks = await crowd.script("leak", "failed")
    forks = await crowd.script("fork 0.3")
    chatters = await crowd.script("chatter 50")
    refuses = await crowd.script("refuse", "failed")
    stumbles = await crowd.script("stumble")
    await crowd.ended()
    assert (await crowd.job(holds))["attempt"] == 1, "a body that holds the lock for longer than a lease lives"
    fills = await crowd.script("fill 64", "completed" if ground.disk else "failed")
    await crowd.ended()
    assert (await crowd.job(leaks))["error"].count("OUT_OF_MEMORY") == 1
    assert (await crowd.job(refuses))["attempt"] == 1, "bad input is not tried again"
    assert (await crowd.job(stumbles))["tries"] == 1
    assert (await crowd.job(fills))["tries"] == 1, "a full disk is told, and passes"
    assert (await crowd.job(forks))["attempt"] == (await crowd.job(chatters))["attempt"] == 1
    assert all([(await crowd.job(job))["status"] == "completed" for job in good])
    assert ground.worker_pids() == workers, "no worker died of it"
    await hold(ground, crowd)


async def test_a_disk_that_is_full_where_the_worker_downloads_costs_no_try(ground: Ground, crowd: Crowd) -> None:
    if not ground.disk:
        pytest.skip("no disk of our own may be mounted here, and what fills the machine's own would harm others")
    uploaded = await crowd.upload(megabytes=4)
    filler = ground.folder / "scratch" / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(filler).f_bavail * os.statvfs(filler).f_bsize - 2 * MIB)
    try:
        job = await crowd.complete(uploaded)

        async def told() -> bool:
            query = "SELECT 1 FROM job_attempts WHERE job_id = $1 AND error->>'code' = 'DISK_FULL'"
            return bool(await ground.rows(query, job.job))

        await until(told, 20.0, "a disk told to be full")
    finally:
        filler.unlink()
    assert await crowd.ended(job) == {job.job: "completed"}
    row = await crowd.job(job)
    assert row["tries"] == 0
    assert row["losses"] >= 1, "it is the worker's trouble, and another may have room"
    await hold(ground, crowd)


async def test_a_cancelled_job_never_completes_and_can_be_done_again(ground: Ground, crowd: Crowd) -> None:
    harmless = await crowd.script("nap 0.1")
    jobs = await crowd.scripts(*["nap 0.3"] * 12)  # more than there are slots: some wait, some run, some are about to end
    chance = random.Random(7)

    async def cancel(place: int) -> None:
        await asyncio.sleep(chance.uniform(0, 0.8))
        await crowd.cancel(jobs[place].job)

    await asyncio.gather(*map(cancel, range(len(jobs))))
    ended = await crowd.ended(harmless, *jobs)
    assert {ended[job] for job in crowd.cancels & set(ended)} == {"cancelled"}
    pids = [each.pid for each in executions(ground.traces) if each.job in ended]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    again = await crowd.again(harmless.job)
    assert await crowd.ended(again) == {again.job: "completed"}
    await hold(ground, crowd)


async def test_twins_submitted_at_the_same_moment_are_one_job(ground: Ground, crowd: Crowd) -> None:
    """Ten calls with one key, half of them at each of two APIs, all at once."""
    viewer = crowd.viewers[0]
    pipeline = await viewer.pipeline("script nap 0.05", PROCESSING)
    given = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "outputDatasetId": viewer.output, "seed": 1}
    assert len(ground.urls) == 2

    async def ask(key: str, turn: int) -> str:
        return (await viewer.insist(RUN, first=turn, input={**given, "idempotencyKey": key}))["job"]["id"]

    for key in ("castor", "pollux"):
        answers = await asyncio.gather(*(ask(key, turn) for turn in range(10)))
        assert len(set(answers)) == 1, answers
        crowd.note(viewer, key, "nap 0.05", answers)
    await crowd.ended()
    await hold(ground, crowd)
