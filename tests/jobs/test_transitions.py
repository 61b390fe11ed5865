"""The job's row decides: one claim, one settlement, and no transition outside the state machine."""

from __future__ import annotations

import asyncio
import math
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM, UserRole, UserTier
from db.errors import Conflict, NotFound, WrongState
from db.services import accounts, experiments, jobs, workers
from db.services.jobs import Claim, Failure, HeldJob, Point, metrics
from db.tables import Dataset, DatasetVersion, Experiment, Job, MetricPoint, Run, RunMetric, User, Worker
from db.tables.datasets import DatasetSource, DatasetVersionStatus, Modality
from db.tables.experiments import RunStatus
from db.tables.jobs import JobKind
from db.tables.jobstates import ACTIVE, TERMINAL, TRANSITIONS, JobStatus
from tests.jobs.job_driver import LEASE, QUEUE, JobDriver

PERMANENT = Failure("BROKEN", "It broke.", retryable=False)
RETRYABLE = Failure("BROKEN", "It broke.", retryable=True)


def _columns_of(status: JobStatus) -> dict[str, Any]:
    """Return the columns that a row in this state must have."""
    active, terminal = status in ACTIVE, status in TERMINAL
    return {
        "status": status,
        "attempt": 1,
        "lease_until": func.now() if active else None,
        "completed_at": func.now() if terminal else None,
        "error": PERMANENT.to_dict() if status is JobStatus.FAILED else None,
    }


@pytest.mark.parametrize("before", JobStatus)
async def test_the_database_refuses_every_step_that_the_table_does_not_have(job_driver: JobDriver, before: JobStatus) -> None:
    allowed = {step.after: step.claims for step in TRANSITIONS if step.before is before}
    accepted: set[JobStatus] = set()
    sqlstates: list[str | None] = []
    for after in JobStatus:
        job_id = (await job_driver.submit()).id
        async with job_driver.database.engine.begin() as connection:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
            await connection.execute(update(Job).where(Job.id == job_id).values(_columns_of(before)))
        values = {**_columns_of(after), "attempt": 2 if allowed.get(after) else 1, "last_sequence": Job.last_sequence + 1}
        try:
            async with job_driver.database.work(SYSTEM) as work:
                await work.run(update(Job).where(Job.id == job_id).values(values))
        except DBAPIError as error:
            sqlstates.append(getattr(error.orig, "sqlstate", None))
        else:
            accepted.add(after)
    staying = {status for status in (before,) if status not in TERMINAL}
    assert accepted == {*allowed} | staying
    assert sqlstates == ["TR001"] * (len(JobStatus) - len(accepted))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"attempt": Job.attempt + 1}, "only a claim changes the attempt"),
        ({"status": JobStatus.RUNNING, "lease_until": func.now(), "last_sequence": Job.last_sequence + 1}, "counts the attempt up by one"),
        ({"status": JobStatus.QUEUED}, "takes the next event sequence"),
        ({"status": JobStatus.QUEUED, "last_sequence": Job.last_sequence + 7}, "takes the next event sequence"),
        ({"last_sequence": Job.last_sequence + 2}, "numbered one by one"),
        ({"last_sequence": Job.last_sequence - 1}, "numbered one by one"),
    ],
)
async def test_the_database_keeps_attempts_and_sequences(job_driver: JobDriver, changes: dict[str, Any], says: str) -> None:
    job = await job_driver.submit()
    with pytest.raises(DBAPIError, match=says):
        async with job_driver.database.work(SYSTEM) as work:
            await work.run(update(Job).where(Job.id == job.id).values(changes))


async def test_the_database_keeps_an_attempt_with_its_worker(job_driver: JobDriver) -> None:
    claim = await job_driver.submit_and_claim()
    async with job_driver.database.work(SYSTEM) as work:
        other = await workers.register(work, f"other-{job_driver.worker_id}", [QUEUE], 1)
        await workers.stop(work, other)
    with pytest.raises(DBAPIError, match="stays with its worker"):
        async with job_driver.database.work(SYSTEM) as work:
            await work.run(update(Job).where(Job.id == claim.job_id).values(worker_id=other))
    await job_driver.cancel(claim.job_id)
    with pytest.raises(DBAPIError, match="stays with its worker"):
        async with job_driver.database.work(SYSTEM) as work:
            await work.run(update(Job).where(Job.id == claim.job_id).values(worker_id=None))


@pytest.mark.parametrize("columns", [_columns_of(JobStatus.COMPLETED), {"attempt": 1}, {"last_sequence": 2}, {"status": JobStatus.QUEUED}])
async def test_the_database_lets_a_job_begin_at_the_beginning_only(job_driver: JobDriver, columns: dict[str, Any]) -> None:
    job = {"owner_id": job_driver.owner.id, "kind": JobKind.EXPORT, "queue": QUEUE}
    with pytest.raises(DBAPIError, match="begins as pending"):
        async with job_driver.database.work(SYSTEM) as work:
            await work.run(insert(Job).values(job | columns))


async def test_of_many_claims_at_once_one_wins(job_driver: JobDriver) -> None:
    job = await job_driver.submit()
    claims = await asyncio.gather(*(job_driver.claim(job.id) for _ in range(10)))
    assert [claim.attempt for claim in claims if claim is not None] == [1]
    assert await job_driver.events(job.id) == [(1, "CREATED"), (2, "STARTED")]


async def test_of_many_dispatchers_at_once_one_dispatches(job_driver: JobDriver) -> None:
    job = await job_driver.submit()

    async def dispatch() -> list[jobs.DispatchNotice]:
        async with job_driver.database.work(SYSTEM) as work:
            return await jobs.dispatch(work, [QUEUE], 5.0)

    notices = [notice for batch in await asyncio.gather(*(dispatch() for _ in range(5))) for notice in batch]
    assert notices == [jobs.DispatchNotice(QUEUE, job.id, 1)]
    assert await dispatch() == []
    async with job_driver.database.work(SYSTEM) as work:
        assert await jobs.dispatch(work, [QUEUE], 0.0) == [jobs.DispatchNotice(QUEUE, job.id, 2)]
    assert await job_driver.events(job.id) == [(1, "CREATED"), (2, "QUEUED")]


async def test_no_more_is_dispatched_than_twice_the_free_slots(job_driver: JobDriver) -> None:
    await job_driver.submit_and_claim()
    for _ in range(10):
        await job_driver.submit()
    async with job_driver.database.work(SYSTEM) as work:
        assert len(await jobs.dispatch(work, [QUEUE], 5.0)) == 2 * (4 - 1)


async def test_what_a_dead_worker_has_left_takes_no_slot_of_the_living(job_driver: JobDriver) -> None:
    for _ in range(4):
        await job_driver.submit_and_claim()
    async with job_driver.database.work(SYSTEM) as work:
        silent = update(Worker).where(Worker.id == job_driver.worker_id)
        await work.run(silent.values(heartbeat_at=func.now() - func.make_interval(0, 0, 0, 0, 0, 0, 16)))
        living = await workers.register(work, f"living-{job_driver.worker_id}", [QUEUE], 3)
    waiting = [(await job_driver.submit()).id for _ in range(8)]
    async with job_driver.database.work(SYSTEM) as work:
        assert [notice.job_id for notice in await jobs.dispatch(work, [QUEUE], 5.0)] == waiting[:4]  # the limit is eight, four run
        await work.run(update(User).values(tier=UserTier.PRO))
        assert [notice.job_id for notice in await jobs.dispatch(work, [QUEUE], 5.0)] == waiting[4:6]
        await workers.stop(work, living)


async def test_the_urgent_go_first_then_owners_in_turn(job_driver: JobDriver) -> None:
    async with job_driver.database.work(SYSTEM) as work:
        await accounts.add_user(work, "other@example.org", "other", None, UserRole.MEMBER)
        other_id = await work.scalar(select(User.id).where(User.username == "other"))
    mine = [(await job_driver.submit()).id for _ in range(3)]
    async with job_driver.database.work(SYSTEM) as work:
        theirs = (await jobs.submit(work, jobs.NewJob(other_id, JobKind.EXPORT, QUEUE))).id
    urgent = (await job_driver.submit(priority=9)).id
    async with job_driver.database.work(SYSTEM) as work:
        claimed = await jobs.claim_waiting(work, [QUEUE], 3, job_driver.worker_id, "test-worker", LEASE)
    assert {job.id for job in claimed} == {urgent, mine[0], theirs}


async def test_a_superseded_attempt_cannot_settle(job_driver: JobDriver) -> None:
    job = await job_driver.submit()
    first = await job_driver.claim(job.id, lease=0.0)
    assert first is not None
    assert await job_driver.sweep() == [job.id]
    second = await job_driver.claim(job.id)
    assert second is not None
    assert await job_driver.complete(first) is None
    assert await job_driver.fail(first, PERMANENT) is None
    assert (await job_driver.job(job.id)).status is JobStatus.RUNNING
    assert await job_driver.complete(second) is not None
    assert await job_driver.complete(second) is None
    assert await job_driver.outcomes(job.id) == ["lost", "completed"]
    assert await job_driver.events(job.id) == [(1, "CREATED"), (2, "STARTED"), (3, "RETRYING"), (4, "STARTED"), (5, "COMPLETED")]


async def test_ten_losses_end_as_worker_lost(job_driver: JobDriver) -> None:
    job_id = (await job_driver.submit()).id
    for loss in range(1, 4):
        assert await job_driver.claim(job_id, lease=0.0) is not None
        await job_driver.sweep(max_losses=3)
        assert (await job_driver.job(job_id)).losses == loss
    job = await job_driver.job(job_id)
    assert (job.status, job.error["code"], job.tries) == (JobStatus.FAILED, "WORKER_LOST", 0)


async def test_no_lease_is_taken_within_a_lease_of_postgres_own_start(job_driver: JobDriver) -> None:
    job = await job_driver.submit()
    await job_driver.claim(job.id, lease=0.0)
    async with job_driver.database.work(SYSTEM) as work:
        assert await jobs.reap(work, 10 * 365 * 86_400.0, 10) == []


async def test_a_heartbeat_renews_held_leases_and_reports_the_rest(job_driver: JobDriver) -> None:
    held, cancelled, lost = await job_driver.submit_and_claim(), await job_driver.submit_and_claim(), await job_driver.submit_and_claim()
    await job_driver.cancel(cancelled.job_id)
    await job_driver.complete(lost)
    before = (await job_driver.job(held.job_id)).lease_until
    answer = await jobs.heartbeat(job_driver.database, job_driver.worker_id, [held, cancelled, lost], LEASE)
    assert answer == {
        held.job_id: HeldJob(JobStatus.RUNNING, is_renewed=True),
        cancelled.job_id: HeldJob(JobStatus.CANCELLING, is_renewed=True),
    }
    assert (await job_driver.job(held.job_id)).lease_until > before


async def test_after_an_accepted_cancel_a_job_never_completes(job_driver: JobDriver) -> None:
    claim = await job_driver.submit_and_claim()
    assert await job_driver.cancel(claim.job_id) is JobStatus.CANCELLING
    assert await job_driver.complete(claim) is None
    assert await job_driver.fail(claim, RETRYABLE) is None
    async with job_driver.database.work(SYSTEM) as work:
        assert await jobs.settle_cancelled(work, claim) is not None
    assert await job_driver.cancel(claim.job_id) is JobStatus.CANCELLED


async def test_a_job_that_waits_is_cancelled_at_once_and_one_that_ended_not_at_all(job_driver: JobDriver) -> None:
    job = await job_driver.submit()
    assert await job_driver.cancel(job.id) is JobStatus.CANCELLED
    claim = await job_driver.submit_and_claim()
    await job_driver.complete(claim)
    with pytest.raises(WrongState):
        await job_driver.cancel(claim.job_id)
    with pytest.raises(NotFound):
        await job_driver.cancel(job_driver.worker_id)


async def test_a_failure_waits_longer_each_time_until_the_tries_are_used_up(job_driver: JobDriver) -> None:
    job_id = (await job_driver.submit()).id
    for tries, (low, high) in {1: (1.5, 2.5), 2: (6, 10)}.items():
        claim = await job_driver.claim(job_id)
        assert claim is not None
        job = await job_driver.fail(claim, RETRYABLE, tries)
        assert job is not None
        assert low <= (job.run_after - job.updated_at).total_seconds() <= high
        assert await job_driver.claim(job_id) is None
        async with job_driver.database.work(SYSTEM) as work:
            await work.run(update(Job).where(Job.id == job_id).values(run_after=None))
    claim = await job_driver.claim(job_id)
    assert claim is not None
    job = await job_driver.fail(claim, RETRYABLE, 3)
    assert job is not None
    assert (job.status, job.tries) == (JobStatus.FAILED, 3)


async def test_the_version_of_an_ingest_follows_its_job(job_driver: JobDriver) -> None:
    async with job_driver.database.work(job_driver.owner) as work:
        dataset = insert(Dataset).values(owner_id=job_driver.owner.id, name="d", modality=Modality.TABULAR, source=DatasetSource.UPLOAD)
        dataset_id = await work.scalar(dataset.returning(Dataset.id))
        version = insert(DatasetVersion).values(
            dataset_id=dataset_id, number=1, status=DatasetVersionStatus.UPLOADED, source=DatasetSource.UPLOAD
        )
        version_id = await work.scalar(version.returning(DatasetVersion.id))

    async def status() -> DatasetVersionStatus:
        (row,) = await job_driver.database.rows(select(DatasetVersion.status).where(DatasetVersion.id == version_id))
        return row.status

    parts = {"kind": JobKind.INGEST, "dataset_id": dataset_id, "dataset_version_id": version_id}
    claim = await job_driver.submit_and_claim(**parts)
    assert await status() is DatasetVersionStatus.PROCESSING
    async with job_driver.database.work(SYSTEM) as work:
        await jobs.give_back(work, claim)
    assert await status() is DatasetVersionStatus.UPLOADED
    await job_driver.cancel(claim.job_id)
    assert await status() is DatasetVersionStatus.UPLOADED
    async with job_driver.database.work(job_driver.owner) as work:
        retried = await jobs.retry(work, claim.job_id)
    claim = await job_driver.claim(retried)
    assert claim is not None
    await job_driver.fail(claim, PERMANENT)
    assert await status() is DatasetVersionStatus.FAILED
    async with job_driver.database.work(job_driver.owner) as work:
        again = await jobs.retry(work, retried)
    assert await status() is DatasetVersionStatus.UPLOADED
    with pytest.raises(WrongState):
        async with job_driver.database.work(job_driver.owner) as work:
            await jobs.retry(work, again)
    with pytest.raises(WrongState):
        async with job_driver.database.work(job_driver.owner) as work:
            await jobs.retry(work, retried)


async def _claimed_training(job_driver: JobDriver) -> tuple[Claim, UUID]:
    async with job_driver.database.work(job_driver.owner) as work:
        job = await jobs.submit(work, jobs.NewJob(job_driver.owner.id, JobKind.TRAIN, QUEUE, parameters={"seed": 7}))
        experiment_id = await experiments.default_experiment(work, job_driver.owner.id)
        run = experiments.NewRun(job_driver.owner.id, experiment_id, job.id, None, None, 7, {"depth": 3}, {})
        run_id = await experiments.add_run(work, run)
    claim = await job_driver.claim(job.id)
    assert claim is not None
    return claim, run_id


async def test_a_retry_is_a_new_job_with_the_same_seed_and_a_run_of_its_own(job_driver: JobDriver) -> None:
    claim, _ = await _claimed_training(job_driver)
    await job_driver.fail(claim, PERMANENT)
    async with job_driver.database.work(job_driver.owner) as work:
        answer = await jobs.retry(work, claim.job_id, "a key")
    async with job_driver.database.work(job_driver.owner) as work:
        assert await jobs.retry(work, claim.job_id, "a key") == answer
    with pytest.raises(Conflict):
        async with job_driver.database.work(job_driver.owner) as work:
            await jobs.retry(work, answer, "a key")
    new = await job_driver.job(answer)
    assert (new.retry_of_id, new.parameters, new.status) == (claim.job_id, {"seed": 7}, JobStatus.PENDING)
    columns = (Run.job_id, Run.number, Run.status, Run.seed, Run.hyperparameters)
    runs = await job_driver.database.rows(select(*columns).join(Experiment).order_by(Run.number))
    assert [tuple(run) for run in runs] == [
        (claim.job_id, 1, RunStatus.FAILED, 7, {"depth": 3}),
        (answer, 2, RunStatus.PENDING, 7, {"depth": 3}),
    ]


async def test_points_are_summarised_and_nan_is_never_the_least(job_driver: JobDriver) -> None:
    claim, run_id = await _claimed_training(job_driver)
    batches = [
        [Point("loss", 0, 3.0), Point("loss", 1, math.nan), Point("loss", 2, 1.0)],
        [Point("loss", 2, 2.0), Point("loss", 3, math.inf)],
    ]
    for batch in batches:
        staged = await metrics.stage(job_driver.database, batch)
        async with job_driver.database.work(SYSTEM) as work:
            assert await metrics.record(work, claim, run_id, staged) is not None
    (summary,) = await job_driver.database.rows(select(*RunMetric.__table__.c).where(RunMetric.run_id == run_id))
    (run,) = await job_driver.database.rows(select(Run.experiment_id).where(Run.id == run_id))
    assert summary.experiment_id == run.experiment_id
    last, least, greatest = (summary.last, summary.last_step), (summary.min, summary.min_step), (summary.max, summary.max_step)
    assert (last, least, greatest, summary.count) == ((math.inf, 3), (1.0, 2), (3.0, 0), 4)
    points = await job_driver.database.rows(
        select(MetricPoint.step, MetricPoint.batch).where(MetricPoint.run_id == run_id).order_by(MetricPoint.step)
    )
    assert [tuple(point) for point in points] == [(0, 3), (1, 3), (2, 4), (3, 4)]
    await job_driver.complete(claim)
    staged = await metrics.stage(job_driver.database, [Point("loss", 9, 0.0)])
    async with job_driver.database.work(SYSTEM) as work:
        assert await metrics.record(work, claim, run_id, staged) is None
