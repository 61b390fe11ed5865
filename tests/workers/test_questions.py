"""A body may ask its worker and waits for the answer, which is that of its own question whatever dies or ends meanwhile."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from db.core.viewer import SYSTEM
from db.services import jobs
from db.tables.jobstates import JobStatus
from tests.exhaustive import exhaustive
from tests.workers.worker_harness import WorkerHarness


@pytest.mark.exhaustive
async def test_each_question_has_its_answer_and_bodies_that_share_a_process_do_not_mix_them(harness: WorkerHarness) -> None:
    await harness.start_worker(SLOTS="1")
    job_ids = [await harness.submit("ask", salt=salt, times=200, is_shared=True) for salt in (0, 1_000)]
    pids: set[int] = set()
    for job_id in job_ids:
        job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert (job.attempt, job.tries, job.error) == (1, 0, None)
        pids.add((await harness.wait_for_starts(job_id))[0][0])
    assert len(pids) == 1


@pytest.mark.exhaustive
async def test_a_body_that_ended_before_its_answer_leaves_none_to_the_next(harness: WorkerHarness, tmp_path: Path) -> None:
    await harness.start_worker(SLOTS="1")
    never = str(tmp_path / "never")
    first, second = [
        await harness.submit("ask", salt=salt, times=times, is_shared=True, answer_when=never, how=how)
        for salt, times, how in ((0, 0, "in another thread"), (1_000, 3, None))
    ]
    pids: list[int] = []
    for job_id in (first, second):
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        pids.append((await harness.wait_for_starts(job_id))[0][0])
    assert pids[0] != pids[1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("killed", ["body", "worker"])
async def test_a_body_that_is_killed_while_it_waits_asks_again_in_its_next_attempt(
    harness: WorkerHarness, tmp_path: Path, killed: str
) -> None:
    await harness.start_worker()
    job_id = await harness.submit("ask", salt=5, times=3, answer_when=str(tmp_path / "now"), how="wait")
    ((pid, _),) = await harness.wait_for_starts(job_id)
    if killed == "body":
        psutil.Process(pid).kill()
    else:
        (await harness.worker_of(job_id)).kill()
        await harness.start_worker()
    await harness.wait_for_starts(job_id, 2)
    (tmp_path / "now").touch()
    job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert job.attempt >= 2
    assert job.tries <= (1 if killed == "body" else 0)


async def test_a_job_is_cancelled_while_its_body_waits(harness_with_worker: WorkerHarness, tmp_path: Path) -> None:
    harness = harness_with_worker
    job_id = await harness.submit("ask", salt=5, answer_when=str(tmp_path / "never"), how="wait")
    await harness.wait_for_starts(job_id)
    async with harness.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await harness.wait_for_status(job_id, JobStatus.CANCELLED)


@pytest.mark.parametrize(
    ("question", "code", "message"),
    [
        exhaustive("fail", "WORKER_ERROR", "RuntimeError: There is no answer."),
        ("guess", "BODY_FAILED", "The job's process sent an invalid message: Nothing answers ['guess', {}]."),
    ],
)
async def test_a_question_without_an_answer_ends_the_attempt(
    harness_with_worker: WorkerHarness, question: str, code: str, message: str
) -> None:
    job_id = await harness_with_worker.submit("ask", salt=5, how=question, max_tries=1)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == (code, message)
