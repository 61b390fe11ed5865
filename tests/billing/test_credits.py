"""Credits are held when a job is submitted, charged when it completes, released when it ends otherwise, each exactly once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text, update

from db.core.viewer import SYSTEM, UserTier
from db.errors import InsufficientCredits, StateError
from db.services import jobs
from db.tables import Job, User
from db.tables.billing import TransactionType
from db.tables.jobstates import JobStatus
from tests.billing.conftest import BillingDriver
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.factories import platform
from tests.workers.worker_harness import WorkerHarness

ACCOUNT = "{ viewer { creditBalance creditsHeld } }"
RUN = """mutation($input: RunPipelineInput!) { runPipeline(input: $input) { __typename ... on RunPipelinePayload { job { id creditCost } }
  ... on InsufficientCredits { code message required available } } }"""
RETRY = """mutation($input: RetryJobInput!) { retryJob(input: $input) { __typename ... on RetryJobPayload { job { id creditCost } run { id } }
  ... on InsufficientCredits { code message required available } } }"""
CANCEL = """mutation($id: ID!) { cancelJob(input: {id: $id}) { ... on CancelJobPayload { job { status creditCost } } } }"""
JOB = "query($id: ID!) { job(id: $id) { status creditCost credits { held charged } } }"
SCALE = (("data", "dataset", {}), ("scale", "scale", {}))
WRITTEN_TABLES = (
    "jobs",
    "job_events",
    "job_inputs",
    "runs",
    "datasets",
    "dataset_versions",
    "pipeline_snapshots",
    "idempotency_keys",
    "credit_transactions",
)


async def balances(client: Client) -> tuple[int, int]:
    viewer = await client.one(ACCOUNT)
    return viewer["creditBalance"], viewer["creditsHeld"]


async def row_counts(till: BillingDriver) -> dict[str, int]:
    return {table: (await till.database.rows(text(f"SELECT count(*) FROM {table}")))[0][0] for table in WRITTEN_TABLES}


async def seed_platform(till: BillingDriver, ada: Client) -> tuple[str, str, str]:
    """Create, for Ada, a pipeline that does not train, a READY version, and a completed training that no worker can claim."""
    database = till.database
    await platform.fill(database, "ada", 1)
    without_credits = "UPDATE users SET credit_balance = 0, credit_sequence = 0"
    await till.tamper(f"UPDATE jobs SET queue = '{till.queue}'", "DELETE FROM credit_transactions", without_credits)
    pipeline = (await ada.create_pipeline("scaling", *SCALE))["pipeline"]["id"]
    (row,) = await database.rows(
        text("SELECT v.id AS version, j.id AS job FROM dataset_versions v JOIN jobs j ON j.dataset_version_id = v.id")
    )
    return pipeline, f"version_{row.version.hex}", f"job_{row.job.hex}"


@pytest.mark.parametrize("credits", [40, exhaustive(500)])
async def test_of_many_spends_at_once_exactly_as_many_are_accepted_as_there_are_credits(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, credits: int
) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, credits)
    attempts = iter(range(4 * credits))

    outcomes = Counter[str]()

    async def spend() -> None:
        for _ in attempts:
            try:
                await billing.submit(ada_id)
                outcomes["accepted"] += 1
            except InsufficientCredits as error:
                outcomes[str(error)] += 1

    await asyncio.gather(*(spend() for _ in range(16)))
    assert outcomes == {"accepted": credits, str(InsufficientCredits(1, 0)): 3 * credits}
    assert await balances(ada) == (0, credits)
    assert await billing.job_count() == credits
    ledger = await billing.ledger(ada_id)
    assert [row.sequence for row in ledger] == list(range(1, credits + 2))
    assert [row.balance_after for row in ledger] == list(range(credits, -1, -1))
    assert len({row.job_id for row in ledger[1:]}) == credits


async def test_a_run_that_costs_more_than_there_is_writes_nothing(billing: BillingDriver, prices: Mapping[str, int], ada: Client) -> None:
    pipeline, version, _ = await seed_platform(billing, ada)
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 9)
    before = await row_counts(billing)
    request = {"pipelineId": pipeline, "datasetVersionId": version, "idempotencyKey": "once"}
    refused = await ada.one(RUN, input=request)
    assert refused == {
        "__typename": "InsufficientCredits",
        "code": "INSUFFICIENT_CREDITS",
        "message": "This takes 10 credits, and 9 can be spent. Wait for jobs under way to give back what they hold, or ask whoever runs this"
        " Trellis for more.",
        "required": 10,
        "available": 9,
    }
    assert await row_counts(billing) == before
    assert await balances(ada) == (9, 0)
    await billing.grant(ada_id, 1)
    accepted = await ada.one(RUN, input=request)
    assert accepted["job"]["creditCost"] == 10
    assert (await billing.entries(ada_id))[:3] == [("PURCHASE", 9, 0), ("PURCHASE", 1, 0), ("HOLD", -10, 10)]


async def test_a_retry_holds_anew_and_is_refused_like_a_run(billing: BillingDriver, prices: Mapping[str, int], ada: Client) -> None:
    _, _, training = await seed_platform(billing, ada)
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 30)
    before = await row_counts(billing)
    retried = await ada.one(RETRY, input={"id": training})
    assert retried["job"]["creditCost"] == 25
    assert retried["run"] is not None
    read = await ada.one(JOB, id=training)
    assert (read["creditCost"], read["credits"]) == (0, None), "the old job cost nothing, and that stays"
    assert (await ada.one(JOB, id=retried["job"]["id"]))["credits"] == {"held": 25, "charged": None}
    assert await balances(ada) == (5, 25)
    after = await row_counts(billing)
    assert (after["jobs"], after["runs"]) == (before["jobs"] + 1, before["runs"] + 1)
    refused = await ada.one(RETRY, input={"id": training, "idempotencyKey": "again"})
    assert (refused["__typename"], refused["required"], refused["available"]) == ("InsufficientCredits", 25, 5)
    assert await row_counts(billing) == after
    assert await billing.entries(ada_id) == [("PURCHASE", 30, 0), ("HOLD", -25, 25)]


async def test_the_same_request_twice_holds_once(billing: BillingDriver, prices: dict[str, int], ada: Client) -> None:
    pipeline, version, _ = await seed_platform(billing, ada)
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 10)
    request = {"pipelineId": pipeline, "datasetVersionId": version, "idempotencyKey": "once"}
    first, *others = await asyncio.gather(*(ada.one(RUN, input=request) for _ in range(5)))
    assert first["__typename"] == "RunPipelinePayload"
    assert others == [first] * 4
    prices["PROCESS"] = 99
    assert await ada.one(RUN, input=request) == first, "an idempotent repeat gets the result at any current price"
    assert [kind for kind, _, _ in await billing.entries(ada_id)].count("HOLD") == 1


async def test_a_completed_run_costs_what_was_held_for_it(
    billing: BillingDriver, prices: dict[str, int], ada: Client, worker: object
) -> None:
    version = await ada.ingest("d", "x,y\n1,2\n3,4\n")
    ada_id = await billing.user_id(ada)
    assert await billing.entries(ada_id) == [], "an ingest costs nothing"
    await billing.grant(ada_id, 12)
    pipeline = (await ada.create_pipeline("scaling", *SCALE))["pipeline"]["id"]
    job = (await ada.one(RUN, input={"pipelineId": pipeline, "datasetVersionId": version}))["job"]
    prices["PROCESS"] = 1
    assert (await ada.wait(job["id"]))["status"] == "COMPLETED"
    read = await ada.one(JOB, id=job["id"])
    assert (read["creditCost"], read["credits"]) == (10, {"held": 0, "charged": 10}), "the price when it was submitted"
    assert await balances(ada) == (2, 0)
    assert await billing.entries(ada_id) == [("PURCHASE", 12, 0), ("HOLD", -10, 10), ("CONSUMPTION", 0, -10)]
    (_, held, charged) = await billing.ledger(ada_id)
    assert held.job_id == charged.job_id == UUID(job["id"].removeprefix("job_"))
    assert (held.actor_id, charged.actor_id) == (ada_id, None), "the owner submitted it, and no user ended it"


async def test_what_costs_nothing_sends_no_statement_more(
    billing: BillingDriver, ada: Client, capture_statements: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada_id = await billing.user_id(ada)
    with capture_statements() as sent:
        job_id = await billing.submit(ada_id)
        async with billing.database.work(SYSTEM) as work:
            await jobs.cancel(work, job_id)
    assert not [statement for statement in sent if "credit_transactions" in statement or "UPDATE users" in statement]
    assert await billing.ledger(ada_id) == []


# Every way in which a job ends without completing


RELEASED = [("PURCHASE", 5, 0), ("HOLD", -1, 1), ("RELEASE", 1, -1)]


async def test_a_failed_job_costs_nothing_however_often_it_was_tried(
    harness_with_worker: WorkerHarness, billing: BillingDriver, prices: Mapping[str, int], owner: Client
) -> None:
    await billing.grant(harness_with_worker.owner_id, 5)
    job_id = await harness_with_worker.submit("fail", failure="transient")
    assert (await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)).tries == 3
    assert await balances(owner) == (5, 0)
    assert await billing.entries(harness_with_worker.owner_id) == RELEASED


async def test_a_cancelled_job_costs_nothing_whether_it_waited_or_ran(
    harness_with_worker: WorkerHarness, billing: BillingDriver, prices: Mapping[str, int], owner: Client
) -> None:
    await billing.grant(harness_with_worker.owner_id, 5)
    waiting = await billing.submit(harness_with_worker.owner_id)
    assert await balances(owner) == (4, 1)
    answers = await asyncio.gather(*(owner.one(CANCEL, id=f"job_{waiting.hex}") for _ in range(4)))
    assert {answer["job"]["status"] for answer in answers} == {"CANCELLED"}
    assert (await owner.one(JOB, id=f"job_{waiting.hex}"))["credits"] == {"held": 0, "charged": 0}
    assert await billing.entries(harness_with_worker.owner_id) == RELEASED
    assert (await billing.ledger(harness_with_worker.owner_id))[-1].actor_id == harness_with_worker.owner_id
    running = await harness_with_worker.submit("long")
    await harness_with_worker.wait_for_starts(running)
    await owner.one(CANCEL, id=f"job_{running.hex}")
    await harness_with_worker.wait_for_status(running, JobStatus.CANCELLED)
    assert await balances(owner) == (5, 0)
    assert await billing.entries(harness_with_worker.owner_id) == [*RELEASED, *RELEASED[1:]]


@pytest.mark.exhaustive
async def test_a_job_whose_workers_were_lost_costs_nothing(
    harness: WorkerHarness, billing: BillingDriver, prices: Mapping[str, int], owner: Client
) -> None:
    await billing.grant(harness.owner_id, 5)
    lost, cancelled = await harness.submit("long"), await harness.submit("long")
    async with billing.database.work(SYSTEM) as work:  # one loss below the limit: the next one fails the job, whichever worker reaps it
        await work.run(text("UPDATE jobs SET losses = 9"))
    worker = await harness.start_worker()
    await asyncio.gather(harness.wait_for_starts(lost), harness.wait_for_starts(cancelled))
    worker.send_signal(signal.SIGSTOP)  # the worker must not receive the cancel
    assert (await owner.one(CANCEL, id=f"job_{cancelled.hex}"))["job"]["status"] == "CANCELLING"
    assert await balances(owner) == (3, 2)
    worker.kill()
    await harness.start_worker()
    assert (await harness.wait_for_status(lost, JobStatus.FAILED)).error["code"] == "WORKER_LOST"
    await harness.wait_for_status(cancelled, JobStatus.CANCELLED)
    assert await balances(owner) == (5, 0)
    assert Counter(kind for kind, _, _ in await billing.entries(harness.owner_id)) == {"PURCHASE": 1, "HOLD": 2, "RELEASE": 2}


async def test_a_job_that_is_tried_again_is_charged_once(
    harness_with_worker: WorkerHarness, billing: BillingDriver, prices: Mapping[str, int]
) -> None:
    await billing.grant(harness_with_worker.owner_id, 5)
    job_id = await harness_with_worker.submit("print_lines", lines=1, pause=0, failures=2)
    assert (await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED, JobStatus.FAILED)).status is JobStatus.COMPLETED
    assert len(await harness_with_worker.effects(job_id)) == 1
    assert await billing.entries(harness_with_worker.owner_id) == [("PURCHASE", 5, 0), ("HOLD", -1, 1), ("CONSUMPTION", 0, -1)]


async def test_a_superseded_attempt_charges_nothing(billing: BillingDriver, prices: Mapping[str, int], ada: Client) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 5)
    job_id = await billing.submit(ada_id)
    first = await billing.claim(job_id, lease=0.0)
    assert await billing.sweep() == [job_id]
    second = await billing.claim(job_id)
    async with billing.database.work(SYSTEM) as work:
        assert await jobs.complete(work, first) is None
    assert await balances(ada) == (4, 1)
    for done in (True, False):
        async with billing.database.work(SYSTEM) as work:
            assert (await jobs.complete(work, second) is not None) is done
    assert await billing.entries(ada_id) == [("PURCHASE", 5, 0), ("HOLD", -1, 1), ("CONSUMPTION", 0, -1)]


@pytest.mark.exhaustive
async def test_ending_jobs_of_many_owners_at_once_never_deadlocks(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, bob: Client, admin: Client
) -> None:
    """A reaper and transactions that cancel one job of every owner in varying order run beside submits and settles: a deadlock fails here."""
    owner_ids = [await billing.user_id(client) for client in (ada, bob, admin)]
    for person in owner_ids:
        await billing.grant(person, 200)
    async with billing.database.work(SYSTEM) as work:
        await work.run(update(User).values(tier=UserTier.ENTERPRISE))  # no concurrency limit
    lost = [await billing.submit(person) for _ in range(20) for person in owner_ids]
    async with billing.database.work(SYSTEM) as work:
        await work.run(update(Job).values(losses=9))
    for job_id in lost:
        await billing.claim(job_id, lease=0.0)
    claims = [await billing.claim(await billing.submit(person)) for _ in range(10) for person in owner_ids]
    waiting = [
        [await billing.submit(owner_ids[(turn * step + at) % 3]) for at in range(0, 3 * step, step)]
        for turn in range(10)
        for step in (1, 2)
    ]

    async def settle(claim: jobs.Claim) -> None:
        async with billing.database.work(SYSTEM) as work:
            await jobs.complete(work, claim)

    async def cancel(job_ids: list[UUID]) -> None:
        async with billing.database.work(SYSTEM) as work:
            for job_id in job_ids:
                await jobs.cancel(work, job_id)

    submits = [billing.submit(person) for person in owner_ids for _ in range(3)]
    await asyncio.gather(billing.sweep(), *map(cancel, waiting[:10]), *map(settle, claims[:15]), *submits)
    await asyncio.gather(billing.sweep(), *map(cancel, waiting[10:]), *map(settle, claims[15:]))
    assert [await billing.balances(person) for person in owner_ids] == [(200 - 10 - 3, 3)] * 3


# The ledger


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credit_transactions SET note = 'x'",
        "DELETE FROM credit_transactions",
        "TRUNCATE credit_transactions CASCADE",
        "TRUNCATE users CASCADE",
    ],
)
async def test_the_ledger_is_only_ever_added_to(billing: BillingDriver, ada: Client, statement: str) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 5)
    with pytest.raises(Exception, match="of credit_transactions is refused: the ledger is only ever added to"):
        async with billing.database.work(SYSTEM) as work:
            await work.run(text(statement))
    assert await billing.entries(ada_id) == [("PURCHASE", 5, 0)]


async def test_what_a_job_costs_cannot_be_changed(billing: BillingDriver, prices: Mapping[str, int], ada: Client) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 5)
    await billing.submit(ada_id)
    with pytest.raises(Exception, match="what a job costs is held when it is submitted, and stays"):
        async with billing.database.work(SYSTEM) as work:
            await work.run(text("UPDATE jobs SET credit_cost = 0"))


@pytest.mark.parametrize(
    ("kind", "amount", "message"),
    [
        (TransactionType.PURCHASE, 0, "amount: A purchase is from 1 to"),
        (TransactionType.REFUND, -1, "amount: A refund is from 1 to"),
        (TransactionType.ADJUSTMENT, 0, "amount: An adjustment is from -1000000000000 to 1000000000000 credits, and not 0."),
        (TransactionType.ADJUSTMENT, -6, "This takes 6 credits, and 5 can be spent."),
        (TransactionType.PURCHASE, 10**13, "amount: A purchase is from 1 to"),
        (TransactionType.HOLD, 1, "type: A hold is written by jobs"),
    ],
)
async def test_an_operator_cannot_give_what_makes_no_sense(
    billing: BillingDriver, ada: Client, kind: TransactionType, amount: int, message: str
) -> None:
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 5)
    with pytest.raises(StateError, match=message):
        await billing.grant(ada_id, amount, kind)
    assert await billing.entries(ada_id) == [("PURCHASE", 5, 0)]


async def test_a_stranger_sees_nothing_of_it(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, bob: Client, admin: Client
) -> None:
    _, _, training = await seed_platform(billing, ada)
    await billing.grant(await billing.user_id(ada), 26)
    job = (await ada.one(RETRY, input={"id": training}))["job"]["id"]
    viewer_id = (await ada.one("{ viewer { id } }"))["id"]
    query = "query($id: ID!) { node(id: $id) { ... on User { creditBalance creditsHeld } ... on Job { creditCost } } }"
    assert [await bob.one(query, id=each) for each in (viewer_id, job)] == [None, None]
    assert await balances(bob) == (0, 0)
    assert [await admin.one(query, id=each) for each in (viewer_id, job)] == [{"creditBalance": 1, "creditsHeld": 25}, {"creditCost": 25}]


async def test_an_admin_who_does_what_is_anothers_again_spends_the_owners(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, admin: Client
) -> None:
    _, _, training = await seed_platform(billing, ada)
    ada_id, admin_id = await billing.user_id(ada), await billing.user_id(admin)
    await billing.grant(ada_id, 25)
    assert (await admin.one(RETRY, input={"id": training}))["job"]["creditCost"] == 25
    assert await balances(ada) == (0, 25)
    assert (await billing.ledger(ada_id))[-1].actor_id == admin_id
    assert await billing.entries(admin_id) == []
