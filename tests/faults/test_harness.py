"""Without a protection of the engine, the harness finds what breaks. What these tests break stays, so they have a cluster of their own."""

from __future__ import annotations

import pytest

from tests.faults import hooks
from tests.faults.cluster import Cluster
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import find_violations
from tests.faults.workload import Workload

pytestmark = pytest.mark.exhaustive


async def test_without_deadlines_the_harness_finds_two_at_once(cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    """A body that outlives the lease of its frozen worker overlaps with the next attempt."""
    worker = await cluster.start_worker(**{hooks.NO_DEADLINE: "1"})
    before = await find_violations(cluster, workload)
    job = await fault_injector.late_result(worker.pid, "linger 600 0.2")
    assert await workload.wait_for_end(job) == {job.job: "completed"}
    after = await find_violations(cluster, workload)
    assert {name: rows for name, rows in after.items() if rows != before[name]} == {"6  executions of a job never overlap": [job.job]}
    await cluster.stop_worker(worker)


async def test_without_the_fence_the_harness_finds_what_is_broken(
    cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    """The result of an attempt that is over is taken."""
    worker = await cluster.start_worker(**{hooks.NO_FENCE: "1"})
    before = await find_violations(cluster, workload)
    job = await fault_injector.late_result(worker.pid)
    await workload.wait_for_end(job)
    after = await find_violations(cluster, workload)
    assert {name: rows for name, rows in after.items() if rows != before[name]} == {"2  made by the attempt that the row names": [job.job]}
