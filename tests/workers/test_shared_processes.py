"""Bodies of one account may run in one process, one after another; nothing of one reaches the next, and nothing of an account another's."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import psutil
import pytest
from sqlalchemy import select

from db.core.viewer import SYSTEM, UserRole
from db.services import accounts
from db.tables import User
from db.tables.jobstates import JobStatus
from tests.exhaustive import exhaustive
from tests.workers.worker_harness import WorkerHarness, alive, eventually


async def pid_of(harness: WorkerHarness, job_id: UUID, status: JobStatus = JobStatus.COMPLETED) -> int:
    """Wait for the job's end; return the process of its body."""
    await harness.wait_for_status(job_id, status)
    return (await harness.wait_for_starts(job_id))[0][0]


async def run(harness: WorkerHarness, what: str, status: JobStatus = JobStatus.COMPLETED, owner_id: UUID | None = None) -> int:
    return await pid_of(harness, await harness.submit("leave", what=what, is_shared=True, owner_id=owner_id), status)


async def test_bodies_of_an_account_share_a_process_and_those_of_another_have_their_own(harness: WorkerHarness) -> None:
    await harness.start_worker(SLOTS="1")
    async with harness.database.work(SYSTEM) as work:
        await accounts.add_user(work, "other@example.org", "other", None, UserRole.MEMBER)
        other_id = await work.scalar(select(User.id).where(User.username == "other"))
    first, second = await run(harness, "something"), await run(harness, "something")
    assert first == second
    foreign = await run(harness, "something", owner_id=other_id)
    assert foreign != first
    unshared = await pid_of(harness, await harness.submit("leave", what="something"))
    assert unshared not in {first, foreign}
    await eventually(lambda: _dead(first))  # some seconds after its last body


async def _dead(pid: int) -> bool:
    return not alive(pid)


@pytest.mark.parametrize(
    ("what", "status"),
    [("thread", "COMPLETED"), *(exhaustive(what, "COMPLETED") for what in ("process", "memory")), exhaustive("error", "FAILED")],
)
async def test_a_process_with_something_left_in_it_runs_no_other_body(harness: WorkerHarness, what: str, status: str) -> None:
    await harness.start_worker(SLOTS="1")
    first = await run(harness, what, JobStatus[status])
    await eventually(lambda: _dead(first))
    assert await run(harness, "something") != first


async def test_what_a_body_reports_after_its_end_reaches_no_other_job(harness: WorkerHarness) -> None:
    await harness.start_worker(SLOTS="1")
    first, second = [await harness.submit("leave", what=what, is_shared=True) for what in ("late report", "reports")]
    assert await pid_of(harness, first) == await pid_of(harness, second)
    events = [event for job_id in (first, second) for event in await harness.events(job_id)]
    assert {"Early", "Later"} <= {event.step for event in events}
    assert "Late" not in {event.step for event in events}


@pytest.mark.exhaustive
async def test_a_kept_process_that_dies_costs_the_next_job_nothing(harness: WorkerHarness) -> None:
    await harness.start_worker(SLOTS="1")
    first = await run(harness, "something")
    psutil.Process(first).kill()
    job_id = await harness.submit("leave", what="something", is_shared=True)
    assert await pid_of(harness, job_id) != first
    job = await harness.job(job_id)
    assert (job.tries, job.error) == (0, None)


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("how", ["path", "link", exhaustive("linked folder"), exhaustive("pipe")])
async def test_a_body_cannot_have_a_file_stored_that_is_not_its_own(
    harness_with_worker: WorkerHarness, tmp_path: Path, how: str, is_shared: bool
) -> None:
    harness = harness_with_worker
    secret = tmp_path / "admin-token"
    secret.write_text("secret")
    job_id = await harness.submit("name_file", how=how, target=str(secret), is_shared=is_shared, max_tries=1)
    job = await harness.wait_for_status(job_id, JobStatus.FAILED)
    assert job.error["code"] == "BODY_FAILED"
    assert "which it is not" in job.error["message"]


@pytest.mark.parametrize("is_shared", [False, True])
async def test_a_body_can_have_its_own_file_stored_and_no_other_removed(
    harness_with_worker: WorkerHarness, tmp_path: Path, is_shared: bool
) -> None:
    harness = harness_with_worker
    secret = tmp_path / "admin-token"
    secret.write_text("secret")
    own = await harness.submit("name_file", how="own", target=str(secret), is_shared=is_shared)
    checkpoint = await harness.submit("name_file", how="checkpoint", target=str(secret), is_shared=is_shared)
    for job_id in (own, checkpoint):
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert secret.read_text() == "secret"
