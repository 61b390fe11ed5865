"""Jobs of every kind survive that a body is killed which has done all its work, and that its worker is, before anything is settled."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.exhaustive import exhaustive
from tests.faults.bodies import HOLD
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import assert_invariants, find_violations
from tests.faults.product_jobs import KINDS, ProductJobs, files_server
from tests.faults.workload import Workload

CHEAP = ("propose_schema", "generate")
KILLED = [("body", CHEAP), exhaustive("worker", CHEAP), *(exhaustive(what, KINDS) for what in ("body", "worker"))]


@pytest.fixture(scope="module")
def product_jobs(workload: Workload) -> Generator[ProductJobs]:
    with files_server() as url:
        yield ProductJobs(workload, url)


@pytest.mark.parametrize(("what", "kinds"), KILLED, ids=lambda value: value if isinstance(value, str) else str(len(value)))
async def test_no_kind_is_lost_or_done_twice(
    what: str, kinds: tuple[str, ...], cluster: Cluster, workload: Workload, fault_injector: FaultInjector, product_jobs: ProductJobs
) -> None:
    if kinds is KINDS:
        await product_jobs.prepare()
    hold = Path(cluster.traces, HOLD)
    hold.touch()
    try:
        jobs = [await getattr(product_jobs, kind)() for kind in kinds]
        ids = [job.job for job in jobs]

        async def all_struck() -> bool:
            await (fault_injector.kill_held(*ids) if what == "body" else fault_injector.kill_workers_of(*ids))
            rows = await cluster.rows("SELECT count(*) FROM jobs WHERE id = ANY($1) AND attempt > 1", ids)
            return rows[0]["count"] == len(ids)

        await eventually(all_struck, 180.0, f"a kill of the {what} of each of {', '.join(kinds)}")
    finally:
        hold.unlink()
    assert set((await workload.wait_for_end(*jobs, within=180.0)).values()) == {"completed"}
    for job in jobs:
        row = await workload.job(job)
        assert (row["attempt"] > 1, row["tries"] > 0) == (True, what == "body"), job.script
    await assert_invariants(cluster, workload)
    await cluster.collect_orphans()
    left = (await find_violations(cluster, workload, later=True))["11 no object is unreferenced"]
    assert not left, "what the killed attempts had stored is gone"
