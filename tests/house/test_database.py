"""The database is what the tables say, and every step of its history can be taken in both directions."""

from __future__ import annotations

import os
import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from db.core.work import Database
from db.migrations import configuration
from db.migrations.partitions import include_name
from db.settings import StateSettings
from db.tables import Table
from db.tables.jobstates import insert_guard_sql, transition_guard_sql

UNINDEXED = text("""
    SELECT c.conrelid::regclass::text AS "table", array_agg(a.attname ORDER BY k.ordinal) AS columns
    FROM pg_constraint c CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k(attnum, ordinal)
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
    WHERE c.contype = 'f' AND c.conparentid = 0
      AND NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL
        AND (i.indkey::int2[])[0:array_length(c.conkey, 1) - 1] = c.conkey)
    GROUP BY c.oid, c.conrelid
""")


CHECKS = text("""
    SELECT c.conrelid::regclass::text AS "table", c.conname AS name, pg_get_constraintdef(c.oid) AS definition
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
    WHERE c.contype = 'c' AND NOT t.relispartition AND t.relnamespace = current_schema()::regnamespace
    ORDER BY 1, 2
""")


async def test_every_foreign_key_has_an_index(database: Database) -> None:
    assert [tuple(row) for row in await database.rows(UNINDEXED)] == []


async def test_the_tables_in_code_and_in_the_database_are_the_same(database: Database) -> None:
    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True, "compare_server_default": True, "include_name": include_name}),
                Table.metadata,
            )
        )
    assert differences == []


async def test_every_check_of_the_code_is_in_the_database(database: Database) -> None:
    """Autogenerate compares no checks, so the tables are made a second time from the code, and what Postgres understood is compared."""
    migrated = [tuple(row) for row in await database.rows(CHECKS)]
    async with database.engine.connect() as connection:
        await connection.execute(text("CREATE SCHEMA shadow"))
        await connection.execute(text("SET LOCAL search_path TO shadow"))
        await connection.run_sync(Table.metadata.create_all, checkfirst=False)
        coded = [tuple(row) for row in await connection.execute(CHECKS)]
        await connection.rollback()
    assert migrated == coded
    assert len(coded) > 40


async def test_no_table_maps_a_relationship() -> None:
    assert [str(relationship) for mapper in Table.registry.mappers for relationship in mapper.relationships] == []


async def test_the_guard_in_the_database_is_the_table_of_transitions(database: Database) -> None:
    for name, rendered in (("trellis_guard_job", transition_guard_sql()), ("trellis_guard_new_job", insert_guard_sql())):
        live = await database.rows(text(f"SELECT pg_get_functiondef('{name}'::regproc)"))
        assert rendered.split("$$")[1].strip() in live[0][0]


def test_history_has_one_head() -> None:
    assert len(ScriptDirectory.from_config(configuration("")).get_heads()) == 1


async def test_every_revision_goes_up_down_and_up_again(settings: StateSettings, database: Database) -> None:
    name = settings.database_url.rsplit("/", 1)[1] + "_history"
    url = settings.database_url.rsplit("/", 1)[0] + f"/{name}"
    async with database.read() as connection:
        await connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    revisions = [script.revision for script in ScriptDirectory.from_config(configuration("")).walk_revisions()][::-1]
    # Alembic runs an event loop of its own, which needs a process (or a thread) of its own.
    steps = "\n".join(
        f"upgrade({url!r}, {revision!r}); downgrade({url!r}, {previous!r}); upgrade({url!r}, {revision!r})"
        for previous, revision in zip(["base", *revisions], revisions, strict=False)
    )
    code = f"from db.migrations import downgrade, upgrade\n{steps}\ndowngrade({url!r}, 'base')"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert completed.returncode == 0, completed.stderr
    async with Database.open(StateSettings(database_url=url)) as emptied:
        relations = await emptied.rows(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^alembic_version'")
        )
        functions = await emptied.rows(text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"))
    assert [*relations, *functions] == []
    async with database.read() as connection:
        await connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
