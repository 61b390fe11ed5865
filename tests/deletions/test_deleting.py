"""What is deleted leaves lists, look-ups, searches and counts at once; edges still lead to it; what uses it keeps it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services.jobs import NewJob, submit
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.user_counters import recount
from db.settings import StateSettings, state_settings
from db.tables import AuditEvent, Deletion, Job, Run, User
from db.tables.jobs import JobKind
from tests.accounts.test_team_ownership import make_team
from tests.accounts.test_teams import join
from tests.client import Client, GraphQLErrors
from tests.deletions.deleting import DELETE_MANY, delete, deleted, listed, restore
from tests.endings import key_of
from tests.factories import platform

KINDS = ("dataset", "pipeline", "model", "experiment", "study")
EDGES = {
    "dataset": "{ runs(first: 1) { edges { node { datasetVersion { dataset { id deletedAt } } } } } }",
    "pipeline": "{ runs(first: 1) { edges { node { pipeline { id deletedAt } } } } }",
    "model": "{ runs(first: 1) { edges { node { modelVersion { model { id deletedAt } } } } } }",
    "experiment": "{ models(first: 1) { edges { node { latestVersion { run { experiment { id deletedAt } } } } } } }",
}
REMOVE_ALIAS = 'mutation($id: ID!) { removeModelAlias(input: {modelId: $id, name: "production"}) { __typename } }'


async def first_of_each(client: Client, database: Database) -> dict[str, str]:
    """Make one of each kind, of which nothing keeps from being deleted, and return their ids."""
    await platform.fill(database, "ada", 1)
    await execute(database, "DELETE FROM deletions")
    await execute(database, "DELETE FROM datasets WHERE deleted_at IS NOT NULL")
    lists = await listed(client)
    ids = {kind: lists["studies" if kind == "study" else f"{kind}s"][0] for kind in KINDS}
    await client.one(REMOVE_ALIAS, id=ids["model"])
    return ids


async def execute(database: Database, statement: str, **values: Any) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text(statement), values)


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_deleted_is_in_no_list_and_comes_back_whole(
    ada: Client, bob: Client, database: Database, settings: StateSettings, kind: str
) -> None:
    ids = await first_of_each(ada, database)
    context = MaintenanceContext(database, None, settings)  # pyright: ignore[reportArgumentType] - no object is touched
    await recount(context, "60s")  # the rows were made without triggers
    before, of_bob = await listed(ada), await listed(bob)
    id_ = ids[kind]
    began = datetime.now(UTC)
    payload = await delete(ada, id_)
    until = datetime.fromisoformat(payload["restorableUntil"])
    assert payload == {"deletedId": id_, "restorableUntil": payload["restorableUntil"]}
    assert timedelta(days=30) - timedelta(minutes=5) < until - began < timedelta(days=30) + timedelta(minutes=5)
    after = await listed(ada)
    gone = {id_, *(before["runs"] if kind == "experiment" else [])}
    fewer = 2 if kind == "experiment" else 1  # the tag is on one of each kind, and on the run of the experiment
    tag, count = before["tags"][0].split()
    kept = {name: [each for each in ids if each not in gone] for name, ids in before.items()}
    assert after == kept | {"tags": [f"{tag} {int(count) - fewer}"]}
    assert await ada.execute("query($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }", id=id_) == {"node": None, "nodes": [None]}
    assert (await delete(ada, id_))["code"] == "NOT_FOUND"
    if kind in EDGES:
        edge = await ada.one(EDGES[kind])
        assert f"'id': '{id_}'" in str(edge)
        assert "'deletedAt': None" not in str(edge)
    (listed_one,) = await deleted(ada)
    assert (listed_one["kind"], listed_one["subject"]["id"], listed_one["deletedBy"]) == (kind.upper(), id_, {"username": "ada"})
    assert listed_one["restorableUntil"] == payload["restorableUntil"]
    assert await recount(context, "60s") == 0
    restored = await restore(ada, id_)
    assert restored == {"name": listed_one["name"], "isRenamed": False, "restored": {"id": id_}}
    assert await restore(ada, id_) == restored, "a second call changes nothing"
    assert (await listed(ada), await deleted(ada)) == (before, [])
    assert await listed(bob) == of_bob
    assert await recount(context, "60s") == 0
    events = await database.rows(select(AuditEvent.action).order_by(AuditEvent.id.desc()).limit(2))
    assert [row.action for row in events] == ["restore", f"delete_{kind}"]


async def test_a_name_that_is_taken_meanwhile_gets_a_number(ada: Client) -> None:
    first = await ada.create_dataset("Wine")
    await delete(ada, first)
    await ada.create_dataset("wine")
    await ada.create_dataset("Wine (2)")
    assert await restore(ada, first) == {"name": "Wine (3)", "isRenamed": True, "restored": {"id": first}}
    long = [await ada.create_dataset("x" * 200)]
    await delete(ada, long[0])
    long.append(await ada.create_dataset("x" * 200))
    restored = await restore(ada, long[0])
    assert restored["name"] == "x" * 187 + " (2)"
    names = (await ada.one("{ datasets { edges { node { name } } } }"))["edges"]
    assert sorted(edge["node"]["name"] for edge in names) == ["Wine (2)", "Wine (3)", "wine", restored["name"], "x" * 200]


async def test_nobody_deletes_restores_or_lists_what_they_may_not_change(
    ada: Client, bob: Client, admin: Client, reader: Client, database: Database
) -> None:
    ids = await first_of_each(ada, database)
    before = await listed(ada)
    for id_ in ids.values():
        assert (await delete(bob, id_))["code"] == "NOT_FOUND"
        with pytest.raises(GraphQLErrors) as refused:
            await delete(reader, id_)
        assert refused.value.codes == ["FORBIDDEN"]
    assert await listed(ada) == before
    dataset = ids["dataset"]
    await delete(ada, dataset)
    assert (await restore(bob, dataset))["code"] == "NOT_FOUND"
    assert (await deleted(bob), len(await deleted(admin)), len(await deleted(ada))) == ([], 1, 1)
    told = (await bob.one(DELETE_MANY, ids=[dataset, ids["model"]]))["results"]
    assert [result["problem"]["code"] for result in told] == ["NOT_FOUND", "NOT_FOUND"]
    assert (await restore(admin, dataset))["restored"] == {"id": dataset}
    assert await listed(ada) == before


async def test_a_viewer_of_a_team_sees_what_was_deleted_and_changes_nothing(ada: Client, bob: Client, database: Database) -> None:
    team = await make_team(database, "ada")
    await join(database, team, "bob", UserRole.VIEWER)
    first, second = [await ada.create_dataset(name, ownerId=team) for name in ("first", "second")]
    await delete(ada, first)
    assert [each["subject"]["id"] for each in await deleted(bob)] == [first]
    for change, id_ in ((delete, second), (restore, first)):
        with pytest.raises(GraphQLErrors) as refused:
            await change(bob, id_)
        assert refused.value.codes == ["FORBIDDEN"]
    (told,) = (await bob.one(DELETE_MANY, ids=[second]))["results"]
    assert (told["isDeleted"], told["problem"]["code"]) == (False, "UNSUPPORTED")
    assert (await ada.one("{ datasets { edges { node { id } } } }"))["edges"] == [{"node": {"id": second}}]


async def test_what_is_past_its_time_is_neither_listed_nor_restored(
    ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "deletion_retention", 1_000.0)
    dataset = await ada.create_dataset("d")
    payload = await delete(ada, dataset)
    (one,) = await deleted(ada)
    times = [datetime.fromisoformat(one[name]) for name in ("deletedAt", "restorableUntil")]
    assert (times[1] - times[0], payload["restorableUntil"]) == (timedelta(seconds=1_000), one["restorableUntil"])
    async with database.work(SYSTEM) as work:
        await work.run(update(Deletion).values(restorable_until=times[0]))
    assert await deleted(ada) == []
    assert (await restore(ada, dataset))["code"] == "NOT_FOUND"
    assert (await ada.one("query($id: ID!) { node(id: $id) { id } }", id=dataset)) is None


async def test_jobs_keep_what_they_use_until_they_have_ended(ada: Client, database: Database) -> None:
    ids = await first_of_each(ada, database)
    before = await listed(ada)
    owner = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    (version,) = await database.rows(text("SELECT id FROM model_versions"))
    (run,) = await database.rows(select(Run.id))
    uses: dict[str, dict[str, Any]] = {
        "dataset": {"dataset_id": key_of(ids["dataset"])},
        "pipeline": {"pipeline_id": key_of(ids["pipeline"])},
        "model": {"model_version_id": version.id},
        "experiment": {},
    }
    for kind, use in uses.items():
        async with database.work(SYSTEM) as work:
            job = (await submit(work, NewJob(owner, JobKind.EXPORT, "nobody", **use))).id
            if kind == "experiment":
                await work.run(update(Run).where(Run.id == run.id).values(job_id=job))
        blocked = await delete(ada, ids[kind])
        if kind == "dataset":
            assert (blocked["code"], blocked["state"]) == ("WRONG_STATE", "BUSY")
        else:
            assert (blocked["code"], blocked["reason"], blocked["ids"], blocked["count"]) == ("BLOCKED", "JOBS", [f"job_{job.hex}"], 1)
        await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=f"job_{job.hex}")
    assert await listed(ada) == before
    told = await ada.one(DELETE_MANY, ids=list(ids.values()))
    assert told["deletedCount"] == 5
    assert [name for name, rows in (await listed(ada)).items() if rows] == ["tags"]


async def test_what_is_in_production_keeps_its_model_and_the_data_it_came_from(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    lists = await listed(ada)
    model, dataset = lists["models"][0], lists["datasets"][0]
    (version,) = await database.rows(text("SELECT id FROM model_versions"))
    blocked = await delete(ada, model)
    assert (blocked["reason"], blocked["ids"], blocked["count"]) == ("PRODUCTION", [f"mversion_{version.id.hex}"], 1)
    refused = await delete(ada, dataset)
    assert (refused["code"], refused["state"]) == ("WRONG_STATE", "IN_PRODUCTION")
    assert await listed(ada) == lists
    await ada.one(REMOVE_ALIAS, id=model)
    assert [(await delete(ada, id_))["deletedId"] for id_ in (dataset, model)] == [dataset, model]


async def test_many_are_deleted_at_once_each_told_and_as_often_as_one_likes(ada: Client, bob: Client, database: Database) -> None:
    ids = await first_of_each(ada, database)
    tag = (await listed(ada))["tags"][0].split()[0]
    others = [await bob.create_dataset("d"), "model_" + "0" * 32, f"user_{'0' * 32}", "nonsense"]
    sent = [ids["model"], tag, *others, ids["pipeline"], ids["model"]]
    first = await ada.one(DELETE_MANY, ids=sent)
    assert [result["subjectId"] for result in first["results"]] == sent
    assert [result["isDeleted"] for result in first["results"]] == [True, True, False, False, False, False, True, True]
    codes = [result["problem"] and result["problem"]["code"] for result in first["results"]]
    assert codes == [None, None, "NOT_FOUND", "NOT_FOUND", "UNSUPPORTED", "UNSUPPORTED", None, None]
    assert first["deletedCount"] == 4
    assert [result["restorableUntil"] is None for result in first["results"]] == [False, True, True, True, True, True, False, False]
    second = await ada.one(DELETE_MANY, ids=[ids["pipeline"], ids["model"]])
    assert second["results"] == [first["results"][6], first["results"][0]], "what was deleted before is told as it was then"
    assert len(await deleted(ada)) == 2
    assert (await ada.one(DELETE_MANY, ids=[]))["code"] == "INVALID_INPUT"
    assert (await listed(ada))["datasets"] == [ids["dataset"]]


async def test_bytes_are_those_of_files_that_nothing_else_refers_to(ada: Client, database: Database) -> None:
    ids = await first_of_each(ada, database)
    await execute(database, "UPDATE stored_objects o SET reference_count = (SELECT count(*) FROM artifacts a WHERE a.object_id = o.id)")
    own = "SELECT sum(o.size_bytes) AS size FROM stored_objects o WHERE o.id IN (SELECT a.object_id FROM artifacts a {where})"
    of_version = "WHERE a.model_version_id IS NOT NULL OR a.export_id IN (SELECT id FROM exports WHERE model_version_id IS NOT NULL)"
    of_version += " OR a.explanation_id IS NOT NULL"
    (model,) = await database.rows(text(own.format(where=of_version)))
    await delete(ada, ids["model"])
    assert [each["bytes"] for each in await deleted(ada)] == [int(model.size)]
    await restore(ada, ids["model"])
    # The same bytes twice: the object has a reference from elsewhere.
    await execute(
        database,
        "INSERT INTO artifacts (owner_id, object_id, job_id, role, filename, content_type) SELECT a.owner_id, a.object_id, v.job_id, 'LOG', 'f', 't'"
        " FROM artifacts a JOIN model_versions v ON v.id = a.model_version_id",
    )
    await delete(ada, ids["model"])
    (shared,) = await database.rows(text(own.format(where="WHERE a.model_version_id IS NOT NULL")))
    assert [each["bytes"] for each in await deleted(ada)] == [int(model.size - shared.size)]


@pytest.mark.parametrize("kind", ["pipeline", "experiment"])
async def test_no_run_begins_on_what_is_being_deleted(ada: Client, worker: object, database: Database, kind: str) -> None:
    version = await ada.ingest("d", "a,b\n" + "".join(f"{row},{row % 7}\n" for row in range(20)))
    train = (("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
    endings: set[str] = set()
    for attempt in range(6):
        pipeline = (await ada.create_pipeline(f"p{attempt}", *train))["pipeline"]["id"]
        create = (
            "mutation($name: String!) { createExperiment(input: {name: $name}) { ... on CreateExperimentPayload { experiment { id } } } }"
        )
        experiment = (await ada.one(create, name=f"e{attempt}"))["experiment"]["id"]
        target = {"pipeline": pipeline, "experiment": experiment}[kind]
        started, removed = await asyncio.gather(ada.run_pipeline(pipeline, version, experimentId=experiment), delete(ada, target))
        if "job" in started:
            job = started["job"]["id"]
            if "deletedId" in removed:  # the job was faster than the deletion
                ends = select(Deletion.created_at, Job.completed_at).where(Deletion.id == key_of(target), Job.id == key_of(job))
                (times,) = await database.rows(ends)
                assert times.completed_at < times.created_at, (started, removed)
            else:
                assert removed["reason"] == "JOBS", (started, removed)
                await ada.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job)
            endings.add("began")
        else:
            assert (started["code"], removed["deletedId"]) == ("NOT_FOUND", target)
            endings.add("deleted")
    assert endings


async def test_a_job_on_what_was_deleted_is_not_done_again(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", "a,b\n" + "".join(f"{row},{row % 7}\n" for row in range(20)))
    pipeline = await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
    started = await ada.run_pipeline(pipeline["pipeline"]["id"], version)
    job = started["job"]["id"]
    assert (await ada.wait(job))["status"] == "COMPLETED"
    (experiment,) = (await listed(ada))["experiments"]
    retry = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on Problem { code message } } }"
    for id_ in (pipeline["pipeline"]["id"], experiment):
        await delete(ada, id_)
        refused = await ada.one(retry, id=job)
        assert (refused["code"], "was deleted" in refused["message"]) == ("WRONG_STATE", True)
        await restore(ada, id_)
    assert (await ada.one(retry, id=job))["__typename"] == "RetryJobPayload"
