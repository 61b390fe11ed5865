"""Progress that means something: it only rises, says what is being done, and when it will be over."""

from __future__ import annotations

import random
from typing import Any

import pytest

from db.core.viewer import SYSTEM
from db.services import jobs
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.client import Client
from tests.workers.stage import Stage, eventually
from workers.runtime.outlook import Outlook

JOB = "query($id: ID!) { job(id: $id) { status progress currentStep timeLeft } }"


async def look(viewer: Client, job_id: Any) -> dict[str, Any]:
    return await viewer.one(JOB, id=f"job_{job_id.hex}")


async def test_progress_never_falls_and_is_100_only_at_the_end(calm: Stage, owner: Client) -> None:
    job_id = await calm.submit("advance", percents=[10, 60, 30, 100, 250, 40], pause=0.3)
    await calm.reach(job_id, JobStatus.COMPLETED)
    events = await calm.events(job_id)
    told = [event.progress for event in events]
    assert told == sorted(told)
    assert [event.progress for event in events if event.type is JobEventType.COMPLETED] == [100]
    assert max(event.progress for event in events if event.type is JobEventType.PROGRESS) == 99
    assert {"at 10", "at 60"} <= {event.step for event in events}
    assert await look(owner, job_id) == {"status": "COMPLETED", "progress": 100, "currentStep": None, "timeLeft": None}


async def test_the_time_left_is_told_once_there_is_something_to_go_by(calm: Stage, owner: Client) -> None:
    job_id = await calm.submit("advance", percents=list(range(0, 50, 2)), pause=0.2, stay=20.0)

    async def known() -> dict[str, Any] | None:
        found = await look(owner, job_id)
        assert found["timeLeft"] is None or found["status"] == "RUNNING"
        return found if found["timeLeft"] is not None else None

    found = await eventually(known)
    assert 2.0 < found["timeLeft"] < 20.0  # 10 s at this pace
    progress = [event for event in await calm.events(job_id) if event.type is JobEventType.PROGRESS]
    started = next(event for event in await calm.events(job_id) if event.type is JobEventType.STARTED)
    with_time = [event for event in progress if event.data is not None]
    assert all(set(event.data) == {"secondsLeft"} for event in with_time)
    assert (with_time[0].created_at - started.created_at).total_seconds() >= 3.0
    async with calm.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await calm.reach(job_id, JobStatus.CANCELLED)
    assert (await look(owner, job_id))["timeLeft"] is None
    assert (await calm.job(job_id)).estimated_completed_at is None


async def test_a_job_that_takes_longer_than_was_foreseen_says_nothing_of_the_time_left(calm: Stage, owner: Client) -> None:
    job_id = await calm.submit("advance", percents=[*range(0, 96, 5)], pause=0.2, stay=3.0)

    async def overdue() -> bool:
        found = await look(owner, job_id)
        return found["status"] == "RUNNING" and found["progress"] == 95 and found["timeLeft"] is None

    await eventually(overdue)
    assert (await calm.job(job_id)).estimated_completed_at is not None
    await calm.reach(job_id, JobStatus.COMPLETED)


def outlook_after(*points: tuple[float, float]) -> float | None:
    outlook = Outlook()
    for now, percent in points:
        outlook.progress(now, percent)
    return outlook.left(points[-1][0])


def test_an_even_pace_is_carried_on() -> None:
    assert outlook_after(*[(second, second) for second in range(41)]) == pytest.approx(60.0)


@pytest.mark.parametrize("points", [[(0.0, 0.0), (2.9, 50.0)], [(0.0, 0.0), (60.0, 4.9)], [(0.0, 0.0)]])
def test_too_little_to_go_by_says_nothing(points: list[tuple[float, float]]) -> None:
    assert outlook_after(*points) is None


def test_work_that_was_found_done_is_not_taken_for_speed() -> None:
    resumed = [(0.0, 0.0), (0.5, 60.0), *[(0.5 + second, 60.0 + second) for second in range(1, 11)]]
    assert outlook_after(*resumed) == pytest.approx(30.0)


def test_a_stall_makes_the_rest_longer_and_not_shorter() -> None:
    outlook = Outlook()
    for second in range(21):
        outlook.progress(second, second * 2)
    before = outlook.left(20.0)
    after = outlook.left(40.0)
    assert before == pytest.approx(30.0)
    assert after is not None
    assert before is not None
    assert after > before


def test_an_uneven_pace_is_smoothed_and_a_million_reports_stay_small() -> None:
    outlook = Outlook()
    chance = random.Random(7)
    now = percent = 0.0
    told: list[float] = []
    while percent < 50:
        now += chance.uniform(0.0, 0.02)
        percent += chance.uniform(0.0, 0.02)
        outlook.progress(now, percent)
        if percent > 25 and (left := outlook.left(now)) is not None:
            told.append(left / (100 - percent))
    assert 0.9 < min(told) <= max(told) < 1.1
