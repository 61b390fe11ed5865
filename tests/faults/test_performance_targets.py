"""The engine's performance targets in small: a lease of two seconds and small counts. `make chaos ARGS="--numbers all"` measures them in full.

A time bound leaves room for a busy machine, but less than the failure that it detects would take.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from db.settings import StateSettings
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import assert_invariants
from tests.faults.measurements import (
    NO_REDIS,
    cancel_delays,
    count_broken_streams,
    measure_sockets,
    restart_delay,
    rolling_restarts,
    statement_rate,
    subscriber_churn,
    throughput,
)
from tests.faults.workload import Workload
from workers.settings import WorkerSettings

pytestmark = pytest.mark.exhaustive

MARGIN = 0.9  # seconds
DEFAULTS = {
    f"TRELLIS_WORKER_{name.upper()}": str(WorkerSettings.model_fields[name].default)
    for name in ("lease", "heartbeat_interval", "poll_interval")
}
# On a new cluster all maintenance tasks are due at once, and the only running worker does them all; over an hour they are negligible.
NO_MAINTENANCE = {f"TRELLIS_{name.upper()}": "0" for name in StateSettings.model_fields if name.startswith("maintenance_")}


async def test_a_job_whose_child_was_killed_runs_again_within_a_second(workload: Workload) -> None:
    """The worker learns of it at once; otherwise a lease of two seconds would have to expire."""
    delays = await asyncio.gather(*(restart_delay(workload, "child", pause) for pause in (0.1, 0.3, 0.5, 0.7)))
    assert max(delays) <= 1 + MARGIN, delays
    await workload.wait_for_end()
    await assert_invariants(workload.cluster, workload)


async def test_a_job_whose_worker_was_killed_runs_again_a_lease_later(
    cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    replacement = cluster.launch_spare_worker()
    delay = await restart_delay(workload, "worker", 0.3)
    assert delay <= fault_injector.lease + 1 + MARGIN
    cluster.spare_workers.remove(replacement)
    cluster.workers.append(replacement)
    await cluster.wait_serving(replacement)
    await workload.wait_for_end()
    await assert_invariants(cluster, workload)


async def test_who_is_cancelled_is_gone_within_seconds(cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    """A body that ignores SIGTERM is killed after the grace period, two seconds here."""
    cancel_timeout = float(cluster.settings["TRELLIS_WORKER_CANCEL_GRACE"])
    delays = await cancel_delays(workload, ["nap 600"] * 4 + ["stubborn 600"] * 4, random.Random(7))
    assert max(delays[:4]) <= 2 + MARGIN, delays
    assert cancel_timeout <= min(delays[4:]) <= max(delays[4:]) <= cancel_timeout + 2 + MARGIN, delays
    await workload.wait_for_end()
    await assert_invariants(cluster, workload)


async def test_rolling_restarts_cost_no_try_and_no_event(cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    api = cluster.urls[-1]
    report = await rolling_restarts(workload, fault_injector, api, turns=3, viewers=8, script="nap 0.5")
    assert (report.tries, report.not_completed, report.broken_streams) == (0, 0, 0)
    await assert_invariants(cluster, workload)


async def test_jobs_run_where_there_never_was_a_redis(cluster: Cluster, workload: Workload) -> None:
    """Throughput of processes started without Redis while those with Redis are frozen, and the other way round."""
    workers_with_redis = list(cluster.workers)
    workers_without_redis = [cluster.launch_worker(**NO_REDIS) for _ in workers_with_redis]
    await asyncio.gather(cluster.start_api(**NO_REDIS), *map(cluster.wait_serving, workers_without_redis))
    api = cluster.urls[-1]
    urls, cluster.urls = cluster.urls[:-1], [api]
    share = 0.0
    try:
        for _ in range(3):
            with cluster.freeze(*(worker.pid for worker in workers_with_redis)):
                subscriber = workload.subscribe(await workload.submit_script("nap 0.05"))
                rate_without, jobs = await throughput(workload, workers_without_redis, "nap 0.05", 40)
                await workload.wait_for_subscribers()
            assert subscriber.done
            rows = await cluster.rows("SELECT worker FROM job_attempts WHERE job_id = ANY($1)", [job.job for job in jobs])
            assert {int(row["worker"].split("-")[-2]) for row in rows} <= {worker.pid for worker in workers_without_redis}
            with cluster.freeze(*(worker.pid for worker in workers_without_redis)):
                rate_with, _ = await throughput(workload, workers_with_redis, "nap 0.05", 40)
            share = max(share, rate_without / rate_with)
            if share >= 0.5:
                break
    finally:
        cluster.urls = urls
        cluster.apis.pop(api).stop()
        await asyncio.gather(*map(cluster.stop_worker, workers_without_redis))
    assert share >= 0.5, f"{share:.0%} of the throughput with a Redis, at best of three times"
    await assert_invariants(cluster, workload)


async def test_subscribers_that_come_and_go_miss_nothing_though_redis_is_wiped(
    cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    connections = await subscriber_churn(workload, fault_injector, jobs=20, count=100, pause=0.4)
    assert connections > 100, "nobody hung up"
    assert await count_broken_streams(workload) == 0
    await assert_invariants(cluster, workload)


async def test_hundreds_of_sockets_hear_each_event_once_and_in_order(cluster: Cluster, workload: Workload) -> None:
    report = await measure_sockets(workload, count=200, events=20)
    assert (report.received, report.misplaced) == (report.expected, 0)
    await assert_invariants(cluster, workload)


async def test_an_idle_worker_asks_twice_a_second_at_most_and_a_subscriber_never(cluster: Cluster, workload: Workload) -> None:
    """Includes the APIs' polls, of which there are none without subscribers."""
    idle_worker = cluster.launch_spare_worker(**DEFAULTS, **NO_MAINTENANCE)
    await cluster.wait_serving(idle_worker)

    async def all_is_told() -> bool:
        return not await cluster.rows("SELECT FROM outbox_events LIMIT 1")

    await eventually(all_is_told)  # a worker that is frozen while it tells of events leaves them to no other
    with cluster.freeze(*cluster.worker_pids()):
        await asyncio.sleep(0.5)
        # Statements at a worker's start do not count; the start may take longer on a busy machine.
        idle_rate = await statement_rate(cluster, 3)
        for _ in range(2):
            idle_rate = idle_rate if idle_rate <= 2 else await statement_rate(cluster, 3)
        await cluster.stop_worker(idle_worker)
        job = await workload.submit_script("nap 0.05")
        subscribers = [workload.subscribe(job) for _ in range(50)]

        async def all_follow() -> bool:
            return all(subscriber.sequences for subscriber in subscribers)

        await eventually(all_follow)
        await asyncio.sleep(0.5)
        followed_rate = await statement_rate(cluster, 1.5)
    assert 1 <= idle_rate <= 2
    assert followed_rate <= len(subscribers) / 5, (
        "each API looks once a second for all that are watched there, and now and then for something else"
    )
    await workload.wait_for_end()
    await workload.wait_for_subscribers()
    await assert_invariants(cluster, workload)
