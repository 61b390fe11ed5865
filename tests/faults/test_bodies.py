"""Faults of bodies and viewers: misbehaving bodies, a full disk, cancels, and simultaneous duplicate requests."""

from __future__ import annotations

import asyncio
import os
import random

import psutil
import pytest

from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import assert_invariants
from tests.faults.traces import executions
from tests.faults.workload import PROCESSING, RUN, Workload

pytestmark = pytest.mark.exhaustive

MIB = 1024**2


async def test_bodies_that_misbehave_harm_only_themselves(cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    workers = cluster.worker_pids()
    good = await workload.submit_scripts(*["nap 0.2"] * 3)
    holds = await workload.submit_script(f"hold {fault_injector.lease * 1.5}")
    leaks = await workload.submit_script("leak", "failed")
    forks = await workload.submit_script("fork 0.3")
    chatters = await workload.submit_script("chatter 50")
    refuses = await workload.submit_script("refuse", "failed")
    stumbles = await workload.submit_script("stumble")
    await workload.wait_for_end()
    assert (await workload.job(holds))["attempt"] == 1, "a body that holds the lock for longer than a lease lives"
    fills = await workload.submit_script("fill 64", "completed" if cluster.has_scratch_disk else "failed")
    await workload.wait_for_end()
    assert (await workload.job(leaks))["error"].count("OUT_OF_MEMORY") == 1
    assert (await workload.job(refuses))["attempt"] == 1, "bad input is not tried again"
    assert (await workload.job(stumbles))["tries"] == 1
    assert (await workload.job(fills))["tries"] == 1, "a full disk is told, and passes"
    assert (await workload.job(forks))["attempt"] == (await workload.job(chatters))["attempt"] == 1
    assert all([(await workload.job(job))["status"] == "completed" for job in good])
    assert cluster.worker_pids() == workers, "no worker died of it"
    await assert_invariants(cluster, workload)


async def test_a_disk_that_is_full_where_the_worker_downloads_costs_no_try(cluster: Cluster, workload: Workload) -> None:
    if not cluster.has_scratch_disk:
        pytest.skip("no disk of our own may be mounted here, and what fills the machine's own would harm others")
    uploaded = await workload.upload(megabytes=4)
    filler = cluster.folder / "scratch" / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(filler).f_bavail * os.statvfs(filler).f_bsize - 2 * MIB)
    try:
        job = await workload.complete_upload(uploaded)

        async def disk_full_recorded() -> bool:
            query = "SELECT 1 FROM job_attempts WHERE job_id = $1 AND error->>'code' = 'DISK_FULL'"
            return bool(await cluster.rows(query, job.job))

        await eventually(disk_full_recorded, 20.0, "a disk told to be full")
    finally:
        filler.unlink()
    assert await workload.wait_for_end(job) == {job.job: "completed"}
    row = await workload.job(job)
    assert row["tries"] == 0
    assert row["losses"] >= 1, "it is the worker's trouble, and another may have room"
    await assert_invariants(cluster, workload)


async def test_a_cancelled_job_never_completes_and_can_be_done_again(cluster: Cluster, workload: Workload) -> None:
    harmless = await workload.submit_script("nap 0.1")
    jobs = await workload.submit_scripts(*["nap 0.3"] * 12)  # more than slots: some wait, some run, some are about to end
    rng = random.Random(7)

    async def cancel(index: int) -> None:
        await asyncio.sleep(rng.uniform(0, 0.8))
        await workload.cancel(jobs[index].job)

    await asyncio.gather(*map(cancel, range(len(jobs))))
    ended = await workload.wait_for_end(harmless, *jobs)
    assert {ended[job] for job in workload.accepted_cancels & set(ended)} == {"cancelled"}
    last = {each.pid: each for each in executions(cluster.traces) if each.job in ended}  # a process may run several bodies
    assert [pid for pid, each in last.items() if each.ended is None and psutil.pid_exists(pid)] == [], "what was killed is dead"

    async def all_gone() -> bool:
        return not any(psutil.pid_exists(pid) for pid in last)

    await eventually(all_gone, description="the end of processes that run no body")
    retried = await workload.retry(harmless.job)
    assert await workload.wait_for_end(retried) == {retried.job: "completed"}
    await assert_invariants(cluster, workload)


async def test_twins_submitted_at_the_same_moment_are_one_job(cluster: Cluster, workload: Workload) -> None:
    """Ten concurrent calls with one idempotency key, half of them at each of two APIs."""
    viewer = workload.viewers[0]
    pipeline = await viewer.pipeline("script nap 0.05", PROCESSING)
    run_input = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "outputDatasetId": viewer.output, "seed": 1}
    assert len(cluster.urls) == 2

    async def submit(key: str, turn: int) -> str:
        return (await viewer.execute_with_retries(RUN, first=turn, input={**run_input, "idempotencyKey": key}))["job"]["id"]

    for key in ("castor", "pollux"):
        answers = await asyncio.gather(*(submit(key, turn) for turn in range(10)))
        assert len(set(answers)) == 1, answers
        workload.record_submission(viewer, key, "nap 0.05", answers)
    await workload.wait_for_end()
    await assert_invariants(cluster, workload)
