"""What a deletion of a row does to the rows that refer to it: each foreign key has one of three rules, and the database keeps it."""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from db.core.work import Database
from db.tables import Run, Table, User
from tests.client import Client
from tests.factories import platform
from tests.ownership import owner_condition

PARTS: dict[str, str] = {
    "credit_budgets": "credit_budget_jobs.budget_id",
    "credit_purchases": "payment_events.purchase_id",
    "dataset_versions": "artifacts.dataset_version_id dataset_items.version_id dataset_profiles.version_id schema_proposals.version_id uploads.version_id",
    "datasets": "import_schedules.dataset_id model_datasets.dataset_id pipeline_inputs.dataset_id schema_proposals.dataset_id taggings.dataset_id",
    "email_messages": "digest_items.message_id",
    "experiments": "credit_budgets.experiment_id taggings.experiment_id",
    "explanations": "artifacts.explanation_id",
    "exports": "artifacts.export_id",
    "invitations": "email_messages.invitation_id oauth_flows.invitation_id registrations.invitation_id",
    "jobs": "credit_budget_jobs.job_id job_attempts.job_id job_checkpoints.job_id job_documents.job_id job_events.job_id job_inputs.job_id"
    " job_nodes.job_id job_outputs.job_id",
    "model_versions": "artifacts.model_version_id",
    "models": "model_datasets.model_id taggings.model_id",
    "pipelines": "pipeline_inputs.pipeline_id taggings.pipeline_id",
    "registrations": "email_messages.registration_id",
    "runs": "artifact_uploads.run_id logged_models.run_id metric_points.run_id run_inputs.run_id run_metrics.run_id run_parameters.run_id taggings.run_id",
    "sessions": "oauth_flows.session_id passkey_challenges.session_id",
    "studies": "study_events.study_id taggings.study_id trial_rungs.study_id",
    "tags": "taggings.tag_id",
    "trials": "study_events.trial_id trial_rungs.trial_id",
    "tutorials": "tutorial_progress.tutorial_id",
    "webhook_endpoints": "webhook_deliveries.endpoint_id",
}
"""CASCADE: what is private to a row and goes with it. What goes with an account is not listed: its purge finds it by its key."""

NOTES: dict[str, str] = {
    "account_tokens": "email_messages.token_id",
    "artifacts": "artifact_uploads.artifact_id",
    "dataset_items": "explanations.item_id",
    "jobs": "dataset_versions.produced_by_id import_schedules.last_job_id schema_proposals.job_id uploads.job_id",
    "pipelines": "pipeline_snapshots.pipeline_id",
    "runs": "artifacts.run_id explanations.run_id model_versions.run_id runs.original_run_id runs.parent_run_id",
    "sessions": "email_messages.session_id",
    "users": "model_alias_events.set_by_id",
    "workers": "job_attempts.worker_id",
}
"""SET NULL: what only notes where it came from, and is whole without it. All other keys but those to accounts are RESTRICT: lineage, and stored objects."""

_KEYS = """
SELECT c.conname AS name, c.conrelid::regclass::text AS child, a.attname AS column, c.confrelid::regclass::text AS parent, c.confdeltype::text AS rule,
  c.conenforced AS enforced
FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
JOIN pg_class t ON t.oid = c.conrelid WHERE c.contype = 'f' AND c.conparentid = 0 AND NOT t.relispartition
AND c.connamespace = 'public'::regnamespace ORDER BY child, a.attname
"""


class Key(NamedTuple):
    name: str
    child: str
    column: str
    parent: str
    rule: str
    enforced: bool
    """Whether PostgreSQL keeps it; else triggers of its name do."""


async def keys_of(database: Database) -> list[Key]:
    return [Key(*row) for row in await database.rows(text(_KEYS))]


async def test_every_foreign_key_has_the_rule_of_what_it_means(database: Database) -> None:
    keys = await keys_of(database)
    declared = {
        (parent, key): rule for rules, rule in ((PARTS, "c"), (NOTES, "n")) for parent, names in rules.items() for key in names.split()
    }
    catalogued = {(key.parent, f"{key.child}.{key.column}"): key.rule for key in keys}
    assert {key: rule for key, rule in catalogued.items() if rule in "cn" and (key[0] != "users" or rule == "n")} == declared
    assert {rule for key, rule in catalogued.items() if key[0] != "users" and key not in declared} == {"r"}
    by_code = {
        (key.column.table.name, f"{table.name}.{key.parent.name}") for table in Table.metadata.sorted_tables for key in table.foreign_keys
    }
    assert catalogued.keys() == by_code


@pytest.mark.exhaustive
async def test_a_deletion_does_by_each_key_what_its_rule_says(ada: Client, database: Database) -> None:
    """Each key alone: in a transaction that is rolled back, the other keys to the same table are dropped and its triggers disabled."""
    await platform.fill(database, "ada", 1)
    await platform.add_states(database, "ada")
    keys = await keys_of(database)
    tried: dict[str, int] = dict.fromkeys("acnr", 0)
    for key in keys:
        for attempts_left in reversed(range(10)):
            try:
                tried[key.rule] += await follows_rule(database, key, keys)
                break
            except DBAPIError as error:  # what the API and its workers read meanwhile locks the same tables in another order
                if "deadlock detected" not in str(error) or not attempts_left:
                    raise
    assert min(tried["c"], tried["n"], tried["r"]) > 5, tried


async def follows_rule(database: Database, key: Key, keys: list[Key]) -> bool:
    """Delete a row that another one refers to by the key, and take it back; return whether there was one. Fails unless the rule was followed."""
    async with database.engine.connect() as connection:
        await connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        where = f'"{key.child}"."{key.column}" IS NOT NULL'
        row = (await connection.execute(text(f"SELECT {key.column} FROM {key.child} WHERE {where} LIMIT 1"))).first()
        if row is None:
            return False
        for other in keys:
            if other.parent == key.parent and other.name != key.name:
                await connection.execute(text(f'ALTER TABLE {other.child} DROP CONSTRAINT "{other.name}"'))
        for table in {key.parent, key.child}:
            await connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            if not key.enforced:
                await connection.execute(text(f'ALTER TABLE {table} ENABLE TRIGGER "{key.name}"'))
        count = text(f"SELECT count(*) FROM {key.child} WHERE {key.column} = :id")
        total = text(f"SELECT count(*) FROM {key.child}")
        before, all_before = await connection.scalar(count, {"id": row[0]}), await connection.scalar(total)
        deletion = text(f"DELETE FROM {key.parent} WHERE id = :id")
        refused = False
        try:
            async with connection.begin_nested():
                await connection.execute(deletion, {"id": row[0]})
        except DBAPIError as error:
            if key.name not in str(error):
                raise
            refused = True
        after, all_after = await connection.scalar(count, {"id": row[0]}), await connection.scalar(total)
        own = int(key.parent == key.child)  # the deleted row itself
        expected = {
            "c": (False, 0, all_before - before),
            "n": (False, 0, all_before - own),
            "r": (True, before, all_before),
            "a": (True, before, all_before),
        }[key.rule]
        assert (refused, after, all_after) == expected, key
        await connection.rollback()
        return True


async def test_what_belongs_to_something_has_its_owner(ada: Client, bob: Client, database: Database) -> None:
    """No row of an account refers to a row of another, by any key."""
    for name in ("ada", "bob"):
        await platform.fill(database, name, 2)
        await platform.add_states(database, name)
    assert await foreign_references(database, "ada") == []


async def foreign_references(database: Database, name: str) -> list[str]:
    owner = (await database.rows(select(User.id).where(User.username == name)))[0].id
    wrong: list[str] = []
    for table in Table.metadata.sorted_tables:
        of_owner = owner_condition(table, owner)
        for key in table.foreign_keys:
            parent = key.column.table
            of_parent = owner_condition(parent, owner)
            if of_owner is None or of_parent is None or parent.name == "users":
                continue
            of_others = key.parent.not_in(select(key.column).where(of_parent).correlate(None))
            statement = select(func.count()).select_from(table).where(of_owner, key.parent.is_not(None), of_others)
            if count := (await database.rows(statement))[0][0]:
                wrong.append(f"{count} rows of {table.name}.{key.parent.name} refer to {parent.name} of others")
    return wrong


@pytest.mark.exhaustive
async def test_what_the_api_makes_belongs_to_the_owner_of_what_it_is_made_of(ada: Client, database: Database, worker: object) -> None:
    await platform.tell_story(ada)
    assert await foreign_references(database, "ada") == []


async def test_points_belong_to_runs_that_exist_also_while_these_are_deleted(ada: Client, database: Database) -> None:
    """Their key is checked once a statement, by triggers."""
    await platform.fill(database, "ada", 2)
    (kept, dropped) = [row.id for row in await database.rows(select(Run.id).order_by(Run.id).limit(2))]
    insert = text("INSERT INTO metric_points (run_id, key, step, value, batch) SELECT unnest(CAST(:ids AS uuid[])), 'new', 1, 0.5, 1")
    points = text("SELECT count(*) FROM metric_points WHERE key = 'new' OR run_id = :dropped")
    async with database.engine.connect() as connection, database.engine.connect() as other:
        with pytest.raises(DBAPIError, match="fk_metric_points_run_id"):
            await connection.execute(insert, {"ids": [kept, uuid4()]})
        await connection.rollback()
        await connection.execute(insert, {"ids": [kept, dropped]})
        await connection.commit()
        await connection.execute(text("DELETE FROM trials WHERE run_id = :dropped"), {"dropped": dropped})
        await connection.execute(text("DELETE FROM runs WHERE id = :dropped"), {"dropped": dropped})
        inserting = asyncio.create_task(other.execute(insert, {"ids": [dropped]}))  # waits for the deletion
        await asyncio.wait([inserting], timeout=0.5)
        assert not inserting.done()
        await connection.commit()
        with pytest.raises(DBAPIError, match="fk_metric_points_run_id"):
            await inserting
        await other.rollback()
        assert await other.scalar(points, {"dropped": dropped}) == 1, "the new point of the run that was kept"
