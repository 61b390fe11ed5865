"""Files are imported on a schedule: in a time zone, at most every 5 minutes, and a missed run is made up once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import jobs, maintenance
from db.services.cron import next_run
from db.settings import StateSettings, state_settings
from db.stores.objects import ObjectStore
from db.tables import ImportSchedule, Job, Membership, User
from db.tables.accounts import AccountKind, UserRole
from db.tables.jobs import JobKind
from tests.client import Client
from tests.workers.worker_harness import run_maintenance

SCHEDULE = "id url cron timezone isActive nextAt lastJob { id kind } dataset { id }"
CREATE = f"""mutation($input: CreateImportScheduleInput!) {{ createImportSchedule(input: $input) {{ __typename ... on Problem {{ code }}
  ... on InvalidInput {{ issues {{ path }} }} ... on QuotaExceeded {{ limit used }} ... on CreateImportSchedulePayload {{ schedule {{ {SCHEDULE} }} }} }} }}"""
UPDATE = f"""mutation($input: UpdateImportScheduleInput!) {{ updateImportSchedule(input: $input) {{ __typename ... on Problem {{ code }}
  ... on InvalidInput {{ issues {{ path }} }} ... on UpdateImportSchedulePayload {{ schedule {{ {SCHEDULE} }} }} }} }}"""
DELETE = "mutation($id: ID!) { deleteImportSchedule(input: {id: $id}) { __typename ... on DeleteImportSchedulePayload { dataset { schedules { id } } } } }"
SCHEDULES = (
    f"query($id: ID!) {{ dataset(id: $id) {{ schedules {{ {SCHEDULE} }} versions {{ edges {{ node {{ number status source }} }} }} }} }}"
)
URL = "https://nobody.invalid/data.csv"
DUE = "UPDATE import_schedules SET next_at = now() - interval '3 days'"


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    return await client.one(CREATE, input={"url": URL, "cron": "0 6 * * *", **fields})


async def run(database: Database, settings: StateSettings) -> None:
    async with ObjectStore.open(settings) as objects:
        await run_maintenance(maintenance.MaintenanceContext(database, objects, settings), "run_import_schedules")


async def execute(database: Database, statement: Any) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(statement)


async def imports(database: Database) -> int:
    return (await database.rows(select(func.count()).where(Job.kind == JobKind.IMPORT)))[0][0]


async def test_a_missed_run_is_made_up_once_as_by_its_maker(ada: Client, database: Database, settings: StateSettings) -> None:
    dataset = await ada.create_dataset("d")
    created = (await create(ada, datasetId=dataset, timezone="Europe/Berlin"))["schedule"]
    assert {**created, "id": "", "nextAt": ""} == {
        "id": "", "url": URL, "cron": "0 6 * * *", "timezone": "Europe/Berlin", "isActive": True, "nextAt": "", "lastJob": None,
        "dataset": {"id": dataset},
    }  # fmt: skip
    assert datetime.fromisoformat(created["nextAt"]) == next_run("0 6 * * *", "Europe/Berlin", datetime.now(UTC))
    await run(database, settings)
    assert await imports(database) == 0
    await execute(database, text(DUE))
    for _ in range(2):
        await run(database, settings)
    (job,) = await database.rows(select(Job.kind, Job.owner_id, Job.created_by_id, Job.parameters))
    assert (job.kind, job.created_by_id, job.parameters) == (JobKind.IMPORT, job.owner_id, {"url": URL, "sha256": None})
    seen = await ada.one(SCHEDULES, id=dataset)
    assert seen["schedules"][0]["nextAt"] == created["nextAt"]
    assert seen["schedules"][0]["lastJob"]["kind"] == "IMPORT"
    assert [(edge["node"]["number"], edge["node"]["source"]) for edge in seen["versions"]["edges"]] == [(1, "SCHEDULED")]


async def test_a_run_is_left_out_while_the_import_before_has_not_ended(ada: Client, database: Database, settings: StateSettings) -> None:
    await create(ada, datasetId=await ada.create_dataset("d"))
    owner = UUID((await ada.one("{ viewer { id } }"))["id"].removeprefix("user_"))
    async with database.work(SYSTEM) as work:
        waiting = (await jobs.submit(work, jobs.NewJob(owner, JobKind.PURGE, "nobody"))).id
    await execute(database, text(f"{DUE}, last_job_id = '{waiting}'"))
    await run(database, settings)
    assert await imports(database) == 0
    rows = await database.rows(select(ImportSchedule.last_job_id, (ImportSchedule.next_at > func.now()).label("is_later")))
    assert [tuple(row) for row in rows] == [(waiting, True)]
    await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=f"job_{waiting.hex}")
    await execute(database, text(DUE))
    await run(database, settings)
    assert await imports(database) == 1


async def test_a_schedule_waits_while_its_dataset_is_deleted_and_stops_with_its_maker(
    ada: Client, bob: Client, database: Database, settings: StateSettings
) -> None:
    deleted, kept = await ada.create_dataset("d"), await bob.create_dataset("d")
    first = (await create(ada, datasetId=deleted))["schedule"]["id"]
    second = (await create(bob, datasetId=kept))["schedule"]["id"]
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=deleted)
    await execute(database, update(User).where(User.username == "bob").values(disabled_at=func.now()))
    await execute(database, text(DUE))
    await run(database, settings)
    assert await imports(database) == 0
    rows = await database.rows(text("SELECT replace(id::text, '-', '') AS id, is_active, next_at IS NULL AS stopped FROM import_schedules"))
    assert {f"schedule_{row.id}": (row.is_active, row.stopped) for row in rows} == {first: (True, False), second: (False, True)}
    assert await ada.one("query($id: ID!) { node(id: $id) { id } }", id=first) is None


@pytest.mark.parametrize("change", ["UPDATE memberships SET role = 'viewer'", "DELETE FROM memberships"])
async def test_a_schedule_of_a_team_stops_when_its_maker_may_not_write_there_any_more(
    change: str, ada: Client, bob: Client, database: Database, settings: StateSettings
) -> None:
    admin, maker = [UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_")) for client in (ada, bob)]
    team = uuid4()
    async with database.work(SYSTEM) as work:
        named = {"email": "team@example.org", "username": "team", "kind": AccountKind.TEAM, "created_by_id": admin}
        await work.run(insert(User).values(id=team, role=UserRole.MEMBER, **named))
        for user, role in ((admin, UserRole.ADMIN), (maker, UserRole.MEMBER)):
            await work.run(insert(Membership).values(team_id=team, user_id=user, role=role))
            work.revalidate_sessions(user)
    dataset = await ada.create_dataset("d", ownerId=f"user_{team.hex}")
    for client in (bob, ada):
        await create(client, datasetId=dataset)
    await execute(database, text(f"{change} WHERE user_id = '{maker}'"))
    await execute(database, text(DUE))
    await run(database, settings)
    (job,) = await database.rows(select(Job.created_by_id, Job.owner_id).where(Job.kind == JobKind.IMPORT))
    assert tuple(job) == (admin, team)
    rows = await database.rows(select(ImportSchedule.created_by_id, ImportSchedule.is_active, ImportSchedule.next_at.is_(None)))
    assert {row.created_by_id: tuple(row)[1:] for row in rows} == {admin: (True, False), maker: (False, True)}


async def test_a_schedule_whose_time_zone_is_gone_stops_and_holds_up_no_other(
    ada: Client, database: Database, settings: StateSettings
) -> None:
    for name in ("Mars/Phobos", "UTC"):
        await create(ada, datasetId=await ada.create_dataset(name))
    await execute(database, text(DUE))
    await execute(
        database,
        text(
            "UPDATE import_schedules SET timezone = 'Mars/Phobos', next_at = next_at - interval '1 day'"
            " FROM datasets d WHERE d.id = dataset_id AND d.name = 'Mars/Phobos'"
        ),
    )
    await run(database, settings)
    assert await imports(database) == 1
    rows = await database.rows(select(ImportSchedule.timezone, ImportSchedule.is_active).order_by(ImportSchedule.timezone))
    assert [tuple(row) for row in rows] == [("Mars/Phobos", False), ("UTC", True)]


async def test_a_schedule_is_changed_stopped_and_deleted(ada: Client, bob: Client) -> None:
    dataset = await ada.create_dataset("d")
    schedule = (await create(ada, datasetId=dataset))["schedule"]["id"]
    for answer in (
        await bob.one(UPDATE, input={"id": schedule, "isActive": False}),
        await bob.one(UPDATE, input={"id": "schedule_" + "0" * 32, "isActive": False}),
    ):
        assert answer == {"__typename": "NotFound", "code": "NOT_FOUND"}
    assert (await bob.one(DELETE, id=schedule))["__typename"] == "NotFound"
    stopped = (await ada.one(UPDATE, input={"id": schedule, "isActive": False}))["schedule"]
    assert (stopped["isActive"], stopped["nextAt"], stopped["cron"]) == (False, None, "0 6 * * *")
    changed = (await ada.one(UPDATE, input={"id": schedule, "isActive": True, "cron": "*/5 * * * *", "reading": {"delimiter": ";"}}))[
        "schedule"
    ]
    assert datetime.fromisoformat(changed["nextAt"]) > datetime.now(UTC)
    assert (await ada.one(SCHEDULES, id=dataset))["schedules"] == [changed]
    assert await ada.one(DELETE, id=schedule) == {"__typename": "DeleteImportSchedulePayload", "dataset": {"schedules": []}}
    assert (await ada.one(DELETE, id=schedule))["__typename"] == "NotFound"


async def test_what_cannot_be_a_schedule_is_refused(ada: Client, bob: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = await ada.create_dataset("d")
    faults: list[tuple[dict[str, Any], str]] = [
        ({"cron": "* * * * *"}, "cron"),
        ({"cron": "0,57 * * * *"}, "cron"),
        ({"cron": "*/7 * * * *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "every day"}, "cron"),
        ({"timezone": "Mars/Phobos"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"url": "ftp://example.org/x"}, "url"),
        ({"reading": {"delimiter": "ab"}}, "reading"),
    ]
    for fields, path in faults:
        refused = await create(ada, datasetId=dataset, **fields)
        assert (refused["__typename"], [issue["path"][0] for issue in refused["issues"]]) == ("InvalidInput", [path]), fields
    assert (await create(bob, datasetId=dataset))["code"] == "NOT_FOUND"
    monkeypatch.setattr(state_settings(), "import_schedules_per_dataset", 1)
    assert (await create(ada, datasetId=dataset))["__typename"] == "CreateImportSchedulePayload"
    exceeded = await create(ada, datasetId=dataset)
    assert (exceeded["__typename"], exceeded["limit"], exceeded["used"]) == ("QuotaExceeded", 1, 1)


def test_the_next_run_is_counted_in_the_time_zone_over_changes_of_the_clock() -> None:
    def runs(cron: str, start: datetime, count: int = 3) -> list[str]:
        found: list[str] = []
        for _ in range(count):
            following = next_run(cron, "Europe/Berlin", start)
            assert following is not None
            start = following
            found.append(start.strftime("%m-%d %H:%M"))
        return found

    spring, autumn = datetime(2027, 3, 27, 0, 0, tzinfo=UTC), datetime(2027, 10, 30, 0, 0, tzinfo=UTC)
    assert runs("0 6 * * *", spring) == ["03-27 05:00", "03-28 04:00", "03-29 04:00"]
    assert runs("30 2 * * *", spring) == ["03-27 01:30", "03-28 01:00", "03-29 00:30"]  # 02:30 is not there on the 28th: at 03:00 instead
    assert runs("30 2 * * *", autumn) == ["10-30 00:30", "10-31 00:30", "11-01 01:30"]  # 02:30 is there twice on the 31st
