"""Purges of 50,000 versions, killed again and again, leave no row but tombstones, no object, and no counter that is off."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import func, select, text

from db.services import maintenance
from db.services.maintenance import accounts as purging_accounts
from db.services.maintenance import deletions as purging_deletions
from db.tables import Artifact, Dataset, DatasetItem, DatasetVersion, Deletion, StoredObject, User
from tests.accounts.authenticator import SignIn
from tests.accounts.test_ending_accounts import delete as delete_account
from tests.accounts.test_ending_accounts import set_user
from tests.accounts.test_purging_accounts import owned
from tests.client import Client
from tests.deletions.deleting import PURGE, delete, listed
from tests.workers.worker_harness import run_maintenance

VERSIONS, OBJECTS, USED_EACH = 50_000, 1_000, 100  # one in so many versions has a job
SIZE = 2_000_000  # 100 GB, faked
pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1_800)]

_ROWS = """
SET LOCAL session_replication_role = replica;
INSERT INTO datasets (owner_id, name, modality, source, last_number) SELECT id, 'large', 'tabular', 'upload', :versions FROM users WHERE username = 'ada';
INSERT INTO dataset_versions (dataset_id, number, status, source, columns, size_bytes, ready_at)
SELECT d.id, i, 'ready', 'upload', '[{"name": "secret"}]', :size, now() FROM datasets d, generate_series(1, :versions) i WHERE d.name = 'large';
INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256, reference_count)
SELECT d.owner_id, 'datasets/' || d.owner_id || '/' || d.id || '/' || v.id || '/raw', :size, v.id, 1
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id;
INSERT INTO artifacts (owner_id, object_id, dataset_version_id, role, filename, content_type)
SELECT o.owner_id, o.id, o.sha256::uuid, 'RAW', 'a.csv', 'text/csv' FROM stored_objects o;
INSERT INTO dataset_items (version_id, key, size_bytes, sha256, content_type, has_issues, byte_offset, stored_size, storage, in_pack)
SELECT v.id, 'a', 1, 'a', 'image/png', false, 0, 1, 'stored', true FROM dataset_versions v;
INSERT INTO jobs (owner_id, dataset_id, dataset_version_id, kind, queue, status, completed_at)
SELECT d.owner_id, d.id, v.id, 'profile', 'upload', 'cancelled', now()
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id WHERE v.number % :used = 0;
"""


async def fill(context: maintenance.MaintenanceContext) -> None:
    values = {"versions": VERSIONS, "size": SIZE, "used": USED_EACH}
    async with context.database.engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(text("SET LOCAL transaction_timeout = 0"))
        for statement in filter(str.strip, _ROWS.split(";\n")):
            used = {name: value for name, value in values.items() if f":{name}" in statement}
            await connection.execute(text(statement), used)
    await run_maintenance(context, "reconcile_counters")
    for row in await context.database.rows(select(StoredObject.object_key).limit(OBJECTS)):
        await context.objects.write(row.object_key, b"x", "text/plain")


async def purge_under_kills(context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch, task: str, module: Any) -> int:
    """Run the task until it ends, killed after a random number of steps each time; return how often."""
    seed = random.randrange(1_000_000)
    print("seed", seed)
    choose, kills = random.Random(seed), 0
    names = [name for name in ("delete_in_batches", "empty_in_batches", "remove_unreferenced") if hasattr(module, name)]
    real = {name: getattr(module, name) for name in names}
    while True:
        left = choose.randint(1, 20 * (kills + 1))  # so that a run may reach the end

        def step(name: str) -> Any:
            async def run(*arguments: Any) -> int:
                nonlocal left
                changed = await real[name](*arguments)
                left -= 1
                if left == 0:
                    raise RuntimeError("killed")
                return changed

            return run

        with monkeypatch.context() as patched:
            for name in names:
                patched.setattr(module, name, step(name))
            result = await maintenance.run_task(context, task, "test")
        assert result is not None
        if result.error is None:
            return kills
        assert result.error == "RuntimeError: killed"
        kills += 1


async def test_an_account(ada: Client, sign_in: SignIn, context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    database = context.database
    await fill(context)
    owner = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    await delete_account(await sign_in("ada"))
    await set_user(database, "ada", deleted_at=text("now() - interval '31 days'"))
    print("kills", await purge_under_kills(context, monkeypatch, "purge_accounts", purging_accounts))
    left = await owned(database, owner)
    assert left == dict.fromkeys(left, 0)
    assert [each async for each in context.objects.list(f"datasets/{owner}/")] == []
    (user,) = await database.rows(select(User.storage_bytes, User.purged_at).where(User.id == owner))
    assert user.storage_bytes == 0
    assert user.purged_at is not None
    assert (await run_maintenance(context, "reconcile_counters")).changed == 0


async def test_a_dataset(ada: Client, context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    database = context.database
    await fill(context)
    owner = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    (dataset,) = (await listed(ada))["datasets"]
    await delete(ada, dataset)
    assert (await ada.one(PURGE, id=dataset))["bytes"] == VERSIONS * SIZE
    print("kills", await purge_under_kills(context, monkeypatch, "purge_deleted", purging_deletions))
    counts = [
        (await database.rows(select(func.count()).select_from(table)))[0][0]
        for table in (Deletion, StoredObject, Artifact, DatasetItem, DatasetVersion, Dataset)
    ]
    assert counts == [0, 0, 0, 0, VERSIONS // USED_EACH, 1]
    (contents,) = await database.rows(
        text("SELECT count(*) FROM dataset_versions WHERE columns <> '[]' OR purged_at IS NULL OR deleted_at IS NULL")
    )
    assert contents[0] == 0
    assert [each async for each in context.objects.list(f"datasets/{owner}/")] == []
    assert (await ada.one("{ viewer { storage { usedBytes } } }"))["storage"]["usedBytes"] == 0
    assert (await run_maintenance(context, "reconcile_counters")).changed == 0
