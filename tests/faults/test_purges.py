"""A purge outlives that its workers are killed: what is deleted is gone in the end, with its objects, and every count is true."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from tests.deletions.deleting import PURGE, delete
from tests.faults.cluster import Cluster
from tests.faults.invariants import assert_invariants
from tests.faults.workload import Workload

pytestmark = pytest.mark.exhaustive

VERSIONS, KILLS, SEED = 4_000, 6, 7
_ROWS = """
WITH versions AS (
  INSERT INTO dataset_versions (dataset_id, number, status, source, columns, ready_at)
  SELECT $1, i, 'ready', 'upload', '[{"name": "secret"}]', now() FROM generate_series(100, 99 + $2::int) i RETURNING id),
objects AS (
  INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
  SELECT d.owner_id, 'datasets/' || d.owner_id || '/' || d.id || '/' || v.id || '/raw', 1000, v.id FROM versions v, datasets d WHERE d.id = $1
  RETURNING id, owner_id, sha256)
INSERT INTO artifacts (owner_id, object_id, dataset_version_id, role, filename, content_type)
SELECT owner_id, id, sha256::uuid, 'RAW', 'a.csv', 'text/csv' FROM objects
"""


@pytest.mark.timeout(900)
async def test_a_purge_whose_workers_are_killed_ends(cluster: Cluster, workload: Workload) -> None:
    client = workload.viewers[0].client(0)
    dataset = await client.create_dataset("to be purged")
    key, chosen = UUID(dataset.partition("_")[2]), random.Random(SEED)
    used = "SELECT u.storage_bytes, u.id FROM users u JOIN datasets d ON d.owner_id = u.id WHERE d.id = $1"
    (before,) = await cluster.rows(used, key)
    await cluster.rows(_ROWS, key, VERSIONS)
    await delete(client, dataset)
    assert (await client.one(PURGE, id=dataset))["bytes"] == VERSIONS * 1_000
    for _ in range(KILLS):
        worker = await cluster.start_worker(TRELLIS_MAINTENANCE_PURGE_DELETED="0.1")
        await asyncio.sleep(chosen.uniform(0.1, 1.0))
        cluster.kill(worker)
    worker = await cluster.start_worker(TRELLIS_MAINTENANCE_PURGE_DELETED="0.1", TRELLIS_MAINTENANCE_REMOVE_UNREFERENCED="1")
    left = "SELECT 1 FROM deletions WHERE id = $1 UNION ALL SELECT 1 FROM stored_objects WHERE object_key LIKE '%' || $1::text || '%'"
    async with asyncio.timeout(300):
        while await cluster.rows(left, key):
            await asyncio.sleep(0.2)
    assert await cluster.rows("SELECT 1 FROM dataset_versions WHERE dataset_id = $1", key) == []
    assert await cluster.rows("SELECT 1 FROM datasets WHERE id = $1", key) == []
    (after,) = await cluster.rows("SELECT storage_bytes FROM users WHERE id = $1", before["id"])
    assert after["storage_bytes"] == before["storage_bytes"]
    await cluster.stop_worker(worker)
    await assert_invariants(cluster, workload)
