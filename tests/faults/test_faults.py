"""Jobs survive each single fault: it strikes while jobs run on the real product, and the invariants hold afterwards.

The seed is fixed here; `make chaos` takes any.
"""

from __future__ import annotations

import asyncio
import signal
import time
from math import inf

import pytest

from server.embedded import ManagedProcess
from tests.client import GraphQLErrors
from tests.exhaustive import exhaustive
from tests.faults import hooks
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import ALL_LINK_FAULTS, LINKS, SINGLE_LINK_FAULTS, FaultInjector, fault_kinds
from tests.faults.invariants import assert_invariants
from tests.faults.proxy import Faults
from tests.faults.viewers import Viewer
from tests.faults.workload import MIXED_SCRIPTS, Workload

TESTED_SEPARATELY = {
    *ALL_LINK_FAULTS,
    *SINGLE_LINK_FAULTS,
    "store_cuts_transfers",
    "store_loses_answers",
    "shift_clock",
}  # each has a test of its own
EXHAUSTIVE = {  # what each does, another kind or another test does once
    "freeze_worker",
    "freeze_forkserver",
    "restart_redis",
    "wipe_redis",
    "restart_postgres",
    "kill_backend",
    "partition_postgres",
    "store_hangs",
    "store_answers_errors",
    "roll_worker",
    "crash_redis",
    "kill_api",
    "dispatch_twice",
}
REPLACE_WORKER = {"kill_worker", "roll_worker"}  # these replace the worker process
UNAVAILABLE_TIMEOUT = 3.0
MARGIN = 0.7  # seconds that a busy machine may add to a bound
STOPPING_WORKERS: list[tuple[ManagedProcess, asyncio.Task[None]]] = []


@pytest.mark.exhaustive
async def test_a_worker_that_cannot_take_leave_of_anybody_is_told_to_stop(cluster: Cluster, workload: Workload) -> None:
    """PostgreSQL, Redis and S3 hang for this worker alone. It stops within seconds; the last test here checks the outcome."""
    proxies, proxied_environment = cluster.start_proxies()
    worker = cluster.launch_spare_worker(**proxied_environment)
    await cluster.wait_serving(worker)
    with cluster.freeze(*cluster.worker_pids()):
        job = await workload.submit_script("linger 60 0.05")
        await workload.wait_for_status(job, "running")
    for link in LINKS:
        proxies.set_faults(link, Faults(stall=True))
    STOPPING_WORKERS.append((worker, asyncio.create_task(cluster.stop_worker(worker))))
    assert await workload.wait_for_end(job) == {job.job: "completed"}
    row = await workload.job(job)
    assert (row["attempt"], row["tries"]) == (2, 0), "what it could not give back was taken from it when its lease ran out"


@pytest.mark.parametrize(
    "kind", [exhaustive(kind) if kind in EXHAUSTIVE else kind for kind in fault_kinds() if kind not in TESTED_SEPARATELY]
)
async def test_no_job_is_lost_or_done_twice(kind: str, cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    workers = cluster.worker_pids()
    async with workload.under_load(*MIXED_SCRIPTS) as jobs:
        await eventually(lambda: fault_kinds()[kind](fault_injector), 30.0, f"{kind} striking anything")
    await workload.wait_for_end(*jobs)
    await workload.wait_for_subscribers()
    await assert_invariants(cluster, workload)
    assert kind in REPLACE_WORKER or cluster.worker_pids() == workers, "no worker died of it"


@pytest.mark.exhaustive
async def test_workers_whose_clocks_are_wrong_keep_jobs_for_longer_than_a_lease(
    cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    workers = [cluster.launch_worker(**{hooks.CLOCK_SHIFT: seconds}) for seconds in ("90", "-90")]
    completed = await asyncio.gather(*(fault_injector.completes_a_job(worker, fault_injector.lease * 1.2) for worker in workers))
    assert completed == [True, True]
    await asyncio.gather(*map(cluster.stop_worker, workers))
    await workload.wait_for_end()
    await assert_invariants(cluster, workload)


async def test_a_result_that_comes_after_the_lease_is_refused(cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    """The body ends while its worker is frozen; when it thaws, another attempt holds the job."""
    job = await fault_injector.late_result(cluster.workers[0].pid)
    assert await workload.wait_for_end(job) == {job.job: "completed"}
    await assert_invariants(cluster, workload)
    row = await workload.job(job)
    assert (row["attempt"], row["tries"], row["losses"]) == (2, 0, 1)


async def test_a_worker_that_waits_for_postgres_can_be_told_to_stop(cluster: Cluster) -> None:
    proxies, proxied_environment = cluster.start_proxies()
    proxies.set_faults("postgres", Faults(refuse=True))
    worker = cluster.launch_spare_worker(**proxied_environment)

    async def is_waiting() -> bool:
        return "worker_registration_delayed" in worker.log_tail()

    await eventually(is_waiting, 60.0, "the waiting for Postgres")
    await cluster.stop_worker(worker)


async def _slowest_response_without_postgres(how: str, cluster: Cluster, viewer: Viewer) -> float:
    """Return how many seconds the last of many viewers waited for UNAVAILABLE."""
    if how == "stopped":
        await cluster.stop_server("postgres")
    else:
        cluster.proxies.set_faults("postgres", Faults(stall=True) if how == "silent" else Faults(refuse=True))
    durations: list[float] = []

    async def expect_unavailable(turn: int) -> None:
        started = time.monotonic()
        with pytest.raises(GraphQLErrors) as error_info:
            await viewer.client(turn).one("{ datasets { totalCount } }")
        durations.append(time.monotonic() - started)
        assert error_info.value.codes == ["UNAVAILABLE"]

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8 if how == "silent" else 1):  # each wave starts before the previous one has its responses
                for turn in range(15 * len(cluster.urls)):  # soon more than the read concurrency
                    tasks.create_task(expect_unavailable(turn))
                await asyncio.sleep(0.55)
    finally:
        if how == "stopped":
            await cluster.start_server("postgres")
        else:
            cluster.proxies.set_faults("postgres")
    return max(durations)


@pytest.mark.parametrize("how", ["silent", exhaustive("refusing"), exhaustive("stopped")])
async def test_without_postgres_people_are_told_within_seconds(how: str, cluster: Cluster, workload: Workload) -> None:
    """With many viewers: on connections already checked out, on new ones, and with an exhausted pool.

    A busy machine may delay one round, but people who wait for each other do so in every round.
    """
    rounds: list[float] = []
    while len(rounds) < 3 and min(rounds, default=inf) > UNAVAILABLE_TIMEOUT + MARGIN:
        rounds.append(await _slowest_response_without_postgres(how, cluster, workload.viewers[0]))
    assert min(rounds) <= UNAVAILABLE_TIMEOUT + MARGIN, rounds
    assert (await workload.viewers[0].execute_with_retries("{ datasets { totalCount } }"))["totalCount"] > 0
    await assert_invariants(cluster, workload)


@pytest.mark.exhaustive
async def test_the_worker_that_could_not_take_leave_has_gone(cluster: Cluster, workload: Workload) -> None:
    ((worker, stopping),) = STOPPING_WORKERS
    await stopping
    assert worker.exit_code() in {0, -signal.SIGTERM}
    await assert_invariants(cluster, workload)
