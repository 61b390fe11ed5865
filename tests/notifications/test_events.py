"""Each event happens: what people do through the API, and what jobs do for them, is told once, with names and ids."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import jobs
from db.tables import Study, User
from db.tables.jobs import JobKind
from db.tables.studies import STUDY_ENDS, StudyReason, StudyStatus
from tests.accounts.test_changing_passwords import CHANGE
from tests.accounts.test_new_devices import sign_in_from
from tests.accounts.test_team_invitations import INVITE
from tests.accounts.test_teams import create_team
from tests.billing.test_ledger import GRANT
from tests.client import PASSWORD, Client
from tests.endings import key_of
from tests.factories import platform
from tests.models.test_aliases import SET
from tests.notifications.telling import prefer_all, told
from tests.tracking.conftest import create_run, finish

SignIn = Callable[[str], Awaitable[Client]]
CSV = "a,b\n" + "".join(f"{row},{row * 7 % 11}\n" for row in range(60))
REMOVE = 'mutation($id: ID!) { removeModelAlias(input: {modelId: $id, name: "best"}) { __typename } }'


def kept(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["type"], row["title"], row["subjectId"].partition("_")[0]) for row in rows]


async def test_what_jobs_make_is_told_once_with_its_name(ada: Client, bob: Client, worker: object, database: Database) -> None:
    await prefer_all(ada)
    version = await ada.ingest("wine", CSV)
    rows = await told(database, ada)
    assert sorted(kept(rows)) == [
        ("JOB_COMPLETED", "Completed: ingest of wine", "job"),
        ("SCHEMA_PROPOSED", "A schema of wine is proposed", "proposal"),
        ("VERSION_READY", "Version 1 of wine is ready", "version"),
    ]
    assert [row["sequence"] for row in rows] == [1, 2, 3]
    ready = next(row for row in rows if row["type"] == "VERSION_READY")
    assert (ready["subjectId"], ready["subject"], ready["account"], ready["readAt"]) == (
        version,
        {"id": version},
        {"username": "ada"},
        None,
    )
    assert ready["body"] == f"The dataset version {version} can be used."
    pipeline = await ada.create_pipeline("fit", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
    run = await ada.run_pipeline(pipeline["pipeline"]["id"], version)
    assert (await ada.wait(run["job"]["id"]))["status"] == "COMPLETED"
    export = await ada.export(version, "CSV")
    rows = (await told(database, ada))[3:]
    (model,) = [row for row in rows if row["type"] == "MODEL_VERSION_CREATED"]
    assert sorted(kept(rows)) == sorted(
        [
            ("MODEL_VERSION_CREATED", model["title"], "mversion"),
            ("JOB_COMPLETED", "Completed: training of fit", "job"),
            ("EXPORT_READY", "An export of wine is ready", "export"),
            ("JOB_COMPLETED", "Completed: export of wine", "job"),
        ]
    )
    assert model["title"].startswith("Version 1 of the model ")
    assert {row["subjectId"] for row in rows if row["type"] == "EXPORT_READY"} == {export["id"]}
    assert await told(database, bob) == []


async def test_what_fails_is_told_with_the_job_alone_by_default(ada: Client, worker: object, database: Database) -> None:
    dataset = await ada.create_dataset("torn")
    version, job = await ada.upload(dataset, "torn.parquet", b"PAR1 and no more")
    assert (await ada.wait(job))["status"] == "FAILED"
    (failed,) = await told(database, ada)
    assert (failed["type"], failed["title"], failed["subjectId"]) == ("JOB_FAILED", "Failed: ingest of torn", job)
    await prefer_all(ada)
    _, second = await ada.upload(dataset, "torn.parquet", b"PAR1 and no more")
    assert (await ada.wait(second))["status"] == "FAILED"
    later = (await told(database, ada))[1:]
    assert sorted(kept(later)) == [
        ("JOB_FAILED", "Failed: ingest of torn", "job"),
        ("VERSION_FAILED", "Version 2 of torn failed", "version"),
    ]
    assert version not in {row["subjectId"] for row in later}


async def test_a_job_that_is_cancelled_is_told_to_who_asked_for_it(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    owner = key_of((await ada.one("{ viewer { id } }"))["id"])
    await told(database, ada)

    async def cancel() -> str:
        async with database.work(SYSTEM) as work:
            job = await jobs.submit(work, jobs.NewJob(owner, JobKind.PREDICT, "nobody"))
        cancelled = await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=f"job_{job.id.hex}")
        assert cancelled["__typename"] == "CancelJobPayload"
        return f"job_{job.id.hex}"

    first = await cancel()
    await told(database, ada)
    await prefer_all(ada)
    second = await cancel()
    cancelled = [row["subjectId"] for row in await told(database, ada, type=["JOB_CANCELLED"])]
    assert cancelled == [second], f"by default, {first} is not told"


async def test_an_alias_is_told_when_it_is_set_and_removed(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    page = await ada.one("{ models { edges { node { id name versions { edges { node { id } } } } } } }")
    model = page["edges"][0]["node"]
    await told(database, ada)
    version = model["versions"]["edges"][0]["node"]["id"]
    assert (await ada.one(SET, input={"modelVersionId": version, "name": "best"}))["__typename"] == "SetModelAliasPayload"
    assert (await ada.one(REMOVE, id=model["id"]))["__typename"] == "RemoveModelAliasPayload"
    titles = [row["title"] for row in await told(database, ada, type=["ALIAS_CHANGED"], subjectId=model["id"])]
    assert titles[-2:] == [f"best of {model['name']} is version 1", f"best of {model['name']} was removed"]


async def test_studies_tell_of_their_ends_and_of_pauses_that_nobody_asked_for(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    (study,) = await database.rows(text("SELECT id, name FROM studies LIMIT 1"))
    await told(database, ada)

    async def move(status: StudyStatus, reason: StudyReason | None) -> None:
        values: dict[str, Any] = {"status": status, "reason": reason, "completed_at": None}
        if status in STUDY_ENDS:
            values |= {"completed_at": func.now(), "open_trials": 0, "ends_as": status}
        async with database.work(SYSTEM) as work:
            await work.run(update(Study).where(Study.id == study.id).values(values))

    moves = [
        (StudyStatus.RUNNING, None), (StudyStatus.PAUSED, StudyReason.USER), (StudyStatus.RUNNING, None), (StudyStatus.PAUSED, StudyReason.CREDITS),
        (StudyStatus.RUNNING, None), (StudyStatus.COMPLETED, StudyReason.TRIALS),
    ]  # fmt: skip
    for status, reason in moves:
        await move(status, reason)
    types = ["STUDY_PAUSED", "STUDY_COMPLETED", "STUDY_FAILED"]
    rows = await told(database, ada, type=types, subjectId=f"study_{study.id.hex}")
    assert [row["title"] for row in rows] == [f"The study {study.name} is paused", f"The study {study.name} has completed"]
    await move(StudyStatus.RUNNING, None)
    await move(StudyStatus.FAILED, StudyReason.FAILURES)
    assert (await told(database, ada, type=["STUDY_FAILED"]))[-1]["title"] == f"The study {study.name} has failed"


async def test_external_runs_tell_of_their_ends_if_asked_to(ada: Client, database: Database) -> None:
    await finish(ada, await create_run(ada, name="first"))
    assert await told(database, ada) == []
    await prefer_all(ada)
    await finish(ada, await create_run(ada, name="second"))
    await finish(ada, await create_run(ada, name="third"), "FAILED")
    assert [(row["type"], row["title"]) for row in await told(database, ada)] == [
        ("RUN_COMPLETED", "Run 2 of second has completed"),
        ("RUN_FAILED", "Run 3 of third has failed"),
    ]


async def test_credits_that_were_bought_and_that_are_low(ada: Client, admin: Client, database: Database) -> None:
    user = (await ada.one("{ viewer { id } }"))["id"]
    for amount, kind in ((500, "PURCHASE"), (-450, "ADJUSTMENT"), (-1, "ADJUSTMENT"), (200, "ADJUSTMENT"), (-200, "ADJUSTMENT")):
        assert "transaction" in await admin.one(GRANT, input={"userId": user, "amount": amount, "reason": "r", "type": kind})
    rows = await told(database, ada)
    assert [(row["type"], row["title"], row["subject"]) for row in rows] == [
        ("CREDITS_PURCHASED", "Credits of ada were bought", {"id": user}),
        ("CREDITS_LOW", "The credits of ada are low", {"id": user}),
        ("CREDITS_LOW", "The credits of ada are low", {"id": user}),
    ]


async def test_a_quota_is_told_when_it_becomes_nearly_full(ada: Client, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(storage_quota_bytes=1_000))
    dataset = await ada.create_dataset("d")
    for size in (800, 100, 50):
        upload = await ada.request_upload(dataset, "d.csv", b"x" * size)
        assert upload["__typename"] == "RequestUploadPayload", upload
    (near,) = await told(database, ada)
    assert (near["type"], near["title"]) == ("QUOTA_NEAR", "The storage of ada is nearly full")


async def test_sign_ins_and_passwords(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    session = await sign_in("ada")
    await sign_in_from(anonymous, "192.0.2.7")
    assert (await session.one(CHANGE, current=PASSWORD, new="another password 9"))["__typename"] == "ChangePasswordPayload"
    rows = await told(database, ada)
    assert [(row["type"], row["title"]) for row in rows] == [
        ("LOGIN_NEW_DEVICE", "A new sign-in to your account"),
        ("PASSWORD_CHANGED", "Your password was changed"),
    ]


async def test_who_is_invited_to_a_team_is_told_and_nobody_else(ada: Client, bob: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    team = (await create_team(session))["team"]["id"]
    for email in ("bob@example.org", "nobody@example.org"):
        invited = await session.one(INVITE, input={"email": email, "role": "MEMBER", "teamId": team})
        assert invited["__typename"] == "InviteMemberPayload", invited
    (invitation,) = await told(database, bob)
    assert (invitation["type"], invitation["title"]) == ("TEAM_INVITED", "You are invited to the team bearings")
    assert (invitation["subject"], invitation["account"]) == (None, {"username": "bob"})
    assert await told(database, ada) == []


async def test_a_change_that_is_rolled_back_is_not_told(ada: Client, admin: Client, database: Database) -> None:
    owner: UUID = key_of((await ada.one("{ viewer { id } }"))["id"])

    async def change_and_fail() -> None:
        async with database.work(SYSTEM) as work:
            await work.run(update(User).where(User.id == owner).values(credits_low_since=datetime.now(UTC)))
            raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        await change_and_fail()
    assert await told(database, ada) == []
