"""Points of metrics reach the run completely, once, and only from the attempt that holds the lease."""

from __future__ import annotations

import math
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, select

from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database
from db.errors import Unavailable
from db.services import accounts, experiments, jobs, workers
from db.services.jobs import Claim, Point, metrics
from db.tables import Job, JobEvent, MetricPoint, RunMetric, StagedPoint, User
from db.tables.jobs import JobEventType, JobKind
from workers.runtime.reports import Reports

QUEUE = "points"


class TrainingJob:
    """A training job claimed by a worker that does not exist."""

    def __init__(self, database: Database, claim: Claim, run_id: UUID) -> None:
        self.database = database
        self.claim = claim
        self.run_id = run_id

    async def record(self, *points: Point) -> None:
        staged = await metrics.stage(self.database, points)
        async with self.database.work(SYSTEM) as work:
            assert await metrics.record(work, self.claim, self.run_id, staged) is not None

    async def points(self) -> list[tuple[str, int, float]]:
        columns = (MetricPoint.key, MetricPoint.step, MetricPoint.value)
        rows = await self.database.rows(
            select(*columns).where(MetricPoint.run_id == self.run_id).order_by(MetricPoint.key, MetricPoint.step)
        )
        return [(row.key, row.step, row.value) for row in rows]

    async def summary(self, key: str) -> tuple[float | None, ...]:
        columns = (
            RunMetric.last,
            RunMetric.last_step,
            RunMetric.min,
            RunMetric.min_step,
            RunMetric.max,
            RunMetric.max_step,
            RunMetric.count,
        )
        (row,) = await self.database.rows(select(*columns).where(RunMetric.run_id == self.run_id, RunMetric.key == key))
        return tuple(row)

    async def staged_count(self) -> int:
        return len(await self.database.rows(select(StagedPoint.batch_id)))

    async def sequence(self) -> int:
        (row,) = await self.database.rows(select(Job.last_sequence).where(Job.id == self.claim.job_id))
        return row.last_sequence


@pytest.fixture
async def training_job(database: Database, clean: None) -> TrainingJob:
    async with database.work(SYSTEM) as work:
        await accounts.add_user(work, "owner@example.org", "owner", None, UserRole.MEMBER)
        owner = Viewer(await work.scalar(select(User.id).where(User.username == "owner")), UserRole.MEMBER)
        worker_id = await workers.register(work, f"points-{uuid4()}", [QUEUE], 1)
    async with database.work(owner) as work:
        job = await jobs.submit(work, jobs.NewJob(owner.id, JobKind.TRAIN, QUEUE, parameters={"seed": 7}))
        experiment = await experiments.default_experiment(work, owner.id)
        run_id = await experiments.add_run(work, experiments.NewRun(owner.id, experiment, job.id, None, None, 7, {}, {}))
    async with database.work(SYSTEM) as work:
        claimed = await jobs.claim(work, job.id, worker_id, "points", 60.0)
        assert claimed is not None
    return TrainingJob(database, Claim(job.id, claimed.attempt, worker_id), run_id)


async def test_a_batch_leaves_nothing_behind_and_a_repeated_step_keeps_its_last_value(training_job: TrainingJob) -> None:
    await training_job.record(Point("loss", 0, 2.0), Point("loss", 1, math.inf), Point("loss", 1, 1.0), Point("accuracy", 0, 0.5))
    await training_job.record(Point("loss", 1, 3.0), Point("loss", 2, math.nan))
    assert await training_job.staged_count() == 0
    points = await training_job.points()
    assert points[:3] == [("accuracy", 0, 0.5), ("loss", 0, 2.0), ("loss", 1, 3.0)]
    assert math.isnan(points[3][2])
    last, *rest = await training_job.summary("loss")
    assert last is not None
    assert math.isnan(last)
    assert rest == [2, 1.0, 1, 3.0, 1, 3]


async def test_the_event_of_a_batch_has_the_last_value_of_each_metric(training_job: TrainingJob) -> None:
    await training_job.record(Point("loss", 1, 1.5), Point("loss", 0, 2.0), Point("accuracy", 0, math.nan))
    rows = await training_job.database.rows(select(JobEvent.data).where(JobEvent.type == JobEventType.METRIC))
    assert [row.data for row in rows] == [{"keys": ["accuracy", "loss"], "points": 3, "values": {"accuracy": None, "loss": 1.5}}]


async def test_of_equal_values_the_first_step_counts(training_job: TrainingJob) -> None:
    await training_job.record(*(Point("loss", step, value) for step, value in enumerate([1.0, 5.0, 1.0, 5.0])))
    await training_job.record(*(Point("loss", step, value) for step, value in enumerate([1.0, 5.0], start=4)))
    assert await training_job.summary("loss") == (5.0, 5, 1.0, 0, 5.0, 1, 6)


async def test_lost_staged_points_are_noticed_and_no_event_is_written(training_job: TrainingJob) -> None:
    staged = await metrics.stage(training_job.database, [Point("loss", 0, 1.0)])
    async with training_job.database.work(SYSTEM) as work:
        await work.run(delete(StagedPoint))  # as a crash of PostgreSQL does: the table is unlogged
    before = await training_job.sequence()
    with pytest.raises(Unavailable):
        async with training_job.database.work(SYSTEM) as work:
            await metrics.record(work, training_job.claim, training_job.run_id, staged)
    assert (await training_job.points(), await training_job.sequence()) == ([], before)


async def test_a_superseded_attempt_neither_writes_nor_removes_points(training_job: TrainingJob) -> None:
    await training_job.record(Point("loss", 0, 1.0))
    old = Claim(training_job.claim.job_id, training_job.claim.attempt - 1, training_job.claim.worker_id)
    staged = await metrics.stage(training_job.database, [Point("loss", 1, 1.0)])
    async with training_job.database.work(SYSTEM) as work:
        assert await metrics.record(work, old, training_job.run_id, staged) is None
        assert not await metrics.rewind(work, old, training_job.run_id, {})
    assert await training_job.points() == [("loss", 0, 1.0)]


async def test_points_past_a_checkpoint_go_and_the_summaries_with_them(training_job: TrainingJob) -> None:
    await training_job.record(*(Point("loss", step, 10.0 - step) for step in range(8)), Point("accuracy", 0, 0.9))
    async with training_job.database.work(SYSTEM) as work:
        assert await metrics.rewind(work, training_job.claim, training_job.run_id, {"loss": 4})
    assert [step for _, step, _ in await training_job.points()] == [0, 1, 2, 3, 4]
    assert await training_job.summary("loss") == (6.0, 4, 6.0, 4, 10.0, 0, 5)
    assert len(await training_job.database.rows(select(RunMetric.key).where(RunMetric.run_id == training_job.run_id))) == 1


async def test_points_of_checkpoints_wait_for_the_room_of_the_second(training_job: TrainingJob) -> None:
    reports = Reports(training_job.database, training_job.claim, events_per_second=2, log_events=0)
    reports.run_id = training_job.run_id
    for step in range(5):
        reports.point(Point("loss", step, 1.0))
        await reports.flush_points()
    statement = select(JobEvent.created_at).where(JobEvent.job_id == training_job.claim.job_id, JobEvent.type == JobEventType.METRIC)
    timestamps = [row.created_at.timestamp() for row in await training_job.database.rows(statement.order_by(JobEvent.sequence))]
    assert len(timestamps) == 5
    assert all(later - earlier > 0.9 for earlier, later in zip(timestamps, timestamps[2:], strict=False))
    assert [step for _, step, _ in await training_job.points()] == list(range(5))
