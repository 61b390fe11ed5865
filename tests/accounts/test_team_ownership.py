"""What a team owns: its members see it, those who may write change it, and it counts in the limits of the team's maker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, update

from db.core.viewer import SYSTEM, AccountKind, UserRole
from db.core.work import Database
from db.services import accounts, credits, jobs
from db.settings import state_settings
from db.tables import CreditTransaction, Dataset, Job, User, Worker
from db.tables.billing import TransactionType
from db.tables.jobs import JobKind
from tests.accounts.test_teams import join, leave
from tests.client import Client, GraphQLErrors

MakeClient = Callable[..., Awaitable[Client]]
CSV = "x,label\n" + "".join(f"{i},{'a' if i % 3 else 'b'}\n" for i in range(30))
DEFINITION: dict[str, Any] = {"nodes": [{"key": "data", "step": "dataset", "parameters": {}}], "links": []}
NO_TEAM = "There is no team with this id that you are in. Leave it out to be the owner yourself."
OWN = "{ owner { username } createdBy { username } }"
CREATE = {
    "createDataset": f"... on CreateDatasetPayload {{ dataset {OWN} }}",
    "createPipeline": f"... on CreatePipelinePayload {{ pipeline {OWN} }}",
    "createExperiment": f"... on CreateExperimentPayload {{ experiment {OWN} }}",
}


def key_of(id: str) -> UUID:
    return UUID(id.rpartition("_")[2])


async def make_team(database: Database, maker: str, username: str = "bearings") -> str:
    """Make a team as `createTeam` does; return its id."""
    async with database.work(SYSTEM) as work:
        maker_id: UUID = await work.scalar(select(User.id).where(User.username == maker))
        values = {"kind": AccountKind.TEAM, "created_by_id": maker_id, "email": f"{username}@teams.invalid", "username": username}
        made = insert(User).values(role=UserRole.MEMBER, storage_quota_bytes=0, **values)
        team_id: UUID = await work.scalar(made.returning(User.id))
    team = f"user_{team_id.hex}"
    await join(database, team, maker, UserRole.ADMIN)
    return team


@pytest.fixture
async def team(ada: Client, bob: Client, database: Database) -> str:
    """A team that Ada made and that Bob is a MEMBER of."""
    team = await make_team(database, "ada")
    await join(database, team, "bob", UserRole.MEMBER)
    return team


@pytest.fixture
async def cleo(team: str, make_client: MakeClient, database: Database) -> Client:
    """A VIEWER of the team."""
    client = await make_client("cleo")
    await join(database, team, "cleo", UserRole.VIEWER)
    return client


async def create(client: Client, mutation: str, **input: Any) -> dict[str, Any]:
    kind = mutation[0].upper() + mutation[1:]
    if mutation == "createPipeline":
        input["definition"] = DEFINITION
    query = (
        f"mutation($input: {kind}Input!) {{ {mutation}(input: $input) {{ __typename {CREATE[mutation]} ... on Problem {{ code message }}"
    )
    query += " ... on InvalidInput { issues { path message } } } }"
    return await client.one(query, input=input)


@pytest.mark.parametrize(
    ("mutation", "field"), [("createDataset", "dataset"), ("createPipeline", "pipeline"), ("createExperiment", "experiment")]
)
async def test_members_make_what_the_team_owns(
    mutation: str, field: str, team: str, ada: Client, bob: Client, cleo: Client, reader: Client, admin: Client, database: Database
) -> None:
    made = await create(bob, mutation, name="Ours", ownerId=team)
    assert made[field] == {"owner": {"username": "bearings"}, "createdBy": {"username": "bob"}}
    own = await create(bob, mutation, name="Ours")
    assert own[field] == {"owner": {"username": "bob"}, "createdBy": {"username": "bob"}}
    assert (await create(ada, mutation, name="ours", ownerId=team))["code"] == "NAME_TAKEN"
    with pytest.raises(GraphQLErrors) as refused:
        await create(cleo, mutation, name="Hers", ownerId=team)
    assert refused.value.codes == ["FORBIDDEN"]
    bob_id = (await bob.one("{ viewer { id } }"))["id"]
    job = f"job_{key_of(team).hex}"
    for client, other in ((admin, team), (ada, bob_id), (ada, "user_" + "0" * 32), (ada, job)):
        answer = await create(client, mutation, name="Theirs", ownerId=other)
        assert (answer["code"], answer["issues"]) == ("INVALID_INPUT", [{"path": ["ownerId"], "message": NO_TEAM}])
    listed = f"{{ {field}s {{ totalCount edges {{ node {{ name owner {{ username }} }} }} }} }}"
    owners = {
        name: [edge["node"]["owner"]["username"] for edge in (await client.one(listed))["edges"]]
        for name, client in (("ada", ada), ("bob", bob), ("cleo", cleo), ("reader", reader))
    }
    assert owners == {"ada": ["bearings"], "bob": ["bob", "bearings"], "cleo": ["bearings"], "reader": []}


async def test_who_only_sees_changes_nothing(team: str, ada: Client, bob: Client, cleo: Client, database: Database) -> None:
    dataset = await bob.create_dataset("Ours", ownerId=team)
    pipeline = (await bob.create_pipeline("Ours", ("data", "dataset", {}), ownerId=team))["pipeline"]["id"]
    upload = (await bob.request_upload(dataset, "d.csv", b"a,b\n1,2\n"))["upload"]
    await bob.put(upload, b"a,b\n1,2\n")
    async with database.work(SYSTEM) as work:
        job = await jobs.submit(work, jobs.NewJob(key_of(team), JobKind.EXPORT, "nobody"))
    attempts = {
        "updateDataset": {"id": dataset, "name": "Mine"},
        "deleteDataset": {"id": dataset},
        "requestUpload": {"datasetId": dataset, "filename": "d.csv", "sizeBytes": 8},
        "completeUpload": {"uploadId": upload["id"]},
        "updatePipeline": {"id": pipeline, "name": "Mine"},
        "cancelJob": {"id": f"job_{job.id.hex}"},
        "cancelJobs": {"ids": [f"job_{job.id.hex}"]},
    }
    state = select(Dataset.name, Dataset.deleted_at, Dataset.updated_at, Dataset.last_number)
    before = await database.rows(state)
    for mutation, values in attempts.items():
        kind = mutation[0].upper() + mutation[1:]
        query = f"mutation($input: {kind}Input!) {{ {mutation}(input: $input) {{ __typename }} }}"
        with pytest.raises(GraphQLErrors) as refused:
            await cleo.one(query, input=values)
        assert refused.value.codes == ["FORBIDDEN"], mutation
    assert await database.rows(state) == before
    # A filter finds only what the viewer may stop.
    assert await cleo.one("mutation { cancelJobs(input: { filter: {} }) { ... on CancelJobsPayload { cancelledCount } } }") == {
        "cancelledCount": 0
    }
    assert (await cleo.one("query($id: ID!) { job(id: $id) { status } }", id=f"job_{job.id.hex}"))["status"] == "PENDING"
    assert (await bob.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=f"job_{job.id.hex}")) == {
        "__typename": "CancelJobPayload"
    }


async def test_a_viewer_of_trellis_writes_in_no_team(team: str, reader: Client, database: Database) -> None:
    await join(database, team, "reader", UserRole.ADMIN)
    with pytest.raises(GraphQLErrors) as refused:
        await create(reader, "createDataset", name="Theirs", ownerId=team)
    assert refused.value.codes == ["FORBIDDEN"]


async def test_a_list_over_several_accounts_is_one_list(
    team: str, ada: Client, bob: Client, database: Database, capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    other = await make_team(database, "ada", "other")
    ada_id = (await ada.one("{ viewer { id } }"))["id"]
    async with database.work(SYSTEM) as work:
        for number in range(30):
            owner = key_of((team, ada_id, other, team)[number % 4])
            values = {"owner_id": owner, "name": f"d{number:02}", "modality": "tabular", "source": "upload"}
            await work.run(insert(Dataset).values(created_at=func.now() + func.make_interval(0, 0, 0, 0, 0, 0, number), **values))
    names = [f"d{number:02}" for number in range(30)]

    async def walk(order: str, *, backward: bool) -> list[str]:
        collected: list[str] = []
        cursor = None
        while True:
            arguments = f"last: 7, before: {cursor}" if backward else f"first: 7, after: {cursor}"
            arguments = arguments.replace("'", '"') if cursor else arguments.partition(",")[0]
            page = await ada.one(
                f"{{ datasets({arguments}, orderBy: {order}) {{ totalCount edges {{ node {{ name }} }}"
                " pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
            )
            assert page["totalCount"] == 30
            found, info = [edge["node"]["name"] for edge in page["edges"]], page["pageInfo"]
            collected = [*found, *collected] if backward else [*collected, *found]
            assert info["hasPreviousPage" if not backward else "hasNextPage"] is (cursor is not None)
            if not info["hasPreviousPage" if backward else "hasNextPage"]:
                return collected
            cursor = repr(info["startCursor" if backward else "endCursor"])

    with capture_statements() as sent:
        for field in ("CREATED_AT", "NAME"):
            for backward in (False, True):
                assert await walk(f"{{field: {field}, direction: ASC}}", backward=backward) == names
                assert await walk(f"{{field: {field}, direction: DESC}}", backward=backward) == names[::-1]
    pages = [statement for statement in sent if "ORDER BY" in statement]
    assert pages
    assert all("JOIN LATERAL" in statement for statement in pages), "the first rows of each account are merged"
    filtered = await ada.one('{ datasets(filter: {name: {startsWith: "d0"}}, first: 3) { totalCount edges { node { name } } } }')
    assert filtered == {"totalCount": 10, "edges": [{"node": {"name": name}} for name in ("d09", "d08", "d07")]}
    assert (await bob.one("{ datasets { totalCount } }")) == {"totalCount": 15}
    with capture_statements() as sent:
        await leave(database, team, "bob")
        assert (await bob.one("{ datasets { totalCount edges { node { name } } } }")) == {"totalCount": 0, "edges": []}
    assert not any("unnest" in statement for statement in sent if "FROM datasets" in statement), "who is in no team reads one index"


@pytest.mark.exhaustive
async def test_what_runs_on_what_a_team_owns_belongs_to_it(
    team: str, ada: Client, bob: Client, cleo: Client, reader: Client, worker: object, database: Database
) -> None:
    version = await bob.ingest("Ours", CSV, targetColumn="label", problemType="CLASSIFICATION", ownerId=team)
    training = ("train", "train_random_forest", {"target": "label"})
    pipeline = (await bob.create_pipeline("Ours", ("data", "dataset", {}), training, ownerId=team))["pipeline"]["id"]
    own = (await bob.create_pipeline("His", ("data", "dataset", {}), training))["pipeline"]["id"]
    mixed = await bob.run_pipeline(own, version)
    assert (mixed["code"], mixed["issues"][0]["path"]) == ("INVALID_INPUT", ["datasetVersionId"])
    started = await bob.run_pipeline(pipeline, version)
    job = started["job"]["id"]
    assert (await cleo.wait(job))["status"] == "COMPLETED"
    query = f"query($id: ID!) {{ job(id: $id) {{ owner {{ username }} createdBy {{ username }} run {{ owner {{ username }} modelVersion {{ model {OWN} }} }} }} }}"
    bearings = {"username": "bearings"}
    expected = {
        "owner": bearings,
        "createdBy": {"username": "bob"},
        "run": {"owner": bearings, "modelVersion": {"model": {"owner": bearings, "createdBy": {"username": "bob"}}}},
    }
    for client in (ada, bob, cleo):
        assert await client.one(query, id=job) == expected
    assert await reader.one(query, id=job) is None
    downloads = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { rawFile { downloadUrl } } } }"
    assert (await cleo.one(downloads, id=version))["rawFile"]["downloadUrl"].startswith("http")
    counts = "query($id: ID!) { user(id: $id) { stats { datasets pipelines models experiments jobs } } }"
    stats = {"datasets": 1, "pipelines": 1, "models": 1, "experiments": 1, "jobs": 2}
    assert await cleo.one(counts, id=team) == {"stats": stats}
    await leave(database, team, "cleo")
    assert await cleo.one(query, id=job) is None
    assert await cleo.one(downloads, id=version) is None
    assert await cleo.one(counts, id=team) is None


async def test_a_team_without_a_quota_counts_in_the_limits_of_its_maker(
    team: str, ada: Client, bob: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "storage_quota_bytes", 100)
    size = "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { __typename ... on QuotaExceeded { limit used } } }"
    ours, hers = await bob.create_dataset("Ours", ownerId=team), await ada.create_dataset("Hers")

    async def upload(client: Client, dataset: str, bytes: int) -> dict[str, Any]:
        return await client.one(size, input={"datasetId": dataset, "filename": "d.csv", "sizeBytes": bytes})

    assert await upload(bob, ours, 60) == {"__typename": "RequestUploadPayload"}
    assert await upload(ada, hers, 41) == {"__typename": "QuotaExceeded", "limit": 100, "used": 60}
    assert await upload(ada, hers, 40) == {"__typename": "RequestUploadPayload"}
    assert await upload(bob, ours, 1) == {"__typename": "QuotaExceeded", "limit": 100, "used": 100}
    await leave(database, team, "ada")
    assert await upload(bob, ours, 1) == {"__typename": "QuotaExceeded", "limit": 0, "used": 60}
    assert await upload(ada, hers, 60) == {"__typename": "RequestUploadPayload"}
    await join(database, team, "ada", UserRole.ADMIN)
    async with database.work(SYSTEM) as work:
        await accounts.set_quota(work, "bearings@teams.invalid", 70)
    assert await upload(bob, ours, 11) == {"__typename": "QuotaExceeded", "limit": 70, "used": 60}
    assert await upload(bob, ours, 10) == {"__typename": "RequestUploadPayload"}
    assert await upload(ada, hers, 1) == {"__typename": "QuotaExceeded", "limit": 100, "used": 100}


async def test_the_maker_pays_for_a_team_without_a_quota(
    team: str, ada: Client, bob: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "credit_prices", {"EXPORT": 3})
    ada_id, bob_id = [key_of((await client.one("{ viewer { id } }"))["id"]) for client in (ada, bob)]
    async with database.work(SYSTEM) as work:
        for account, amount in ((ada_id, 5), (bob_id, 5)):
            await credits.grant(work, credits.Grant(account, TransactionType.PURCHASE, amount))
    submitted = jobs.NewJob(key_of(team), JobKind.EXPORT, "nobody")
    async with database.work(SYSTEM) as work:
        job = await jobs.submit(work, submitted)
    assert (await ada.one("{ viewer { creditBalance creditsHeld } }")) == {"creditBalance": 2, "creditsHeld": 3}
    assert (await bob.one("{ viewer { creditBalance creditsHeld } }")) == {"creditBalance": 5, "creditsHeld": 0}
    async with database.work(SYSTEM) as work:
        await jobs.cancel(work, job.id)
        await accounts.set_quota(work, "bearings@teams.invalid", 1)
        await credits.grant(work, credits.Grant(key_of(team), TransactionType.PURCHASE, 4))
    async with database.work(SYSTEM) as work:
        await jobs.submit(work, submitted)
    assert (await ada.one("{ viewer { creditBalance creditsHeld } }")) == {"creditBalance": 5, "creditsHeld": 0}
    balance = "query($id: ID!) { user(id: $id) { creditBalance creditsHeld } }"
    assert (await bob.one(balance, id=team)) == {"creditBalance": 1, "creditsHeld": 3}
    lines = select(CreditTransaction.owner_id, CreditTransaction.amount).where(CreditTransaction.job_id.is_not(None))
    ledger = await database.rows(lines.order_by(CreditTransaction.id))
    assert [tuple(line) for line in ledger] == [(ada_id, -3), (ada_id, 3), (key_of(team), -3)]


@pytest.fixture
async def idle_worker(database: Database) -> AsyncGenerator[UUID]:
    async with database.work(SYSTEM) as work:
        worker_id = await work.scalar(insert(Worker).values(name="idle", queues=["teams"], slots=100).returning(Worker.id))
    yield worker_id


async def test_the_jobs_of_a_team_without_a_quota_take_the_turns_of_its_maker(
    team: str, ada: Client, database: Database, idle_worker: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "user_concurrency_limits", {"free": 1})
    ada_id = key_of((await ada.one("{ viewer { id } }"))["id"])
    async with database.work(SYSTEM) as work:
        of_team, of_ada = [(await jobs.submit(work, jobs.NewJob(owner, JobKind.EXPORT, "teams"))).id for owner in (key_of(team), ada_id)]

    async def claim(job_id: UUID) -> bool:
        async with database.work(SYSTEM) as work:
            return await jobs.claim(work, job_id, idle_worker, "idle", 60.0) is not None

    assert await claim(of_team)
    assert not await claim(of_ada)
    reason = "query($id: ID!) { job(id: $id) { waitReason } }"
    assert await ada.one(reason, id=f"job_{of_ada.hex}") == {"waitReason": "CONCURRENCY"}
    async with database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == of_team).values(payer_id=None))
    assert await claim(of_ada), "an account of its own has turns of its own"


async def test_who_leaves_a_team_loses_what_they_watch(team: str, bob: Client, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        job = await jobs.submit(work, jobs.NewJob(key_of(team), JobKind.EXPORT, "nobody"))
    query = "subscription($id: ID!) { jobEvents(id: $id) { sequence } }"
    async with bob.socket() as (send, receive):
        await send({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": {"id": f"job_{job.id.hex}"}}})
        assert (await receive())["payload"] == {"data": {"jobEvents": {"sequence": 1}}}
        await leave(database, team, "bob")
        async with asyncio.timeout(60):
            message = await receive()
    errors = message["payload"]["errors"] if message["type"] == "next" else message["payload"]
    assert [error["extensions"]["code"] for error in errors] == ["NOT_FOUND"]


async def test_former_members_see_no_events_of_the_team(team: str, bob: Client, database: Database) -> None:
    await bob.create_dataset("Ours", ownerId=team)
    await bob.create_dataset("His")
    events = "{ auditEvents { totalCount edges { node { action owner { username } } } } }"
    of_both = [{"node": {"action": "create_dataset", "owner": {"username": name}}} for name in ("bob", "bearings")]
    assert await bob.one(events) == {"totalCount": 2, "edges": of_both}
    await leave(database, team, "bob")
    assert await bob.one(events) == {"totalCount": 1, "edges": of_both[:1]}
