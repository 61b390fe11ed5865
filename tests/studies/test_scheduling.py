"""Scheduling by hand, with trials that no worker takes: how many there are at once, what they cost, and what a study that was left catches up with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select
from sqlalchemy import update as update_rows

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import credits, jobs, workers
from db.services.studies import scheduling
from db.settings import state_settings
from db.tables import Study, Trial
from db.tables.billing import TransactionType
from db.tables.jobs import JobKind
from tests.client import Client
from tests.endings import key_of
from tests.studies.searching import ALPHAS, STUDY, change, created, ridge

QUEUE = f"studies-{uuid4()}"
ACCOUNT = "{ viewer { creditBalance creditsHeld } }"
UPDATE = """mutation($id: ID!, $budget: StudyBudgetInput!) { updateStudy(input: {id: $id, budget: $budget}) { __typename
  ... on InvalidInput { issues { path message } } } }"""


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch, worker: object) -> None:
    """Trials wait in a queue that no worker serves; other jobs do not."""
    queue_for = jobs.queue_for
    monkeypatch.setattr(jobs, "queue_for", lambda kind, modality: QUEUE if kind is JobKind.TRAIN else queue_for(kind, modality))


async def waiting(database: Database, study: str) -> list[int]:
    """The numbers of the trials that have not ended."""
    statement = select(Trial.number).where(Trial.study_id == key_of(study), Trial.status == "pending").order_by(Trial.number)
    return [row.number for row in await database.rows(statement)]


async def end(database: Database, study: str, number: int, value: float | None = 1.0) -> None:
    """End the job of a trial as a worker does: completed with a value, or failed without one; scheduling follows."""
    (trial,) = await database.rows(select(Trial.id, Trial.job_id).where(Trial.study_id == key_of(study), Trial.number == number))
    async with database.work(SYSTEM) as work:
        name = f"idle-{uuid4().hex[:8]}"
        worker = await workers.register(work, name, [QUEUE], 1)
        job = await jobs.claim(work, trial.job_id, worker, name, 60.0)
        assert job is not None
        claim = jobs.Claim(job.id, job.attempt, worker)
    async with database.work(SYSTEM) as work:
        if value is None:
            failure = jobs.Failure("NO_OBJECTIVE", "No value.", retryable=False)
            await jobs.fail(work, claim, failure, 1, 1, jobs.Backoff())
        else:
            await work.run(update_rows(Trial).where(Trial.id == trial.id).values(parameters={}, value=value))
            await jobs.complete(work, claim)


async def grant(database: Database, client: Client, amount: int) -> None:
    async with database.work(SYSTEM) as work:
        owner = UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))
        await credits.grant(work, credits.Grant(owner, TransactionType.PURCHASE, amount))


def counted(study: dict[str, Any]) -> Sequence[Any]:
    return study["status"], study["reason"], study["trialsCompleted"], study["trialsFailed"]


async def test_a_study_spends_no_more_than_it_may_and_pauses_when_the_account_cannot_pay(
    ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch, no_worker: None
) -> None:
    inputs = await ridge(ada)
    monkeypatch.setattr(state_settings(), "credit_prices", {"TRAIN": 10})
    await grant(database, ada, 55)
    options: dict[str, Any] = {"method": "RANDOM", "space": [ALPHAS]}
    limited = await created(ada, inputs, **options, budget={"maxTrials": 9, "maxParallel": 3, "maxCredits": 29})
    assert (await waiting(database, limited), await ada.one(ACCOUNT)) == ([1, 2], {"creditBalance": 35, "creditsHeld": 20})
    await end(database, limited, 1, None)  # what it held is released, and pays for another
    await end(database, limited, 2)
    assert await waiting(database, limited) == [3]
    await end(database, limited, 3)
    assert counted(await ada.one(STUDY, id=limited)) == ("COMPLETED", "CREDITS", 2, 1)

    study = await created(ada, {**inputs, "name": "t"}, **options, budget={"maxTrials": 9, "maxParallel": 4})
    assert (await waiting(database, study), await ada.one(ACCOUNT)) == ([1, 2], {"creditBalance": 15, "creditsHeld": 20})
    await end(database, study, 1)
    await end(database, study, 2)
    assert await waiting(database, study) == [3]
    await end(database, study, 3)
    assert counted(await ada.one(STUDY, id=study)) == ("PAUSED", "CREDITS", 3, 0)
    assert await ada.one(ACCOUNT) == {"creditBalance": 5, "creditsHeld": 0}
    assert await change(ada, "resumeStudy", study) == {"__typename": "ResumeStudyPayload"}
    assert (await ada.one(STUDY, id=study))["reason"] == "CREDITS"  # it still cannot pay
    (issue,) = (await ada.one(UPDATE, id=study, budget={"maxTrials": 2}))["issues"]
    assert issue == {"path": ["budget", "maxTrials"], "message": "3 trials were made already. Give as many or more, or cancel the study."}
    await ada.one(UPDATE, id=study, budget={"maxTrials": 4, "maxSeconds": 5_000})
    assert await change(ada, "deleteStudy", study) == {
        "__typename": "Blocked",
        "reason": "STUDIES",
        "message": "The study 't' is PAUSED. Cancel it first, and delete it when it has ended.",
    }
    await grant(database, ada, 5)
    assert await change(ada, "resumeStudy", study) == {"__typename": "ResumeStudyPayload"}
    assert await waiting(database, study) == [4]
    await end(database, study, 4, 0.5)
    told = await ada.one(STUDY, id=study)
    assert (counted(told), told["bestValues"]) == (
        ("COMPLETED", "TRIALS", 4, 0),
        [{"trialNumber": 1, "value": 1.0}, {"trialNumber": 4, "value": 0.5}],
    )
    assert told["budget"] == {"maxTrials": 4, "maxParallel": 4, "maxFailed": 5, "maxSeconds": 5_000, "maxCredits": None}


async def test_a_reproducible_study_waits_for_the_trials_that_a_point_may_look_at(ada: Client, database: Database, no_worker: None) -> None:
    inputs = await ridge(ada)
    options: dict[str, Any] = {"method": "RANDOM", "space": [ALPHAS], "budget": {"maxTrials": 9, "maxParallel": 3}}
    study = await created(ada, inputs, **options, reproducible=True)
    other = await created(ada, {**inputs, "name": "t"}, **options)
    for each in (study, other):
        assert await waiting(database, each) == [1, 2, 3]
        await end(database, each, 2)
        await end(database, each, 3)
    assert (await waiting(database, study), await waiting(database, other)) == ([1], [1, 4, 5])
    await end(database, study, 1)
    assert await waiting(database, study) == [4, 5, 6]
    (issue,) = (await ada.one(UPDATE, id=study, budget={"maxParallel": 2}))["issues"]
    assert issue["path"] == ["budget", "maxParallel"]


async def test_a_trial_that_ended_is_followed_by_another_in_seven_statements(ada: Client, database: Database, no_worker: None) -> None:
    study = await created(ada, await ridge(ada), method="RANDOM", space=[ALPHAS], budget={"maxTrials": 9, "maxParallel": 1})
    for number in range(1, 4):
        async with database.work(SYSTEM) as work:
            (trial,) = await work.all(select(Trial.job_id).where(Trial.study_id == key_of(study), Trial.number == number))
            await jobs.cancel(work, trial.job_id)
            work.after_commit_actions.clear()
        statements: list[str] = []

        def record(*arguments: Any, statements: list[str] = statements) -> None:
            statements.append(arguments[2])

        event.listen(database.engine.sync_engine, "before_cursor_execute", record)
        try:
            await scheduling.schedule(database, key_of(study))
        finally:
            event.remove(database.engine.sync_engine, "before_cursor_execute", record)
        assert len(statements) == 7, statements
        assert await waiting(database, study) == [number + 1]


async def test_what_a_process_did_not_live_to_schedule_is_caught_up_with(ada: Client, database: Database, no_worker: None) -> None:
    inputs = await ridge(ada)
    options: dict[str, Any] = {"method": "RANDOM", "space": [ALPHAS], "budget": {"maxTrials": 9, "maxParallel": 2, "maxSeconds": 1_000}}
    study = await created(ada, inputs, **options)
    assert await scheduling.schedule_due(database) == 0
    async with database.work(SYSTEM) as work:  # a job is cancelled, and nothing follows
        (trial,) = await work.all(select(Trial.job_id).where(Trial.study_id == key_of(study), Trial.number == 1))
        await jobs.cancel(work, trial.job_id)
        work.after_commit_actions.clear()
    assert await waiting(database, study) == [1, 2]
    assert await scheduling.schedule_due(database) == 1
    assert await waiting(database, study) == [2, 3]

    assert await change(ada, "pauseStudy", study) == {"__typename": "PauseStudyPayload"}
    await end(database, study, 2)
    assert await waiting(database, study) == [3]  # no other is made
    assert counted(await ada.one(STUDY, id=study)) == ("PAUSED", "USER", 1, 0)
    await change(ada, "resumeStudy", study)
    assert await waiting(database, study) == [3, 4]
    async with database.work(SYSTEM) as work:
        await work.run(update_rows(Study).where(Study.id == key_of(study)).values(seconds_used=1_000))
    assert await scheduling.schedule_due(database) == 1
    told = await ada.one(STUDY, id=study)
    assert (counted(told), [trial["node"]["status"] for trial in told["trials"]["edges"]]) == (
        ("COMPLETED", "TIME", 1, 0),
        ["CANCELLED", "COMPLETED", "CANCELLED", "CANCELLED"],
    )
