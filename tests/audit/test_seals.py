"""Events of the audit are never changed; who changes them as a superuser is found out by the seals."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db.core.audit import AuditOrigin, Origin, acting
from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.errors import StateError
from db.services import accounts, audit
from db.services.audit import sealing
from db.services.maintenance import MaintenanceContext, MaintenanceResult
from db.settings import StateSettings
from db.tables import AuditEvent, AuditSeal
from tests.client import Client
from tests.server.test_jobs_command import trellis
from tests.workers.worker_harness import run_maintenance


async def make_events(client: Client, database: Database, *names: str) -> list[UUID]:
    """Create datasets; return the ids of their events."""
    for name in names:
        await client.create_dataset(name)
    rows = await database.rows(select(AuditEvent.id).order_by(AuditEvent.id))
    return [row.id for row in rows[-len(names) :]]


async def tamper(database: Database, *statements: str) -> None:
    """Execute statements as a superuser whom no trigger stops."""
    async with database.engine.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            assert (await connection.execute(text(statement))).rowcount > 0, statement


async def seals(database: Database) -> list[tuple[int, list[UUID]]]:
    rows = await database.rows(select(AuditSeal.number, AuditSeal.event_ids).order_by(AuditSeal.number))
    return [(row.number, row.event_ids) for row in rows]


def public(ids: Sequence[UUID]) -> str:
    return ", ".join(f"audit_{id_.hex}" for id_ in ids)


async def tables_of_the_audit(database: Database) -> list[str]:
    rows = await database.rows(text("SELECT relid::text AS name FROM pg_partition_tree('audit_events')"))
    return [row.name for row in rows]


async def test_no_statement_changes_or_removes_events_or_seals(ada: Client, database: Database) -> None:
    await make_events(ada, database, "wine")
    await audit.seal_events(database)
    before = await database.rows(select(AuditEvent.__table__)), await seals(database)
    names = await tables_of_the_audit(database)
    assert len(names) >= 6, "the table, the default partition, and those of four months"
    statements = [f"TRUNCATE {name}" for name in (*names, "audit_seals")]
    (event_row,) = await database.rows(text("SELECT tableoid::regclass::text AS name FROM audit_events"))
    for name in ("audit_events", event_row.name, "audit_seals"):
        statements += [f"DELETE FROM {name}", f"UPDATE {name} SET {'sealed_at' if name == 'audit_seals' else 'created_at'} = now()"]
    for statement in statements:
        with pytest.raises(DBAPIError, match="is refused: the audit is only ever added to"):
            async with database.engine.begin() as connection:
                await connection.execute(text(statement))
    assert (await database.rows(select(AuditEvent.__table__)), await seals(database)) == before


async def test_seals_take_what_is_committed_and_never_wait(ada: Client, database: Database) -> None:
    """An event whose transaction is open while others are sealed is in the next seal, though its id is older."""
    user = (await database.rows(text("SELECT id FROM users WHERE username = 'ada'")))[0].id
    with acting(Origin(AuditOrigin.COMMAND_LINE)):
        async with database.work(SYSTEM) as work:
            work.record("late", "user", user, user)
            await work.run_before_commit()
            work.audit_events.clear()
            early = await make_events(ada, database, "wine", "beer")
            assert await audit.seal_events(database) == 2
    (late,) = await database.rows(select(AuditEvent.id).where(AuditEvent.action == "late"))
    assert late.id < early[0]
    assert (await audit.verify(database)).waiting == 1
    assert await audit.seal_events(database) == 1
    assert await audit.seal_events(database) == 0
    assert await seals(database) == [(1, early), (2, [late.id])]
    report = await audit.verify(database)
    assert (report.seals, report.events, report.waiting, report.problems) == (2, 3, 0, [])


async def test_many_events_take_several_seals(ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MAX_EVENTS", 2)
    ids = await make_events(ada, database, "a", "b", "c", "d", "e")
    assert await audit.seal_events(database) == 5
    assert await seals(database) == [(1, ids[:2]), (2, ids[2:4]), (3, ids[4:])]
    assert (await audit.verify(database)).problems == []


async def sealed(client: Client, database: Database) -> list[UUID]:
    """Three seals of two events each; the first one is two hours old, so that no event of that time may be in no seal."""
    ids: list[UUID] = []
    for number in range(3):
        ids += await make_events(client, database, f"a{number}", f"b{number}")
        if number == 0:
            await tamper(database, "UPDATE audit_events SET id = " + _earlier("id", hours=2))
            ids = [row.id for row in await database.rows(select(AuditEvent.id).order_by(AuditEvent.id))]
        await audit.seal_events(database)
    assert (await audit.verify(database)).problems == []
    return ids


def _earlier(column: str, *, hours: int) -> str:
    """SQL for a uuidv7 with an earlier time."""
    digits = f"to_hex((extract(epoch FROM uuid_extract_timestamp({column}) - interval '{hours} hours') * 1000)::bigint)"
    return f"(lpad({digits}, 12, '0') || substr(replace({column}::text, '-', ''), 13))::uuid"


async def test_a_changed_event_is_found(ada: Client, database: Database) -> None:
    ids = await sealed(ada, database)
    for column, value in (
        ("action", "'login'"),
        ("after", "jsonb_set(after, '{name}', '\"x\"')"),
        ("actor_id", "NULL"),
        ("created_at", "now()"),
    ):
        await tamper(
            database, "CREATE TABLE kept AS SELECT * FROM audit_events", f"UPDATE audit_events SET {column} = {value} WHERE id = '{ids[2]}'"
        )
        report = await audit.verify(database)
        assert report.problems == [
            f"Seal 2 does not fit: of its 2 events, from {public(ids[2:3])} to {public(ids[3:4])}, one or more were changed, or the seal was."
        ]
        await tamper(database, "DELETE FROM audit_events", "INSERT INTO audit_events SELECT * FROM kept")
        async with database.engine.begin() as connection:
            await connection.execute(text("DROP TABLE kept"))
        assert (await audit.verify(database)).problems == []


async def test_a_removed_event_is_named(ada: Client, database: Database) -> None:
    ids = await sealed(ada, database)
    await tamper(database, f"DELETE FROM audit_events WHERE id = '{ids[3]}'")
    assert (await audit.verify(database)).problems == [f"Seal 2 does not fit: 1 of its 2 events are missing: {public(ids[3:4])}."]


async def test_an_event_that_was_added_later_is_named(ada: Client, database: Database) -> None:
    await sealed(ada, database)
    added = UUID(int=(int((datetime.now(UTC) - timedelta(hours=3)).timestamp() * 1000) << 80) | 0x7000_8000_0000_0000_0001)
    await tamper(database, f"INSERT INTO audit_events (id, action, origin) VALUES ('{added}', 'login', 'api')")
    problems = (await audit.verify(database)).problems
    assert problems == [f"In no seal, though older than the last one: {public([added])}. They were added later."]


async def test_a_changed_or_missing_seal_is_found(ada: Client, database: Database) -> None:
    await sealed(ada, database)
    await tamper(database, "UPDATE audit_seals SET sha256 = sha256('x') WHERE number = 2")
    assert [problem.partition(":")[0] for problem in (await audit.verify(database)).problems] == [
        "Seal 2 does not fit",
        "Seal 3 does not fit",
    ]
    await tamper(database, "DELETE FROM audit_seals WHERE number = 2")
    problems = (await audit.verify(database)).problems
    assert problems[0] == "Of the seals, 2 is missing."
    assert problems[1].startswith("Seal 3 does not fit")


async def test_an_audit_that_was_rewritten_or_cut_off_differs_from_a_seal_that_was_noted(ada: Client, database: Database) -> None:
    ids = await sealed(ada, database)
    noted = (await audit.verify(database)).last
    assert noted is not None
    assert (await audit.verify(database, noted)).problems == []
    await tamper(database, "DELETE FROM audit_seals WHERE number = 3", f"DELETE FROM audit_events WHERE id IN ('{ids[4]}', '{ids[5]}')")
    assert (await audit.verify(database)).problems == []
    assert (await audit.verify(database, noted)).problems == [
        "Seal 3, which was noted, does not exist: the audit was cut off after seal 2."
    ]
    await make_events(ada, database, "other", "events")
    await audit.seal_events(database)
    (problem,) = (await audit.verify(database, noted)).problems
    assert problem.endswith("and not the one that was noted: the audit was rewritten.")


@pytest.mark.exhaustive
async def test_an_operator_verifies_the_audit_on_the_command_line(ada: Client, database: Database) -> None:
    ids = await sealed(ada, database)
    verified = await trellis("audit", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    counted, last = verified.stdout.splitlines()
    assert counted == "6 events in 3 seals are as they were sealed; 0 wait for their seal."
    seal = last.removeprefix("Last seal: ")
    assert (await trellis("audit", "verify", "--seal", seal)).returncode == 0
    assert (await trellis("audit", "verify", "--seal", "3:x")).returncode == 2
    await tamper(database, f"UPDATE audit_events SET ip_address = NULL WHERE id = '{ids[2]}'")
    changed = await trellis("audit", "verify", "--seal", seal)
    assert (changed.returncode, changed.stdout) == (1, "")
    assert changed.stderr.startswith("Seal 2 does not fit: of its 2 events")


async def test_the_nightly_check_fails_for_what_does_not_fit(ada: Client, database: Database) -> None:
    ids = await sealed(ada, database)
    assert (await trellis("jobs", "maintenance", "run", "verify_audit")).returncode == 0
    await tamper(database, f"DELETE FROM audit_events WHERE id = '{ids[0]}'")
    failed = await trellis("jobs", "maintenance", "run", "verify_audit")
    assert failed.returncode == 1
    assert "Seal 1 does not fit" in failed.stderr + failed.stdout


async def test_what_a_failed_savepoint_recorded_is_forgotten(ada: Client, database: Database) -> None:
    with acting(Origin(AuditOrigin.COMMAND_LINE)):
        async with database.work(SYSTEM) as work:
            await accounts.set_role(work, "ada@example.org", UserRole.VIEWER)
            with suppress(StateError):
                async with work.savepoint():
                    await accounts.disable(work, "ada@example.org")
                    await accounts.disable(work, "nobody@example.org")
    rows = await database.rows(select(AuditEvent.action, AuditEvent.after))
    assert [(row.action, row.after) for row in rows] == [("administer_user", {"role": "VIEWER"})]


_OLD_MONTH = (
    "CREATE TABLE audit_events_2020_05 PARTITION OF audit_events"
    " FOR VALUES FROM ('0171cd8f-5800-7000-8000-000000000000') TO ('01726d33-c400-7000-8000-000000000000')"
)


async def test_months_past_their_retention_are_dropped_and_their_seals_stay(
    ada: Client, database: Database, settings: StateSettings
) -> None:
    month = 86_400.0 * 31
    context = MaintenanceContext(database, None, settings.model_copy(update={"audit_retention": month}))  # pyright: ignore[reportArgumentType] - the task touches no object
    before = await tables_of_the_audit(database)
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql(_OLD_MONTH)
    old, kept = await make_events(ada, database, "old", "kept")
    await tamper(database, f"UPDATE audit_events SET id = '0171d000-0000-7000-8000-{old.hex[20:]}' WHERE id = '{old}'")
    await audit.seal_events(database)
    assert await run_maintenance(MaintenanceContext(database, context.objects, settings), "verify_audit") == MaintenanceResult(
        "verify_audit", 0
    )
    assert await run_maintenance(context, "verify_audit") == MaintenanceResult("verify_audit", 1)
    assert await run_maintenance(context, "verify_audit") == MaintenanceResult("verify_audit", 0)
    assert await tables_of_the_audit(database) == before
    report = await audit.verify(database, retention=month)
    assert (report.problems, report.dropped, report.seals) == ([], 1, 1)
    assert kept in [row.id for row in await database.rows(select(AuditEvent.id))]
    (problem,) = (await audit.verify(database)).problems
    assert problem.startswith("Seal 1 does not fit: 1 of its"), "where all is kept, nothing may be missing"
    await make_events(ada, database, "new")
    await audit.seal_events(database)
    await tamper(database, f"DELETE FROM audit_events WHERE id = '{kept}'")
    (problem,) = (await audit.verify(database, retention=month)).problems
    assert problem.startswith("Seal 1 does not fit: 2 of its"), "no retention is over for the second one"
