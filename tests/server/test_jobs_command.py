"""`trellis jobs` and `trellis workers`: an operator sees and steers jobs from a terminal, without the API."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts, jobs, workers
from db.services.jobs import Backoff, Claim, Failure
from db.settings import StateSettings
from db.stores.events import BELLS, listen
from db.tables import Chore, Job, User
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus
from tests.births import births

ROOT = Path(__file__).parents[2]


async def trellis(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as an operator runs it, on the tests' database."""

    environment = {**os.environ, "TRELLIS_DATA_DIR": "/nonexistent", "COLUMNS": "200"}
    command = [sys.executable, "-m", "server.cli", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        said, errors = Path(folder) / "said", Path(folder) / "errors"
        process = births().start(command, environment, said, errors=errors)
        code = await asyncio.to_thread(process.wait, 60)
        return subprocess.CompletedProcess(command, code, said.read_text(), errors.read_text())


async def lines(*arguments: str) -> list[dict[str, Any]]:
    """What a machine reads from a command that succeeds."""
    answer = await trellis(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


class Line:
    """Jobs of Ada's and Bob's in a queue that nobody serves."""

    def __init__(self, database: Database, owners: dict[str, UUID]) -> None:
        self.database = database
        self.owners = owners
        self.queue = f"test-{uuid4().hex[:8]}"

    async def submit(self, owner: str = "ada", kind: JobKind = JobKind.EXPORT, queue: str | None = None) -> UUID:
        async with self.database.work(SYSTEM) as work:
            return (await jobs.submit(work, jobs.NewJob(self.owners[owner], kind, queue or self.queue))).id

    async def claim(self, job_id: UUID) -> Claim:
        """A worker that does nothing takes the job."""
        async with self.database.work(SYSTEM) as work:
            name = f"idle-{uuid4().hex[:8]}"
            worker = await workers.register(work, name, [self.queue], 1)
            job = await jobs.claim(work, job_id, worker, name, 60)
            assert job is not None
            return Claim(job_id, job.attempt, worker)

    async def beat(self, claim: Claim) -> None:
        """The worker gives a sign of life: without one for 15 s, its queue counts as served by nobody."""
        async with self.database.work(SYSTEM) as work:
            await workers.heartbeat(work, claim.worker_id)

    async def fail(self, claim: Claim, *, retryable: bool) -> None:
        failure = Failure("BODY_FAILED", "It broke.", retryable=retryable, traceback="Traceback: here")
        async with self.database.work(SYSTEM) as work:
            await jobs.fail(work, claim, failure, 1, 3, Backoff(base=600))

    async def job(self, job_id: UUID) -> Any:
        (row,) = await self.database.rows(select(*Job.__table__.c).where(Job.id == job_id))
        return row


@pytest.fixture
async def waiting(clean: None, database: Database) -> Line:
    async with database.work(SYSTEM) as work:
        for name in ("ada", "bob"):
            await accounts.add_user(work, f"{name}@example.org", name, name.capitalize(), UserRole.MEMBER)
    found = await database.rows(select(User.username, User.id).where(User.username.in_(["ada", "bob"])))
    return Line(database, {row.username: row.id for row in found})


@asynccontextmanager
async def bells(settings: StateSettings) -> AsyncGenerator[list[str]]:
    """What rings for the workers meanwhile."""
    heard: list[str] = []
    listening = asyncio.Event()

    async def hear() -> None:
        async for bell in listen(settings.redis_url, BELLS):
            if bell is None:
                listening.set()
            else:
                heard.append(bell.decode())

    hearing = asyncio.create_task(hear())
    await listening.wait()
    try:
        yield heard
    finally:
        hearing.cancel()
        with suppress(asyncio.CancelledError):
            await hearing


def named(job_id: UUID) -> str:
    return f"job_{job_id.hex}"


async def test_the_list_can_be_narrowed_by_everything_that_tells_jobs_apart(waiting: Line) -> None:
    first = await waiting.submit()
    bobs = await waiting.submit("bob")
    training = await waiting.submit(kind=JobKind.TRAIN, queue="tabular")
    running = await waiting.submit()
    await waiting.claim(running)

    async def ids(*arguments: str) -> list[str]:
        return [line["id"] for line in await lines("jobs", "list", *arguments)]

    assert await ids() == [named(running), named(training), named(bobs), named(first)]
    assert await ids("--owner", "BOB@example.org") == [named(bobs)]
    assert await ids("--kind", "train") == [named(training)]
    assert await ids("--queue", "tabular") == [named(training)]
    assert await ids("--status", "running,completed") == [named(running)]
    assert await ids("--status", "pending", "--status", "queued", "--kind", "export") == [named(bobs), named(first)]
    assert await ids("--since", "1h", "--limit", "1") == [named(running)]
    assert await ids("--since", "2999-01-01") == []


async def test_a_page_says_how_to_get_the_next(waiting: Line) -> None:
    made = [named(await waiting.submit()) for _ in range(3)]
    page = await trellis("jobs", "list", "--limit", "2", "--json")
    assert [json.loads(line)["id"] for line in page.stdout.splitlines()] == [made[2], made[1]]
    hint, cursor = page.stderr.strip().rsplit(" ", 1)
    assert hint == "There are more. For the next page add: --after"
    rest = await trellis("jobs", "list", "--limit", "2", "--after", cursor, "--json")
    assert [json.loads(line)["id"] for line in rest.stdout.splitlines()] == [made[0]]
    assert rest.stderr == ""


async def test_a_list_says_why_a_job_waits_and_at_which_place(waiting: Line) -> None:
    await waiting.submit()
    second = await waiting.submit()
    (line, _) = await lines("jobs", "list")
    assert (line["id"], line["status"], line["owner"]) == (named(second), "PENDING", "ada@example.org")
    assert (line["waitReason"], line["queuePosition"]) == ("NO_WORKER", 2)
    table = (await trellis("jobs", "list")).stdout
    row = next(line for line in table.splitlines() if named(second) in line)
    assert row.split()[1:5] == ["PENDING", "export", waiting.queue, "ada@example.org"]
    assert row.endswith("waits: no_worker, place 2")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ("list", "--status", "done"),
            2,
            "--status takes one or more of pending, queued, running, cancelling, completed, failed, cancelled.",
        ),
        (
            ("list", "--since", "noon"),
            2,
            "--since takes `90s`, `30m`, `2h` or `7d`, or an ISO time such as 2026-01-31T12:00Z; 'noon' is neither.",
        ),
        (("list", "--owner", "eve@example.org"), 1, "Nobody has the email address 'eve@example.org'."),
        (("show", "job_" + "0" * 32), 1, f"There is nothing with the id 'job_{'0' * 32}' that you can see."),
        (("cancel", "wine"), 1, "There is nothing with the id 'wine' that you can see."),
        (("retry", str(UUID(int=5))), 1, f"There is nothing with the id '{UUID(int=5)}' that you can see."),
        (("requeue", str(UUID(int=5))), 1, f"There is nothing with the id '{UUID(int=5)}' that you can see."),
    ],
    ids=["status", "since", "owner", "show", "cancel", "retry", "requeue"],
)
async def test_what_names_nothing_is_refused_in_words(waiting: Line, arguments: tuple[str, ...], status: int, said: str) -> None:
    answer = await trellis("jobs", *arguments)
    assert (answer.returncode, answer.stdout, answer.stderr) == (status, "", said + "\n")


async def test_show_tells_all_there_is_of_a_job(waiting: Line) -> None:
    job_id = await waiting.submit()
    claim = await waiting.claim(job_id)
    await waiting.fail(claim, retryable=True)
    await waiting.beat(claim)
    (shown,) = await lines("jobs", "show", str(job_id))
    assert (shown["id"], shown["status"], shown["tries"], shown["maxTries"]) == (named(job_id), "PENDING", 1, 3)
    assert (shown["timeoutSeconds"], shown["creditCost"]) == (None, 0)
    assert (shown["waitReason"], shown["queuePosition"]) == ("RETRY_BACKOFF", None)
    assert shown["error"]["code"] == "BODY_FAILED"
    assert [(attempt["number"], attempt["outcome"]) for attempt in shown["attempts"]] == [(1, "retrying")]
    assert [(event["sequence"], event["type"]) for event in shown["events"]] == [(1, "CREATED"), (2, "STARTED"), (3, "RETRYING")]
    (brief,) = await lines("jobs", "show", named(job_id), "--events", "1")
    assert [event["type"] for event in brief["events"]] == ["RETRYING"]
    await waiting.beat(claim)
    text = (await trellis("jobs", "show", named(job_id))).stdout
    assert "waits: retry_backoff until " in text
    assert "BODY_FAILED: It broke." in text
    assert text.endswith("Traceback: here\n")


async def test_following_a_job_prints_its_events_until_it_ends(waiting: Line) -> None:
    job_id = await waiting.submit()
    following = asyncio.create_task(lines("jobs", "show", named(job_id), "--follow"))
    await asyncio.sleep(1)
    await waiting.fail(await waiting.claim(job_id), retryable=False)
    whole, *events = await asyncio.wait_for(following, 30)
    told = [*whole["events"], *events]
    assert [(event["sequence"], event["type"]) for event in told] == [(1, "CREATED"), (2, "STARTED"), (3, "FAILED")]


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker(waiting: Line, settings: StateSettings) -> None:
    idle, busy = await waiting.submit(), await waiting.submit()
    claim = await waiting.claim(busy)
    assert (await trellis("jobs", "cancel", named(idle))).stdout == "CANCELLED\n"
    async with bells(settings) as heard:
        assert (await trellis("jobs", "cancel", named(busy))).stdout == "CANCELLING: its worker is stopping it.\n"
        async with asyncio.timeout(5):
            while str(claim.worker_id) not in heard:
                await asyncio.sleep(0.02)
    assert [(await waiting.job(job)).status for job in (idle, busy)] == [JobStatus.CANCELLED, JobStatus.CANCELLING]


async def test_a_retry_is_a_new_job_of_the_same_owner(waiting: Line) -> None:
    job_id = await waiting.submit("bob")
    refused = await trellis("jobs", "retry", named(job_id))
    assert (refused.returncode, refused.stderr) == (
        1,
        "The job is PENDING; only one that has ended can be retried. Cancel it first, or wait.\n",
    )
    await waiting.fail(await waiting.claim(job_id), retryable=False)
    answer = await trellis("jobs", "retry", named(job_id))
    (shown,) = await lines("jobs", "show", answer.stdout.strip())
    assert (shown["owner"], shown["retryOf"], shown["status"]) == ("bob@example.org", named(job_id), "PENDING")


async def test_requeueing_ends_the_pause_before_a_retry_and_rings(waiting: Line, settings: StateSettings) -> None:
    job_id = await waiting.submit()
    await waiting.fail(await waiting.claim(job_id), retryable=True)
    async with waiting.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == job_id).values(dispatched_at=Job.created_at))
    async with bells(settings) as heard:
        assert (await trellis("jobs", "requeue", named(job_id))).stdout == "PENDING: the workers of its queue were rung for.\n"
        async with asyncio.timeout(5):
            while waiting.queue not in heard:
                await asyncio.sleep(0.02)
    job = await waiting.job(job_id)
    assert (job.status, job.run_after, job.dispatched_at, job.tries) == (JobStatus.PENDING, None, None, 1)


async def test_only_a_waiting_job_can_be_requeued(waiting: Line) -> None:
    job_id = await waiting.submit()
    claim = await waiting.claim(job_id)
    answer = await trellis("jobs", "requeue", named(job_id))
    assert (answer.returncode, answer.stderr) == (
        1,
        "The job is RUNNING; only one that waits can be rung for again. Cancel it and retry it, or let its worker finish.\n",
    )
    await waiting.fail(claim, retryable=False)
    answer = await trellis("jobs", "requeue", named(job_id))
    assert answer.stderr == "The job is FAILED; only one that waits can be rung for again. Retry it: that makes a new job.\n"


async def test_workers_are_listed_with_what_they_do(waiting: Line) -> None:
    claim = await waiting.claim(await waiting.submit())
    await waiting.beat(claim)
    found = {line["id"]: line for line in await lines("workers")}
    worker = found[str(claim.worker_id)]
    assert (worker["live"], worker["queues"], worker["slots"], worker["running"]) == (True, [waiting.queue], 1, 1)
    async with waiting.database.work(SYSTEM) as work:
        await workers.stop(work, claim.worker_id)
    assert str(claim.worker_id) not in {line["id"] for line in await lines("workers")}
    stopped = {line["id"]: line for line in await lines("workers", "--all")}[str(claim.worker_id)]
    assert stopped["live"] is False
    assert stopped["stoppedAt"] is not None


async def test_chores_are_listed_with_how_they_went(waiting: Line) -> None:
    async with waiting.database.work(SYSTEM) as work:
        await work.run(insert(Chore).values(name="tidy", worker="w", runs=3, failures=1, changed=7, error="It broke."))
    (chore,) = [chore for chore in await lines("jobs", "chores") if chore["name"] == "tidy"]  # a worker beside us may do its own
    assert (chore["runs"], chore["failures"], chore["changed"], chore["error"]) == (3, 1, 7, "It broke.")
    assert "It broke." in (await trellis("jobs", "chores")).stdout


async def test_a_chore_can_be_done_now(waiting: Line) -> None:
    assert (await trellis("jobs", "chores", "run", "forget_keys")).stdout == "forget_keys: 0 changed.\n"
    (chore,) = [chore for chore in await lines("jobs", "chores") if chore["name"] == "forget_keys"]
    assert (chore["failures"], chore["error"]) == (0, None)
    assert chore["runs"] >= 1
    assert chore["worker"].startswith("trellis jobs at ")
    refused = await trellis("jobs", "chores", "run", "dishes")
    assert refused.returncode == 1
    assert refused.stderr.startswith("There is no chore 'dishes'. The chores are ")


async def test_a_worker_refuses_a_queue_that_there_is_not(settings: StateSettings) -> None:
    answer = await trellis("worker", "--queues", "tabular, fast", "--queues", "slow")
    assert (answer.returncode, answer.stderr) == (
        2,
        "There is no queue 'fast', 'slow'. The queues are default, upload, text, tabular, image, audio, video, signal.\n",
    )
