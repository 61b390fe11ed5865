"""Progress of jobs: it never falls, names the current step, and estimates the time left."""

from __future__ import annotations

import random
from typing import Any

import pytest

from db.core.viewer import SYSTEM
from db.services import jobs
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.client import Client
from tests.workers.worker_harness import WorkerHarness, eventually
from workers.runtime.eta import EtaEstimator

JOB = "query($id: ID!) { job(id: $id) { status progress currentStep timeLeft } }"


async def read_job(viewer: Client, job_id: Any) -> dict[str, Any]:
    return await viewer.one(JOB, id=f"job_{job_id.hex}")


async def test_progress_never_falls_and_is_100_only_at_the_end(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job_id = await harness_with_worker.submit("report_percents", percents=[10, 60, 30, 100, 250, 40], pause=0.3)
    await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    events = await harness_with_worker.events(job_id)
    percentages = [event.progress for event in events]
    assert percentages == sorted(percentages)
    assert [event.progress for event in events if event.type is JobEventType.COMPLETED] == [100]
    assert max(event.progress for event in events if event.type is JobEventType.PROGRESS) == 99
    assert {"at 10", "at 60"} <= {event.step for event in events}
    assert await read_job(owner, job_id) == {"status": "COMPLETED", "progress": 100, "currentStep": None, "timeLeft": None}


@pytest.mark.exhaustive
async def test_the_time_left_is_estimated_once_there_is_enough_progress(harness_with_worker: WorkerHarness, owner: Client) -> None:
    job_id = await harness_with_worker.submit("report_percents", percents=list(range(0, 50, 2)), pause=0.2, stay=20.0)

    async def job_with_estimate() -> dict[str, Any] | None:
        job = await read_job(owner, job_id)
        assert job["timeLeft"] is None or job["status"] == "RUNNING"
        return job if job["timeLeft"] is not None else None

    job = await eventually(job_with_estimate)
    assert 2.0 < job["timeLeft"] < 20.0  # 10 s at this pace
    progress = [event for event in await harness_with_worker.events(job_id) if event.type is JobEventType.PROGRESS]
    started = next(event for event in await harness_with_worker.events(job_id) if event.type is JobEventType.STARTED)
    with_estimate = [event for event in progress if event.data is not None]
    assert all(set(event.data) == {"secondsLeft"} for event in with_estimate)
    assert (with_estimate[0].created_at - started.created_at).total_seconds() >= 3.0
    async with harness_with_worker.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await harness_with_worker.wait_for_status(job_id, JobStatus.CANCELLED)
    assert (await read_job(owner, job_id))["timeLeft"] is None
    assert (await harness_with_worker.job(job_id)).estimated_completed_at is None


@pytest.mark.exhaustive
async def test_a_job_that_takes_longer_than_was_foreseen_says_nothing_of_the_time_left(
    harness_with_worker: WorkerHarness, owner: Client
) -> None:
    job_id = await harness_with_worker.submit("report_percents", percents=[*range(0, 96, 5)], pause=0.17, stay=1.5)

    async def overdue() -> bool:
        job = await read_job(owner, job_id)
        return job["status"] == "RUNNING" and job["progress"] == 95 and job["timeLeft"] is None

    await eventually(overdue)
    assert (await harness_with_worker.job(job_id)).estimated_completed_at is not None
    await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)


def estimate_after(*points: tuple[float, float]) -> float | None:
    estimator = EtaEstimator()
    for now, percent in points:
        estimator.update(now, percent)
    return estimator.seconds_left(points[-1][0])


def test_an_even_pace_is_carried_on() -> None:
    assert estimate_after(*[(second, second) for second in range(41)]) == pytest.approx(60.0)


@pytest.mark.parametrize("points", [[(0.0, 0.0), (2.9, 50.0)], [(0.0, 0.0), (60.0, 4.9)], [(0.0, 0.0)]])
def test_too_little_to_go_by_says_nothing(points: list[tuple[float, float]]) -> None:
    assert estimate_after(*points) is None


def test_work_that_was_found_done_is_not_taken_for_speed() -> None:
    resumed = [(0.0, 0.0), (0.5, 60.0), *[(0.5 + second, 60.0 + second) for second in range(1, 11)]]
    assert estimate_after(*resumed) == pytest.approx(30.0)


def test_a_stall_makes_the_rest_longer_and_not_shorter() -> None:
    estimator = EtaEstimator()
    for second in range(21):
        estimator.update(second, second * 2)
    before = estimator.seconds_left(20.0)
    after = estimator.seconds_left(40.0)
    assert before == pytest.approx(30.0)
    assert after is not None
    assert before is not None
    assert after > before


def test_an_uneven_pace_is_smoothed_and_a_million_reports_stay_small() -> None:
    estimator = EtaEstimator()
    rng = random.Random(7)
    now = percent = 0.0
    estimates: list[float] = []
    while percent < 50:
        now += rng.uniform(0.0, 0.02)
        percent += rng.uniform(0.0, 0.02)
        estimator.update(now, percent)
        if percent > 25 and (seconds_left := estimator.seconds_left(now)) is not None:
            estimates.append(seconds_left / (100 - percent))
    assert 0.9 < min(estimates) <= max(estimates) < 1.1
