"""The clusters of these tests. Starting one takes long, so the modules of a group share one; groups run in parallel."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import product_jobs
from tests.faults.cluster import QUICK_SETTINGS, ROOT, Cluster
from tests.faults.fault_injection import FaultInjector
from tests.faults.workload import NAMES, Workload
from tests.xdist_groups import GROUPS

SEED = 7
SCRIPTS = ("nap 0.05", "nap 0.1", "nap 0.2", "nap 0.3", "nap 0.5", "linger 0.6 0.1", "nap 600")


@dataclass(frozen=True)
class ClusterKind:
    """Settings of a cluster with two APIs and two workers, and whether `trellis up` runs one of each.

    In `make test` none does: such a start takes as long as half of the tests.
    """

    settings: Mapping[str, str]
    has_up: bool


CLUSTER_KINDS: Mapping[str, ClusterKind] = {
    "faults": ClusterKind(product_jobs.SETTINGS, has_up=True),
    "numbers": ClusterKind({"TRELLIS_WORKER_CANCEL_GRACE": "2", "TRELLIS_SOCKETS_PER_VIEWER": "1000"}, has_up=False),
}


@asynccontextmanager
async def _running_workload(folder: Path, kind: ClusterKind, *, is_exhaustive: bool) -> AsyncGenerator[Workload]:
    has_up = kind.has_up and is_exhaustive
    with Cluster(folder, SEED, {**QUICK_SETTINGS, **kind.settings}) as cluster:
        workload = Workload(cluster, random.Random(SEED))
        async with asyncio.TaskGroup() as tasks:
            if has_up:
                tasks.create_task(cluster.start_up(1))  # it waits for the schema itself, and viewers are created without it
            await cluster.connect()
            apis = [cluster.start_api() for _ in range(2 - has_up)]
            workers = [cluster.start_worker() for _ in range(2 - has_up)]
            await asyncio.gather(*apis, *workers)
            await workload.create_viewers(NAMES[:2])
            await workload.create_pipelines(list(SCRIPTS))
        yield workload
        await workload.close()
        await cluster.pool.close()


@pytest.fixture(scope="session")
async def workload_of_group(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Callable[[str], Awaitable[Workload]]]:
    """The workload on the cluster of a group."""
    workloads: dict[str, Workload] = {}
    is_exhaustive = "not exhaustive" not in pytestconfig.option.markexpr
    async with AsyncExitStack() as stack:

        async def workload_of(group: str) -> Workload:
            if group not in workloads:
                workloads[group] = await stack.enter_async_context(
                    _running_workload(tmp_path_factory.mktemp(group), CLUSTER_KINDS[group], is_exhaustive=is_exhaustive)
                )
            return workloads[group]

        yield workload_of


@pytest.fixture(scope="module")
async def workload(request: pytest.FixtureRequest, workload_of_group: Callable[[str], Awaitable[Workload]]) -> Workload:
    """The workload of the module's group."""
    return await workload_of_group(GROUPS[request.path.relative_to(ROOT).as_posix()])


@pytest.fixture(scope="module")
def cluster(workload: Workload) -> Cluster:
    return workload.cluster


@pytest.fixture
def fault_injector(cluster: Cluster, workload: Workload) -> FaultInjector:
    return FaultInjector(cluster, workload, random.Random(SEED))
