"""The clusters of these tests. Starting one takes long, so modules share one: in `make test` all of them, in `make test-all` those of a kind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import product_jobs
from tests.faults.cluster import QUICK_SETTINGS, Cluster
from tests.faults.fault_injection import FaultInjector
from tests.faults.workload import NAMES, Workload

SEED = 7
SCRIPTS = ("nap 0.05", "nap 0.1", "nap 0.2", "nap 0.3", "nap 0.5", "linger 0.6 0.1", "nap 600")


@dataclass(frozen=True)
class ClusterKind:
    """Settings of a cluster with two APIs and two workers, and whether `trellis up` runs one of each."""

    settings: Mapping[str, str]
    has_up: bool


UNLIMITED = {"TRELLIS_SOCKETS_PER_VIEWER": "1000", "TRELLIS_RATE_LIMIT_FREE": "0"}  # few viewers do what thousands do
CLUSTER_KINDS: Mapping[str, ClusterKind] = {
    "faults": ClusterKind({**product_jobs.SETTINGS, **UNLIMITED}, has_up=True),
    "numbers": ClusterKind({"TRELLIS_WORKER_CANCEL_GRACE": "2", **UNLIMITED}, has_up=False),
    "quick": ClusterKind({**product_jobs.SETTINGS, **UNLIMITED}, has_up=False),
    "damaged": ClusterKind(UNLIMITED, has_up=False),
}
NUMBERS = {"test_bodies", "test_network_faults", "test_performance_targets"}


@asynccontextmanager
async def _running_workload(folder: Path, kind: ClusterKind) -> AsyncGenerator[Workload]:
    with Cluster(folder, SEED, {**QUICK_SETTINGS, **kind.settings}) as cluster:
        workload = Workload(cluster, random.Random(SEED))
        async with asyncio.TaskGroup() as tasks:
            if kind.has_up:
                tasks.create_task(cluster.start_up(1))  # it waits for the schema itself, and viewers are created without it
            await cluster.connect()
            apis = [cluster.start_api() for _ in range(2 - kind.has_up)]
            workers = [cluster.start_worker() for _ in range(2 - kind.has_up)]
            await asyncio.gather(*apis, *workers)
            await workload.create_viewers(NAMES[:2])
            await workload.create_pipelines(list(SCRIPTS))
        yield workload
        await workload.close()
        await cluster.pool.close()


@pytest.fixture(scope="session")
async def workload_of_kind(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Callable[[str], Awaitable[Workload]]]:
    """The workload on the cluster of a kind."""
    workloads: dict[str, Workload] = {}
    async with AsyncExitStack() as stack:

        async def workload_of(kind: str) -> Workload:
            if kind not in workloads:
                workloads[kind] = await stack.enter_async_context(_running_workload(tmp_path_factory.mktemp(kind), CLUSTER_KINDS[kind]))
            return workloads[kind]

        yield workload_of


@pytest.fixture(scope="module")
async def workload(request: pytest.FixtureRequest, workload_of_kind: Callable[[str], Awaitable[Workload]]) -> Workload:
    """The workload of the module, on a cluster that it shares."""
    if "not exhaustive" in request.config.option.markexpr:
        return await workload_of_kind("quick")
    if request.path.stem == "test_harness":
        return await workload_of_kind("damaged")
    return await workload_of_kind("numbers" if request.path.stem in NUMBERS else "faults")


@pytest.fixture(scope="module")
def cluster(workload: Workload) -> Cluster:
    return workload.cluster


@pytest.fixture
def fault_injector(cluster: Cluster, workload: Workload) -> FaultInjector:
    return FaultInjector(cluster, workload, random.Random(SEED))
