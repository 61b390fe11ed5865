"""Thirty days after an account was deleted, all of it is removed but an empty row, its ledger and the audit, wherever the purge is killed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from db.core.base import Table
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import maintenance
from db.services.maintenance import accounts as purging
from db.services.maintenance.objects import PREFIXES
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import CreditTransaction, Dataset, Job, User
from tests.accounts.authenticator import SignIn
from tests.accounts.test_ending_accounts import REFUSED, delete, restore, set_user
from tests.accounts.test_teams import create_team
from tests.client import Client
from tests.factories.platform import add_states, fill
from tests.ownership import owner_condition
from tests.workers.worker_harness import run_maintenance

KEPT = {
    "users",
    "credit_packages",
    "credit_transactions",
    "audit_events",
}  # packages are the platform's, and factories' alone are of a person


@pytest.fixture
async def context(clean: None, database: Database, settings: StateSettings) -> AsyncGenerator[maintenance.MaintenanceContext]:
    async with ObjectStore.open(settings) as objects:
        yield maintenance.MaintenanceContext(database, objects, settings)


async def purge(context: maintenance.MaintenanceContext) -> maintenance.MaintenanceResult:
    result = await run_maintenance(context, "purge_accounts")
    assert result.error is None
    return result


async def user_id(database: Database, name: str) -> UUID:
    return (await database.rows(select(User.id).where(User.username == name)))[0].id


async def owned(database: Database, owner: UUID) -> dict[str, int]:
    """How many rows of each table are of this user, without those that stay."""
    counts: dict[str, int] = {}
    for name, table in Table.metadata.tables.items():
        condition = owner_condition(table, owner)
        if condition is not None and name not in KEPT:
            counts[name] = (await database.rows(select(func.count()).select_from(table).where(condition)))[0][0]
    return counts


async def objects_of(context: maintenance.MaintenanceContext, owner: UUID) -> list[str]:
    return [listed.key async for listed in context.objects.list("") if str(owner) in listed.key]


# Ends the jobs of all, has the ledger refer to Ada's first one, which failed, and makes Bob an ADMIN of Ada's team.
_HISTORY = """
SET LOCAL session_replication_role = replica;
UPDATE jobs SET status = 'cancelled', completed_at = now(), lease_until = NULL WHERE status IN ('pending', 'queued', 'running', 'cancelling');
UPDATE jobs SET status = 'failed', parameters = '{"a": 1}', error = '{"code": "INTERNAL", "message": "of ada"}', current_step = 'train'
WHERE id = (SELECT j.id FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = 'ada' AND j.dataset_id IS NOT NULL ORDER BY j.id LIMIT 1);
INSERT INTO credit_transactions (owner_id, sequence, kind, amount, held, balance_after, held_after, job_id)
SELECT owner_id, 100 + n, (ARRAY['hold', 'release'])[n], (ARRAY[-1, 1])[n], (ARRAY[1, -1])[n], 0, 0, id
FROM jobs, generate_series(1, 2) n WHERE error ->> 'message' = 'of ada';
INSERT INTO memberships (team_id, user_id, role) SELECT t.id, u.id, 'admin' FROM users t, users u WHERE t.username = 'ada-team' AND u.username = 'bob'
"""


async def _fill(context: maintenance.MaintenanceContext) -> None:
    """Give Ada and Bob rows of every table, and objects under every prefix."""
    for name in ("ada", "bob"):
        await fill(context.database, name, 2)
        await add_states(context.database, name)
        owner = await user_id(context.database, name)
        for prefix in PREFIXES:
            await context.objects.write(f"{prefix}{owner}/{prefix}object", b"x", "text/plain")
    async with context.database.engine.begin() as connection:
        for statement in _HISTORY.split(";\n"):
            await connection.exec_driver_sql(statement)


async def _delete_long_ago(session: Client, database: Database) -> None:
    await delete(session)
    await set_user(database, "ada", deleted_at=text("now() - interval '30 days'"))


@pytest.mark.exhaustive
async def test_nothing_is_left_of_a_purged_account_wherever_the_purge_is_killed(
    ada: Client,
    bob: Client,
    sign_in: SignIn,
    context: maintenance.MaintenanceContext,
    anonymous: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database, session = context.database, await sign_in("ada")
    await _fill(context)
    owner, other = await user_id(database, "ada"), await user_id(database, "bob")
    before, others_objects = await owned(database, other), await objects_of(context, other)
    full = await owned(database, owner)
    assert [name for name, count in full.items() if not count and name not in {"staged_points", "audit_events"}] == []
    await _delete_long_ago(session, database)

    # Each run is killed some steps later than the one before, right after a step was committed.
    delete_in_batches, steps = purging.delete_in_batches, 1

    async def die_after(allowed: int) -> bool:
        taken = 0

        async def step(*arguments: Any) -> int:
            nonlocal taken
            deleted = await delete_in_batches(*arguments)
            taken += 1
            if taken == allowed:
                raise RuntimeError("killed")
            return deleted

        monkeypatch.setattr(purging, "delete_in_batches", step)
        result = await maintenance.run_task(context, "purge_accounts", "test")
        assert result is not None
        assert result.error in {None, "RuntimeError: killed"}
        return result.error is not None

    while await die_after(steps):
        steps += 4
        assert (await database.rows(select(User.purged_at).where(User.id == owner)))[0].purged_at is None
    assert await restore(anonymous) == REFUSED
    assert steps > 30
    assert await owned(database, owner) == dict.fromkeys(full, 0) | {"jobs": 1}
    assert await objects_of(context, owner) == []
    (user,) = await database.rows(select(User.__table__).where(User.id == owner))
    assert (user.email, user.username, user.full_name, user.password_hash, user.totp_secret) == ("purged", "purged", None, None, None)
    assert user.storage_bytes == 0
    assert user.purged_at is not None
    (job,) = await database.rows(select(Job.__table__).where(Job.owner_id == owner))
    assert (job.status.name, job.parameters, job.error["code"], job.current_step) == ("FAILED", {}, "PURGED", None)
    assert {job.dataset_id, job.dataset_version_id, job.pipeline_id, job.snapshot_id} == {None}
    ledger = select(func.count()).where(CreditTransaction.owner_id == owner)
    assert (await database.rows(ledger))[0][0] == 6, "the ledger stays"

    after = await owned(database, other)
    assert after == before, "nothing else has changed"
    assert await objects_of(context, other) == others_objects
    assert (await purge(context)).changed == 0
    await run_maintenance(context, "reconcile_counters")
    assert (await owned(database, owner))["user_counters"] == 0, "the job that the ledger refers to is not counted"


@pytest.mark.exhaustive
async def test_nothing_is_left_of_a_purged_team_but_its_members(
    ada: Client, sign_in: SignIn, context: maintenance.MaintenanceContext
) -> None:
    database, session = context.database, await sign_in("ada")
    team = UUID((await create_team(session, "bearings"))["team"]["id"][5:])
    wine = UUID((await ada.create_dataset("wine"))[8:])
    async with database.work(SYSTEM) as work:
        await work.run(update(Dataset).where(Dataset.id == wine).values(owner_id=team))
    await context.objects.write(f"{PREFIXES[0]}{team}/object", b"x", "text/plain")
    before = await owned(database, await user_id(database, "ada"))
    assert (await owned(database, team))["datasets"] == 1
    assert (await session.one("mutation($id: ID!) { deleteTeam(input: {id: $id}) { __typename } }", id=f"user_{team.hex}"))[
        "__typename"
    ] == "DeleteTeamPayload"
    await set_user(database, "bearings", deleted_at=text("now() - interval '30 days'"))
    await purge(context)
    counts = await owned(database, team)
    assert {name: count for name, count in counts.items() if count} == {}
    assert await objects_of(context, team) == []
    (row,) = await database.rows(select(User.username, User.full_name, User.purged_at).where(User.id == team))
    assert (row.username, row.full_name, row.purged_at is not None) == ("purged", None, True)
    assert await owned(database, await user_id(database, "ada")) == before | {"memberships": 0}, "its maker keeps what is theirs"
    assert (await create_team(session, "bearings"))["__typename"] == "CreateTeamPayload"
    assert await database.rows(text("SELECT 1 FROM memberships WHERE team_id = :team").bindparams(team=team)) == []


async def test_an_account_is_not_purged_before_its_time(
    ada: Client, bob: Client, sign_in: SignIn, context: maintenance.MaintenanceContext, anonymous: Client
) -> None:
    database = context.database
    await ada.create_dataset("wine")
    await delete(await sign_in("ada"))
    await set_user(database, "ada", deleted_at=text("now() - interval '29 days 23 hours'"))
    await set_user(database, "bob", created_at=text("now() - interval '1 year'"))
    assert (await purge(context)).changed == 0
    assert (await restore(anonymous))["viewer"]["username"] == "ada"


async def test_an_account_is_not_purged_while_a_row_is_left(
    ada: Client, sign_in: SignIn, context: maintenance.MaintenanceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that another transaction holds are left out, here for longer than a purge waits."""
    database, session = context.database, await sign_in("ada")
    await ada.create_dataset("wine")
    owner = await user_id(database, "ada")
    await _delete_long_ago(session, database)
    monkeypatch.setattr(purging, "ATTEMPTS", 2)
    async with database.engine.begin() as connection:
        for timeout in ("idle_in_transaction_session_timeout", "transaction_timeout"):  # a purge may take longer on a busy machine
            await connection.execute(text(f"SET LOCAL {timeout} = 0"))
        await connection.execute(text("SELECT FROM user_counters WHERE owner_id = :owner FOR UPDATE"), {"owner": owner})
        await purge(context)
        assert (await owned(database, owner))["user_counters"] > 0
        assert (await database.rows(select(User.purged_at).where(User.id == owner)))[0].purged_at is None
    await purge(context)
    assert set((await owned(database, owner)).values()) == {0}
    assert (await database.rows(select(User.purged_at).where(User.id == owner)))[0].purged_at is not None


async def test_a_purge_waits_for_jobs(ada: Client, sign_in: SignIn, context: maintenance.MaintenanceContext) -> None:
    database, session = context.database, await sign_in("ada")
    await fill(database, "ada", 1)
    await _delete_long_ago(session, database)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        await connection.exec_driver_sql("UPDATE jobs SET status = 'pending', completed_at = NULL")
    owner, kept = await user_id(database, "ada"), ("datasets", "dataset_versions", "pipelines", "models", "experiments", "jobs")
    before = await owned(database, owner)
    assert (await purge(context)).changed == 0
    after = await owned(database, owner)
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


@pytest.mark.parametrize("change", ["progress = 5", "status = 'cancelled'", "parameters = '{\"b\": 2}'", "dataset_id = NULL"])
async def test_an_ended_job_can_only_be_emptied_as_a_whole(change: str, ada: Client, context: maintenance.MaintenanceContext) -> None:
    await fill(context.database, "ada", 1)
    with pytest.raises(Exception, match="is completed and final"):
        async with context.database.engine.begin() as connection:
            await connection.exec_driver_sql(f"UPDATE jobs SET {change}")
