"""Jobs survive network faults of connections to PostgreSQL, Redis and S3, and S3's faults in transfers."""

from __future__ import annotations

import pytest

from tests.exhaustive import exhaustive
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import ALL_LINK_FAULTS, LINKS, SINGLE_LINK_FAULTS, FaultInjector
from tests.faults.invariants import assert_invariants
from tests.faults.proxy import CUT_OFFSET, Faults
from tests.faults.workload import MIXED_SCRIPTS, Workload


async def test_links_may_do_whatever_networks_do(cluster: Cluster, workload: Workload, fault_injector: FaultInjector) -> None:
    workers = cluster.worker_pids()
    async with workload.under_load(*MIXED_SCRIPTS) as jobs:
        injected = {kind: await getattr(fault_injector, kind)() for kind in ALL_LINK_FAULTS}
    assert injected == dict.fromkeys(ALL_LINK_FAULTS, True)
    await workload.wait_for_end(*jobs)
    await workload.wait_for_subscribers()
    await assert_invariants(cluster, workload)
    assert cluster.worker_pids() == workers


@pytest.mark.parametrize("link", [link if link == "redis" else exhaustive(link) for link in LINKS])
@pytest.mark.exhaustive
async def test_a_link_may_fall_silent_or_refuse_everybody(
    link: str, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    workers = cluster.worker_pids()
    async with workload.under_load(*MIXED_SCRIPTS) as jobs:
        injected = {kind: await getattr(fault_injector, kind)(link) for kind in SINGLE_LINK_FAULTS}
    assert injected == dict.fromkeys(SINGLE_LINK_FAULTS, True)
    await workload.wait_for_end(*jobs)
    await workload.wait_for_subscribers()
    await assert_invariants(cluster, workload)
    assert cluster.worker_pids() == workers


@pytest.mark.parametrize("fault", ["cut", exhaustive("lose")])
@pytest.mark.exhaustive
async def test_transfers_of_megabytes_may_be_broken_off(fault: str, cluster: Cluster, workload: Workload) -> None:
    """Viewers' uploads bypass the proxy: the faults hit the workers' copies, downloads and uploads."""
    uploaded = [await workload.upload(megabytes=4) for _ in range(2)]
    cluster.proxies.set_faults("s3", Faults(cut=0.4) if fault == "cut" else Faults(lose=0.4))
    try:
        jobs = [await workload.complete_upload(upload) for upload in uploaded]

        async def injected_in_transfer() -> bool:
            injections = cluster.proxies.injections("s3")
            if not await cluster.rows("SELECT 1 FROM jobs WHERE id = $1 AND completed_at IS NULL", jobs[-1].job):
                jobs.append(await workload.submit_ingest(megabytes=4))  # all earlier ones got through
            return injections[fault] >= 3 and (fault != "cut" or injections[CUT_OFFSET] > 100_000)

        async with workload.under_load(*MIXED_SCRIPTS) as small:
            await eventually(injected_in_transfer, 40.0, f"{fault} striking in the middle of a transfer")
    finally:
        cluster.proxies.set_faults("s3")
    assert set((await workload.wait_for_end(*jobs, *small)).values()) == {"completed"}
    await workload.wait_for_subscribers()
    await assert_invariants(cluster, workload)


@pytest.mark.exhaustive
async def test_a_store_that_is_away_for_long_costs_no_try(cluster: Cluster, workload: Workload) -> None:
    cluster.proxies.set_faults("s3", Faults(error=1.0))
    try:
        job = await workload.submit_script("nap 0.1")

        async def tried_often() -> bool:
            return (await workload.job(job))["attempt"] >= 3

        await eventually(tried_often, 60.0, "a third attempt")
    finally:
        cluster.proxies.set_faults("s3")
    assert await workload.wait_for_end(job) == {job.job: "completed"}
    assert (await workload.job(job))["tries"] == 0
    await assert_invariants(cluster, workload)
