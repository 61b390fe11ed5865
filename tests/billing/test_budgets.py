"""A budget limits what the jobs of a team, of an experiment or of a study may cost: what it allows is accepted, no job more, and its counters are exact."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from db.core.viewer import SYSTEM, UserRole, Viewer
from db.errors import BudgetExceeded
from db.services import jobs, maintenance
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables.jobs import JobKind
from tests.audit.test_events import events
from tests.billing.conftest import BillingDriver
from tests.billing.test_credits import RUN, seed_platform
from tests.billing.test_estimates import ESTIMATE
from tests.client import Client, GraphQLErrors
from tests.workers.worker_harness import run_maintenance

SET = """mutation($id: ID!, $credits: BigInt) { setBudget(input: {id: $id, credits: $credits}) { __typename ... on Problem { code message }
  ... on SetBudgetPayload { budget { limit held charged } study { budget { maxCredits held charged } } } } }"""
CREATE_EXPERIMENT = 'mutation { createExperiment(input: {name: "bearings"}) { ... on CreateExperimentPayload { experiment { id } } } }'
OF_EXPERIMENT = "query($id: ID!) { experiment(id: $id) { budget { limit held charged } } }"
OF_TEAM = "query($id: ID!) { user(id: $id) { budget { limit held charged } } }"
SignIn = Callable[[str], Awaitable[Client]]


async def submit_run(billing: BillingDriver, owner_id: UUID, experiment_id: UUID) -> UUID:
    """Submit a job that costs what an EXPORT does, with a run in the experiment, to a queue without workers."""
    add_run = text(
        "WITH numbered AS (UPDATE experiments SET last_number = last_number + 1 WHERE id = :experiment RETURNING id, owner_id, last_number)"
        " INSERT INTO runs (owner_id, experiment_id, number, seed, job_id) SELECT owner_id, id, last_number, 0, :job FROM numbered"
    )
    async with billing.database.work(Viewer(owner_id, UserRole.MEMBER)) as work:
        job_id = (await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, billing.queue))).id
        await work.run(add_run, {"experiment": experiment_id, "job": job_id})
    return job_id


async def experiment_of(client: Client) -> tuple[str, UUID]:
    experiment = (await client.one(CREATE_EXPERIMENT))["experiment"]["id"]
    return experiment, UUID(experiment.removeprefix("experiment_"))


async def create_team(client: Client) -> str:
    document = 'mutation { createTeam(input: {name: "Bearings", username: "bearings"}) { ... on CreateTeamPayload { team { id } } } }'
    return (await client.one(document))["team"]["id"]


async def complete(billing: BillingDriver, job_id: UUID) -> None:
    claim = await billing.claim(job_id)
    async with billing.database.work(SYSTEM) as work:
        await jobs.complete(work, claim)


async def cancel(billing: BillingDriver, job_id: UUID) -> None:
    async with billing.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)


async def test_an_experiment_accepts_what_its_budget_allows_and_names_it_then(
    billing: BillingDriver, prices: dict[str, int], ada: Client, admin: Client
) -> None:
    ada_id, (experiment, key) = await billing.user_id(ada), await experiment_of(ada)
    await billing.grant(ada_id, 100)
    assert await ada.one(OF_EXPERIMENT, id=experiment) == {"budget": None}
    await submit_run(billing, ada_id, key)
    assert (await ada.one(SET, id=experiment, credits=3))["budget"] == {"limit": 3, "held": 0, "charged": 0}, "it counts from now on"
    done, cancelled, _ = [await submit_run(billing, ada_id, key) for _ in range(3)]
    before = await billing.balances(ada_id)
    with pytest.raises(BudgetExceeded) as refused:
        await submit_run(billing, ada_id, key)
    assert str(refused.value) == (
        "This takes 1 credit, and the budget of the experiment 'bearings' leaves 0 of its 3. Wait for jobs under way to give back what they hold,"
        " or raise it with `setBudget`."
    )
    assert await billing.balances(ada_id) == before
    await billing.submit(ada_id)  # of no experiment
    await complete(billing, done)
    await cancel(billing, cancelled)
    assert await ada.one(OF_EXPERIMENT, id=experiment) == {"budget": {"limit": 3, "held": 1, "charged": 1}}
    other = (await ada.one(CREATE_EXPERIMENT.replace("bearings", "other")))["experiment"]["id"]
    await billing.tamper(f"UPDATE runs SET experiment_id = '{UUID(other.removeprefix('experiment_'))}' WHERE experiment_id = '{key}'")
    last = await submit_run(billing, ada_id, key)
    await complete(billing, last)
    assert (await ada.one(SET, id=experiment, credits=None))["budget"] == {"limit": None, "held": 1, "charged": 2}, (
        "also of runs that were moved"
    )
    await submit_run(billing, ada_id, key)
    assert (await ada.one(SET, id=experiment, credits=1))["budget"] == {"limit": 1, "held": 2, "charged": 2}, "less than it has cost"
    with pytest.raises(BudgetExceeded):
        await submit_run(billing, ada_id, key)
    assert [event["after"] for event in await events(admin, "after", action=["set_budget"])] == [
        {"maxCredits": 3},
        {"maxCredits": None},
        {"maxCredits": 1},
    ]


async def test_all_jobs_of_a_team_count_in_its_budget(
    billing: BillingDriver, prices: dict[str, int], ada: Client, bob: Client, reader: Client, sign_in: SignIn
) -> None:
    ada_id, team = await billing.user_id(ada), await create_team(await sign_in("ada"))
    team_id = UUID(team.removeprefix("user_"))
    await billing.grant(ada_id, 100)  # who made the team pays for its jobs
    await billing.tamper(
        f"INSERT INTO memberships (team_id, user_id, role) SELECT '{team_id}', id, 'member' FROM users WHERE username = 'bob'"
    )
    assert (await ada.one(SET, id=team, credits=2))["budget"] == {"limit": 2, "held": 0, "charged": 0}
    with pytest.raises(GraphQLErrors) as refused:
        await bob.one(SET, id=team, credits=9)
    assert refused.value.codes == ["FORBIDDEN"]
    for foreign in (await billing.user_id(reader), team_id):
        assert (await reader.one(OF_TEAM, id=f"user_{foreign.hex}") or {"budget": None})["budget"] is None
    assert (await bob.one(OF_TEAM, id=team))["budget"]["limit"] == 2
    for _ in range(2):
        await billing.submit(team_id)
    with pytest.raises(BudgetExceeded, match="the team 'bearings' leaves 0 of its 2"):
        await billing.submit(team_id)
    await billing.submit(ada_id)
    unknown = (f"user_{ada_id.hex}", "experiment_" + "0" * 32, "x", "job_" + "0" * 32)
    answers = [(await ada.one(SET, id=each, credits=1))["code"] for each in unknown]
    assert answers == ["NOT_FOUND"] * 4
    assert (await ada.one(SET, id=team, credits=-1))["code"] == "INVALID_INPUT"


async def test_a_run_that_a_budget_does_not_allow_is_told_by_its_estimate_and_its_mutation(
    billing: BillingDriver, prices: dict[str, int], ada: Client
) -> None:
    pipeline, version, _ = await seed_platform(billing, ada)
    ada_id = await billing.user_id(ada)
    await billing.grant(ada_id, 100)
    await billing.tamper("DELETE FROM credit_budget_jobs", f"UPDATE credit_budgets SET max_credits = 9 WHERE owner_id = '{ada_id}'")
    request = {"pipelineId": pipeline, "datasetVersionId": version}
    estimate = await ada.one(ESTIMATE, input=request)
    assert (estimate["credits"], estimate["available"], estimate["isAffordable"]) == (10, 9, False)
    before = await billing.job_count()
    refused = await ada.one(RUN, input=request)
    assert refused["__typename"] == "InsufficientCredits"
    assert (await billing.balances(ada_id), await billing.job_count()) == ((100, 0), before)


async def test_many_submits_and_ends_at_once_leave_exact_counters(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client, settings: StateSettings
) -> None:
    ada_id, (experiment, key) = await billing.user_id(ada), await experiment_of(ada)
    other = (await ada.one(CREATE_EXPERIMENT.replace("bearings", "other")))["experiment"]["id"]
    keys = [key, UUID(other.removeprefix("experiment_"))]
    await billing.grant(ada_id, 200)
    for each, credits in ((experiment, 8), (other, 100)):
        assert (await ada.one(SET, id=each, credits=credits))["budget"]
    of_account = f"INSERT INTO credit_budgets (owner_id, max_credits) VALUES ('{ada_id}', 14)"  # as a team has one
    await billing.tamper(of_account)
    accepted: list[UUID] = []
    outcomes = Counter[str]()

    at_once = asyncio.Semaphore(12)  # of a pool with 20 connections

    async def submit(experiment_id: UUID) -> None:
        try:
            async with at_once:
                accepted.append(await submit_run(billing, ada_id, experiment_id))
        except BudgetExceeded as error:
            outcomes[error.subject] += 1

    await asyncio.gather(*(submit(keys[number % 2]) for number in range(40)))
    assert len(accepted) == 14
    assert sum(outcomes.values()) == 26
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    chance.shuffle(accepted)
    claims = [await billing.claim(job_id) for job_id in accepted[:5]]

    async def end(claim: Any) -> None:
        async with at_once, billing.database.work(SYSTEM) as work:
            await jobs.complete(work, claim)

    async def cancelled(job_id: UUID) -> None:
        async with at_once:
            await cancel(billing, job_id)

    actions = [*map(end, claims), *(cancelled(job_id) for job_id in accepted[5:9]), *(submit(chance.choice(keys)) for _ in range(20))]
    chance.shuffle(actions)
    await asyncio.gather(*actions)
    async with ObjectStore.open(settings) as objects:
        context = maintenance.MaintenanceContext(billing.database, objects, settings)
        assert (await run_maintenance(context, "reconcile_credits")).changed == 0
        (account,) = await billing.database.rows(text("SELECT held, charged FROM credit_budgets WHERE experiment_id IS NULL"))
        assert (account.charged, account.held + account.charged <= 14) == (5, True)
        await billing.tamper("UPDATE credit_budgets SET held = held + 1 WHERE experiment_id IS NULL")
        with capture_logs() as logs:
            assert (await run_maintenance(context, "reconcile_credits")).changed == 1
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["credit_budget_mismatched"]


async def test_a_job_that_is_given_up_with_its_worker_gives_back_what_it_held(
    billing: BillingDriver, prices: Mapping[str, int], ada: Client
) -> None:
    ada_id, (experiment, key) = await billing.user_id(ada), await experiment_of(ada)
    await billing.grant(ada_id, 9)
    await ada.one(SET, id=experiment, credits=2)
    lost = [await submit_run(billing, ada_id, key) for _ in range(2)]
    for job_id in lost:
        await billing.claim(job_id, lease=0.0)
    await billing.sweep(max_losses=0)
    assert await ada.one(OF_EXPERIMENT, id=experiment) == {"budget": {"limit": 2, "held": 0, "charged": 0}}
    assert await billing.balances(ada_id) == (9, 0)
