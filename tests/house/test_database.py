"""The migrated database matches the tables, and every migration runs in both directions."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncGenerator, Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.core.viewer import ROLE_SCOPES, SYSTEM, AccountKind, UserRole, UserTier
from db.core.work import Database
from db.migrations import configuration, downgrade, revisions, upgrade
from db.migrations.enums import change_enum
from db.migrations.functions import newest_functions
from db.migrations.partitions import include_name
from db.queries import accounts
from db.queries.accounts import counts_by_user, viewer_of_token
from db.settings import StateSettings
from db.tables import Table
from db.tables.experiments import run_follows_job_sql
from db.tables.jobstates import insert_guard_sql, transition_guard_sql
from tests.template_database import create_database

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
    """Autogenerate does not compare CHECK constraints.

    So the tables are also created from the code, and PostgreSQL's renderings of the constraints are compared.
    """
    migrated = [tuple(row) for row in await database.rows(CHECKS)]
    async with database.engine.connect() as connection:
        await connection.execute(text("SET LOCAL transaction_timeout = 0"))  # on a busy machine, so many tables take longer
        await connection.execute(text("CREATE SCHEMA shadow"))
        await connection.execute(text("SET LOCAL search_path TO shadow, public"))
        await connection.run_sync(Table.metadata.create_all, checkfirst=False)
        coded = [tuple(row) for row in await connection.execute(CHECKS)]
        await connection.rollback()
    assert migrated == coded
    assert len(coded) > 40


async def test_no_table_maps_a_relationship() -> None:
    assert [str(relationship) for mapper in Table.registry.mappers for relationship in mapper.relationships] == []


async def test_every_function_in_the_database_is_its_newest_file(database: Database) -> None:
    of_no_extension = "NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')"
    functions = f"SELECT proname, prosrc FROM pg_proc p WHERE pronamespace = current_schema()::regnamespace AND {of_no_extension}"
    rows = await database.rows(text(functions))
    assert {row.proname: row.prosrc for row in rows} == {name: sql.split("$$")[1] for name, sql in newest_functions().items()}
    assert [name for name, sql in newest_functions().items() if f"CREATE OR REPLACE FUNCTION {name}(" not in sql] == []


def test_the_functions_that_are_rendered_are_their_newest_files() -> None:
    rendered = {
        "trellis_guard_job": transition_guard_sql(),
        "trellis_guard_new_job": insert_guard_sql(),
        "trellis_run_follows_job": run_follows_job_sql(),
    }
    assert rendered == {name: newest_functions()[name] for name in rendered}


async def test_the_values_of_an_enum_change_in_one_line(clean: None, database: Database) -> None:
    async with database.engine.connect() as connection:
        await connection.run_sync(
            lambda sync: change_enum(Operations(MigrationContext.configure(sync)), "jobs", "kind", ("ingest", "report"))
        )
        checks = [row.definition for row in await connection.execute(CHECKS) if row.name == "ck_jobs_kind_is_known"]
        await connection.rollback()
    assert checks == ["CHECK ((kind = ANY (ARRAY['ingest'::text, 'report'::text])))"]


def test_history_has_one_head() -> None:
    scripts = ScriptDirectory.from_config(configuration(""))
    assert scripts.get_heads() == [revisions()[-1]]
    assert [script.revision for script in scripts.walk_revisions()][::-1] == revisions()


@pytest.fixture
async def history_url(settings: StateSettings, database: Database) -> AsyncGenerator[str]:
    """The URL of an empty database for migrations."""
    base, name = settings.database_url.rsplit("/", 1)
    name += "_history"
    async with database.read() as connection:
        await connection.exec_driver_sql("SET statement_timeout = 0")  # whatever else the machine does
        await connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        await connection.exec_driver_sql("RESET statement_timeout")
    yield f"{base}/{name}"
    async with database.read() as connection:
        await connection.exec_driver_sql("SET statement_timeout = 0")
        await connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
        await connection.exec_driver_sql("RESET statement_timeout")


async def _migrate(way: Callable[[str, str], None], url: str, revision: str) -> None:
    """Run migrations in a thread of their own: alembic runs an event loop, which cannot nest in ours."""
    await asyncio.to_thread(way, url, revision)


async def test_the_newest_revisions_go_down_and_up_again(history_url: str, settings: StateSettings) -> None:
    url = await create_database(settings.database_url, history_url.rpartition("/")[2])
    await _migrate(downgrade, url, revisions()[-6])
    await _migrate(upgrade, url, "head")


@pytest.mark.exhaustive
@pytest.mark.parametrize("by", ["all", "one"])
async def test_every_revision_goes_up_down_and_up_again(history_url: str, by: str) -> None:
    if by == "all":
        await _migrate(upgrade, history_url, "head")
    else:
        for previous, revision in itertools.pairwise(["base", *revisions()]):
            for way, target in ((upgrade, revision), (downgrade, previous), (upgrade, revision)):
                await _migrate(way, history_url, target)
    await _migrate(downgrade, history_url, "base")
    async with Database.open(StateSettings(database_url=history_url)) as emptied:
        relations = await emptied.rows(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^alembic_version'")
        )
        functions = await emptied.rows(text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"))
    assert [*relations, *functions] == []
    await _migrate(upgrade, history_url, "head")


# One row of each table that held outputs when each kind of output had its own foreign key.
_OUTPUT_ROWS = """
SET LOCAL session_replication_role = replica;
INSERT INTO users (id, email, username, role) VALUES (uuid(1), 'a@example.org', 'a', 'member');
INSERT INTO datasets (id, owner_id, name, modality, source) VALUES (uuid(2), uuid(1), 'd', 'tabular', 'upload');
INSERT INTO dataset_versions (id, dataset_id, number, status, source) VALUES (uuid(3), uuid(2), 1, 'ready', 'upload');
INSERT INTO dataset_profiles (id, version_id, profiler_version, generation_time, is_exact, row_count, duplicate_row_count, missing_cell_ratio, report)
  VALUES (uuid(4), uuid(3), '1', 0, true, 0, 0, 0, '{}');
INSERT INTO models (id, owner_id, name) VALUES (uuid(5), uuid(1), 'm');
INSERT INTO model_versions (id, model_id, number, algorithm, framework) VALUES (uuid(6), uuid(5), 1, 'Ridge', 'scikit-learn');
INSERT INTO stored_objects (id, owner_id, object_key, size_bytes, sha256, reference_count) VALUES (uuid(7), uuid(1), 'key', 1, 'abc', 1);
INSERT INTO jobs (id, owner_id, kind, queue) VALUES (uuid(8), uuid(1), 'export', 'default');
INSERT INTO artifacts (id, owner_id, object_id, job_id, role, filename, content_type) VALUES (uuid(9), uuid(1), uuid(7), uuid(8), 'LOG', 'f', 't');
INSERT INTO job_outputs (job_id, position, dataset_version_id) VALUES (uuid(8), 0, uuid(3));
INSERT INTO job_outputs (job_id, position, profile_id) VALUES (uuid(8), 1, uuid(4));
INSERT INTO job_outputs (job_id, position, model_version_id) VALUES (uuid(8), 2, uuid(6));
INSERT INTO job_outputs (job_id, position, artifact_id) VALUES (uuid(8), 3, uuid(9))
"""


def _output_rows() -> list[str]:
    return [re.sub(r"uuid\((\d)\)", r"'00000000-0000-0000-0000-00000000000\1'", row) for row in _OUTPUT_ROWS.split(";\n")]


@pytest.mark.exhaustive
async def test_outputs_of_jobs_survive_the_change_of_their_table(history_url: str) -> None:
    by_key = text("SELECT * FROM job_outputs ORDER BY position")
    by_kind = text("SELECT position, kind, right(target_id::text, 1) FROM job_outputs ORDER BY position")
    await _migrate(upgrade, history_url, "0003")
    async with Database.open(StateSettings(database_url=history_url)) as opened:
        async with opened.engine.begin() as connection:
            for statement in _output_rows():
                await connection.exec_driver_sql(statement)
        before = [row._mapping for row in await opened.rows(by_key)]
    await _migrate(upgrade, history_url, "0004")
    async with Database.open(StateSettings(database_url=history_url)) as opened:
        kinds = [tuple(row) for row in await opened.rows(by_kind)]
    assert kinds == [(0, "version", "3"), (1, "profile", "4"), (2, "mversion", "6"), (3, "artifact", "9")]
    await _migrate(downgrade, history_url, "0003")
    async with Database.open(StateSettings(database_url=history_url)) as opened:
        assert [row._mapping for row in await opened.rows(by_key)] == before


async def test_a_delete_takes_the_output_with_it_or_is_refused(clean: None, database: Database) -> None:
    async with database.engine.connect() as connection:
        for statement in _output_rows()[:-4]:
            await connection.exec_driver_sql(statement)
        outputs = {
            "dataset_versions": ("version", 3),
            "dataset_profiles": ("profile", 4),
            "model_versions": ("mversion", 6),
            "artifacts": ("artifact", 9),
        }
        for position, (kind, target) in enumerate(outputs.values()):
            values = f"('00000000-0000-0000-0000-000000000008', {position}, '{kind}', '00000000-0000-0000-0000-00000000000{target}')"
            await connection.exec_driver_sql(f"INSERT INTO job_outputs (job_id, position, kind, target_id) VALUES {values}")
        await connection.exec_driver_sql("SET LOCAL session_replication_role = origin")
        for table, (kind, _) in outputs.items():
            if kind in {"version", "mversion"}:
                with pytest.raises(DBAPIError, match=f"{kind} .* is an output of a job"):
                    async with connection.begin_nested():
                        await connection.exec_driver_sql(f"DELETE FROM {table}")
            else:
                await connection.exec_driver_sql(f"DELETE FROM {table}")
        kinds = (await connection.exec_driver_sql("SELECT kind FROM job_outputs ORDER BY position")).scalars().all()
        assert kinds == ["version", "mversion"]
        await connection.rollback()


@pytest.mark.exhaustive
async def test_what_users_of_the_release_before_own_is_counted(history_url: str) -> None:
    (before,) = ScriptDirectory.from_config(configuration("")).get_revision("0015")._versioned_down_revisions
    owned = {  # of the first and the second user: live rows and deleted ones
        "datasets": "(owner_id, name, modality, source, deleted_at) SELECT o, n::text, 'tabular', 'upload', d",
        "pipelines": "(owner_id, name, modality, definition, status, deleted_at) SELECT o, n::text, 'tabular', '{}'::jsonb, 'draft', d",
        "models": "(owner_id, name, deleted_at) SELECT o, n::text, d",
        "experiments": "(owner_id, name, deleted_at) SELECT o, n::text, d",
        "jobs": "(owner_id, kind, queue) SELECT o, 'export', 'default'",
    }
    await _migrate(upgrade, history_url, before)
    async with Database.open(StateSettings(database_url=history_url)) as opened, opened.engine.begin() as connection:
        for number in (1, 2, 3):
            columns = "users (id, email, username, role)"
            await connection.exec_driver_sql(f"INSERT INTO {columns} VALUES (uuidv7(), '{number}@example.org', '{number}', 'member')")
        for position, (table, rows) in enumerate(owned.items()):
            users = "(SELECT id AS o, username::int AS u FROM users WHERE username <> '3') users"
            numbers = f"generate_series(1, u * 10 + {position}) n, LATERAL (SELECT CASE WHEN n % 4 = 0 THEN now() END AS d) deleted"
            await connection.exec_driver_sql(f"INSERT INTO {table} {rows} FROM {users}, {numbers}")
    await _migrate(upgrade, history_url, "head")
    async with Database.open(StateSettings(database_url=history_url)) as opened:
        counts = await counts_by_user(opened, SYSTEM, [row.id for row in await opened.rows(text("SELECT id FROM users ORDER BY username"))])
    expected = [{table: (n := user * 10 + at) - (0 if table == "jobs" else n // 4) for at, table in enumerate(owned)} for user in (1, 2)]
    assert [{table: getattr(row, table) for table in owned} for row in sorted(counts.values(), key=lambda row: row.jobs)] == [
        dict.fromkeys(owned, 0),
        *expected,
    ]


# Of the release before accounts could have passwords: three users with a token each, one of them expired, and what the first two own.
_BEFORE_ACCOUNTS = """
INSERT INTO users (email, username, role, storage_bytes, deleted_at) VALUES ('Ada@example.org', 'ada', 'member', 7, NULL),
  ('boss@example.org', 'boss', 'admin', 0, NULL), ('gone@example.org', 'gone', 'viewer', 0, now());
INSERT INTO api_keys (user_id, name, prefix, token_sha256, expires_at) SELECT id, 'first token', 'trk_' || username, sha256(('token of ' || username)::bytea),
  NULL FROM users;
INSERT INTO api_keys (user_id, name, prefix, token_sha256, expires_at) SELECT id, 'old', 'trk_old', sha256('expired token'::bytea), now() - interval '1 day'
  FROM users WHERE username = 'ada';
INSERT INTO datasets (owner_id, name, modality, source) SELECT id, 'of ' || username || n, 'tabular', 'upload' FROM users, generate_series(1, 3) n
  WHERE username <> 'gone';
INSERT INTO datasets (owner_id, name, modality, source, deleted_at) SELECT id, 'deleted', 'tabular', 'upload', now() FROM users WHERE username = 'ada';
INSERT INTO dataset_versions (dataset_id, number, status, source) SELECT id, 1, 'failed', 'upload' FROM datasets;
INSERT INTO models (owner_id, name) SELECT id, 'model' FROM users WHERE username = 'ada';
INSERT INTO experiments (owner_id, name) SELECT id, 'experiment' FROM users WHERE username = 'boss';
INSERT INTO jobs (owner_id, kind, queue) SELECT id, 'export', 'default' FROM users, generate_series(1, 2) WHERE username = 'ada'
"""


@pytest.mark.exhaustive
async def test_users_of_a_release_without_accounts_keep_tokens_and_what_they_own(history_url: str) -> None:
    (before,) = ScriptDirectory.from_config(configuration("")).get_revision("0009")._versioned_down_revisions
    owners = text(
        "SELECT u.username, d.name, d.deleted_at IS NULL AS is_live FROM datasets d JOIN users u ON u.id = d.owner_id ORDER BY d.id"
    )
    await _migrate(upgrade, history_url, before)
    async with Database.open(StateSettings(database_url=history_url)) as opened:
        async with opened.engine.begin() as connection:
            for statement in _BEFORE_ACCOUNTS.split(";\n"):
                await connection.exec_driver_sql(statement)
        owned = [tuple(row) for row in await opened.rows(owners)]
        ids = {row.username: row.id for row in await opened.rows(text("SELECT id, username FROM users"))}
    await _migrate(upgrade, history_url, "head")
    async with Database.open(StateSettings(database_url=history_url)) as opened:
        viewers = {name: await viewer_of_token(opened, f"token of {name}") for name in ids}
        ada, boss = viewers["ada"], viewers["boss"]
        assert ada is not None
        assert boss is not None
        assert [(viewer.id, viewer.role, viewer.tier, viewer.is_session) for viewer in (ada, boss)] == [
            (ids["ada"], UserRole.MEMBER, UserTier.FREE, False),
            (ids["boss"], UserRole.ADMIN, UserTier.FREE, False),
        ]
        assert [viewer.scopes for viewer in (ada, boss)] == [ROLE_SCOPES[UserRole.MEMBER], ROLE_SCOPES[UserRole.ADMIN]]
        assert viewers["gone"] is await viewer_of_token(opened, "expired token") is None
        assert [tuple(row) for row in await opened.rows(owners)] == owned
        assert len(owned) == 7
        users = await accounts.by_id(opened, SYSTEM, list(ids.values()))
        assert [(users[ids[name]].email, users[ids[name]].storage_bytes, users[ids[name]].is_active) for name in ("ada", "boss")] == [
            ("Ada@example.org", 7, True),
            ("boss@example.org", 0, True),
        ]
        assert {row.kind for row in users.values()} == {AccountKind.PERSON}
        counts = await counts_by_user(opened, SYSTEM, list(ids.values()))
        shown = [tuple(getattr(counts[ids[name]], kind) for kind in accounts.COUNTED) for name in ("ada", "boss", "gone")]
        assert accounts.COUNTED == ("datasets", "pipelines", "models", "experiments", "jobs")
        assert shown == [(3, 0, 1, 0, 2), (3, 0, 0, 1, 0), (0, 0, 0, 0, 0)]
