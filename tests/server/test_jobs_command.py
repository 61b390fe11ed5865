"""`trellis jobs` and `trellis workers`: an operator inspects and controls jobs from a terminal, without the API."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
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
from db.services.jobs import Backoff, Claim, Failure, NodeChange, nodes
from db.settings import StateSettings
from db.streams.notices import DISPATCH_CHANNEL, listen
from db.tables import Job, MaintenanceTaskState, User
from db.tables.jobs import JobKind, JobNodeStatus
from db.tables.jobstates import JobStatus
from tests.prefork import prefork_server, run_command

ROOT = Path(__file__).parents[2]


async def trellis(*arguments: str, stdin: str = "", **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command as an operator would, on the tests' database."""
    environment = {**os.environ, "TRELLIS_DATA_DIR": "/nonexistent", "COLUMNS": "200", **settings}
    prefork_server()  # in the main thread
    return await asyncio.to_thread(run_command, environment, *arguments, stdin=stdin)


async def trellis_when_free(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same, again while a worker of another test is at the same maintenance task."""
    while True:
        answer = await trellis(*arguments)
        if "being run by another process" not in answer.stderr and "at this moment" not in answer.stderr:
            return answer


async def json_lines(*arguments: str) -> list[dict[str, Any]]:
    """Return the JSON lines that a command prints; it must succeed."""
    answer = await trellis_when_free(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return [json.loads(line) for line in answer.stdout.splitlines()]


class UnservedQueue:
    """Jobs of Ada's and Bob's in a queue without workers."""

    def __init__(self, database: Database, owners: dict[str, UUID]) -> None:
        self.database = database
        self.owners = owners
        self.queue = f"test-{uuid4().hex[:8]}"

    async def submit(self, owner: str = "ada", kind: JobKind = JobKind.EXPORT, queue: str | None = None) -> UUID:
        async with self.database.work(SYSTEM) as work:
            return (await jobs.submit(work, jobs.NewJob(self.owners[owner], kind, queue or self.queue))).id

    async def claim(self, job_id: UUID) -> Claim:
        """Claim the job for a worker that does nothing."""
        async with self.database.work(SYSTEM) as work:
            name = f"idle-{uuid4().hex[:8]}"
            worker = await workers.register(work, name, [self.queue], 1)
            job = await jobs.claim(work, job_id, worker, name, 60)
            assert job is not None
            return Claim(job_id, job.attempt, worker)

    async def heartbeat(self, claim: Claim) -> None:
        """Send a heartbeat of the worker: without one for 15 s, its queue counts as not served."""
        async with self.database.work(SYSTEM) as work:
            await workers.heartbeat(work, claim.worker_id)

    async def fail(self, claim: Claim, *, retryable: bool) -> None:
        failure = Failure("BODY_FAILED", "It broke.", retryable=retryable, traceback="Traceback: here")
        async with self.database.work(SYSTEM) as work:
            await jobs.fail(work, claim, failure, 1, 3, Backoff(base=600))

    async def begin_nodes(self, claim: Claim, *keys: str) -> None:
        """Insert nodes, of which the first is running."""
        async with self.database.work(SYSTEM) as work:
            await nodes.begin(work, claim, [(key, "scale") for key in keys])
            await nodes.record(work, claim, {keys[0]: NodeChange(keys[0], JobNodeStatus.RUNNING, 10)})

    async def job(self, job_id: UUID) -> Any:
        (row,) = await self.database.rows(select(*Job.__table__.c).where(Job.id == job_id))
        return row


@pytest.fixture
async def unserved_queue(clean: None, database: Database) -> UnservedQueue:
    async with database.work(SYSTEM) as work:
        for name in ("ada", "bob"):
            await accounts.add_user(work, f"{name}@example.org", name, name.capitalize(), UserRole.MEMBER)
    rows = await database.rows(select(User.username, User.id).where(User.username.in_(["ada", "bob"])))
    return UnservedQueue(database, {row.username: row.id for row in rows})


@asynccontextmanager
async def dispatch_notices(settings: StateSettings) -> AsyncGenerator[list[str]]:
    """Collect the dispatch notices published meanwhile."""
    received: list[str] = []
    is_subscribed = asyncio.Event()

    async def receive() -> None:
        async for notice in listen(settings.redis_url, DISPATCH_CHANNEL):
            if notice is None:
                is_subscribed.set()
            else:
                received.append(notice.decode())

    receiver = asyncio.create_task(receive())
    await is_subscribed.wait()
    try:
        yield received
    finally:
        receiver.cancel()
        with suppress(asyncio.CancelledError):
            await receiver


def global_id(job_id: UUID) -> str:
    return f"job_{job_id.hex}"


@pytest.mark.exhaustive
async def test_the_list_can_be_filtered_by_everything_that_distinguishes_jobs(unserved_queue: UnservedQueue) -> None:
    first = await unserved_queue.submit()
    bobs = await unserved_queue.submit("bob")
    training = await unserved_queue.submit(kind=JobKind.TRAIN, queue="tabular")
    running = await unserved_queue.submit()
    await unserved_queue.claim(running)

    async def ids(*arguments: str) -> list[str]:
        return [line["id"] for line in await json_lines("jobs", "list", *arguments)]

    assert await ids() == [global_id(running), global_id(training), global_id(bobs), global_id(first)]
    assert await ids("--owner", "BOB@example.org") == [global_id(bobs)]
    assert await ids("--kind", "train") == [global_id(training)]
    assert await ids("--queue", "tabular") == [global_id(training)]
    assert await ids("--status", "running,completed") == [global_id(running)]
    assert await ids("--status", "pending", "--status", "queued", "--kind", "export") == [global_id(bobs), global_id(first)]
    assert await ids("--since", "1h", "--limit", "1") == [global_id(running)]
    assert await ids("--since", "2999-01-01") == []


async def test_a_page_says_how_to_get_the_next(unserved_queue: UnservedQueue) -> None:
    job_ids = [global_id(await unserved_queue.submit()) for _ in range(3)]
    page = await trellis("jobs", "list", "--limit", "2", "--json")
    assert [json.loads(line)["id"] for line in page.stdout.splitlines()] == [job_ids[2], job_ids[1]]
    hint, cursor = page.stderr.strip().rsplit(" ", 1)
    assert hint == "There are more. For the next page add: --after"
    rest = await trellis("jobs", "list", "--limit", "2", "--after", cursor, "--json")
    assert [json.loads(line)["id"] for line in rest.stdout.splitlines()] == [job_ids[0]]
    assert rest.stderr == ""


async def test_a_list_says_why_a_job_waits_and_at_which_place(unserved_queue: UnservedQueue) -> None:
    await unserved_queue.submit()
    second = await unserved_queue.submit()
    (line, _) = await json_lines("jobs", "list")
    assert (line["id"], line["status"], line["owner"]) == (global_id(second), "PENDING", "ada@example.org")
    assert (line["waitReason"], line["queuePosition"]) == ("NO_WORKER", 2)
    table = (await trellis("jobs", "list")).stdout
    row = next(line for line in table.splitlines() if global_id(second) in line)
    assert row.split()[1:5] == ["PENDING", "export", unserved_queue.queue, "ada@example.org"]
    assert row.endswith("waits: no_worker, place 2")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
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
        (("list", "--owner", "eve@example.org"), 1, "No user has the email address 'eve@example.org'."),
        (("show", "job_" + "0" * 32), 1, f"There is nothing with the id 'job_{'0' * 32}' that you can see."),
        (("cancel", "wine"), 1, "There is nothing with the id 'wine' that you can see."),
        (("retry", str(UUID(int=5))), 1, f"There is nothing with the id '{UUID(int=5)}' that you can see."),
        (("requeue", str(UUID(int=5))), 1, f"There is nothing with the id '{UUID(int=5)}' that you can see."),
    ],
    ids=["status", "since", "owner", "show", "cancel", "retry", "requeue"],
)
async def test_unknown_names_are_refused_with_an_explanation(
    unserved_queue: UnservedQueue, arguments: tuple[str, ...], status: int, message: str
) -> None:
    answer = await trellis("jobs", *arguments)
    assert (answer.returncode, answer.stdout, answer.stderr) == (status, "", message + "\n")


async def test_show_prints_everything_about_a_job(unserved_queue: UnservedQueue) -> None:
    job_id = await unserved_queue.submit()
    claim = await unserved_queue.claim(job_id)
    await unserved_queue.begin_nodes(claim, "first", "second")
    await unserved_queue.fail(claim, retryable=True)
    await unserved_queue.heartbeat(claim)
    (job,) = await json_lines("jobs", "show", str(job_id))
    assert (job["id"], job["status"], job["tries"], job["maxTries"]) == (global_id(job_id), "PENDING", 1, 3)
    assert (job["timeoutSeconds"], job["creditCost"]) == (None, 0)
    assert (job["waitReason"], job["queuePosition"]) == ("RETRY_BACKOFF", None)
    assert job["error"]["code"] == "BODY_FAILED"
    assert [(attempt["number"], attempt["outcome"]) for attempt in job["attempts"]] == [(1, "retrying")]
    assert [(event["sequence"], event["type"]) for event in job["events"]] == [(1, "CREATED"), (2, "STARTED"), (3, "RETRYING")]
    assert [(node["key"], node["status"]) for node in job["nodes"]] == [("first", "FAILED"), ("second", "SKIPPED")]
    assert job["events"][-1]["data"]["nodes"] == [{"key": "first", "status": "FAILED"}]
    (brief,) = await json_lines("jobs", "show", global_id(job_id), "--events", "1")
    assert [event["type"] for event in brief["events"]] == ["RETRYING"]
    await unserved_queue.heartbeat(claim)
    text = (await trellis("jobs", "show", global_id(job_id))).stdout
    assert "waits: retry_backoff until " in text
    assert "BODY_FAILED: It broke." in text
    assert " first: It broke." in text
    assert text.endswith("Traceback: here\n")


async def test_following_a_job_prints_its_events_until_it_ends(unserved_queue: UnservedQueue) -> None:
    job_id = await unserved_queue.submit()
    following = asyncio.create_task(json_lines("jobs", "show", global_id(job_id), "--follow"))
    await asyncio.sleep(1)
    await unserved_queue.fail(await unserved_queue.claim(job_id), retryable=False)
    job, *events = await asyncio.wait_for(following, 30)
    all_events = [*job["events"], *events]
    assert [(event["sequence"], event["type"]) for event in all_events] == [(1, "CREATED"), (2, "STARTED"), (3, "FAILED")]


async def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker(
    unserved_queue: UnservedQueue, settings: StateSettings
) -> None:
    idle, busy = await unserved_queue.submit(), await unserved_queue.submit()
    claim = await unserved_queue.claim(busy)
    assert (await trellis("jobs", "cancel", global_id(idle))).stdout == "CANCELLED\n"
    async with dispatch_notices(settings) as received:
        assert (await trellis("jobs", "cancel", global_id(busy))).stdout == "CANCELLING: its worker is stopping it.\n"
        async with asyncio.timeout(60):
            while str(claim.worker_id) not in received:
                await asyncio.sleep(0.02)
    assert [(await unserved_queue.job(job)).status for job in (idle, busy)] == [JobStatus.CANCELLED, JobStatus.CANCELLING]


async def test_a_retry_is_a_new_job_of_the_same_owner(unserved_queue: UnservedQueue) -> None:
    job_id = await unserved_queue.submit("bob")
    refused = await trellis("jobs", "retry", global_id(job_id))
    assert (refused.returncode, refused.stderr) == (
        1,
        "The job is PENDING; only one that has ended can be retried. Cancel it first, or wait.\n",
    )
    await unserved_queue.fail(await unserved_queue.claim(job_id), retryable=False)
    answer = await trellis("jobs", "retry", global_id(job_id))
    (job,) = await json_lines("jobs", "show", answer.stdout.strip())
    assert (job["owner"], job["retryOf"], job["status"]) == ("bob@example.org", global_id(job_id), "PENDING")


async def test_requeueing_ends_the_pause_before_a_retry_and_dispatches(unserved_queue: UnservedQueue, settings: StateSettings) -> None:
    job_id = await unserved_queue.submit()
    await unserved_queue.fail(await unserved_queue.claim(job_id), retryable=True)
    async with unserved_queue.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == job_id).values(dispatched_at=Job.created_at))
    async with dispatch_notices(settings) as received:
        assert (await trellis("jobs", "requeue", global_id(job_id))).stdout == "PENDING: the workers of its queue have been notified.\n"
        async with asyncio.timeout(60):
            while unserved_queue.queue not in received:
                await asyncio.sleep(0.02)
    job = await unserved_queue.job(job_id)
    assert (job.status, job.run_after, job.dispatched_at, job.tries) == (JobStatus.PENDING, None, None, 1)


async def test_only_a_waiting_job_can_be_requeued(unserved_queue: UnservedQueue) -> None:
    job_id = await unserved_queue.submit()
    claim = await unserved_queue.claim(job_id)
    answer = await trellis("jobs", "requeue", global_id(job_id))
    assert (answer.returncode, answer.stderr) == (
        1,
        "The job is RUNNING; only a waiting job can be requeued. Cancel it and retry it, or let its worker finish.\n",
    )
    await unserved_queue.fail(claim, retryable=False)
    answer = await trellis("jobs", "requeue", global_id(job_id))
    assert answer.stderr == "The job is FAILED; only a waiting job can be requeued. Retry it: that submits a new job.\n"


async def test_workers_are_listed_with_what_they_do(unserved_queue: UnservedQueue) -> None:
    claim = await unserved_queue.claim(await unserved_queue.submit())
    await unserved_queue.heartbeat(claim)
    by_id = {line["id"]: line for line in await json_lines("workers")}
    worker = by_id[str(claim.worker_id)]
    assert (worker["live"], worker["queues"], worker["slots"], worker["running"]) == (True, [unserved_queue.queue], 1, 1)
    async with unserved_queue.database.work(SYSTEM) as work:
        await workers.stop(work, claim.worker_id)
    assert str(claim.worker_id) not in {line["id"] for line in await json_lines("workers")}
    stopped = {line["id"]: line for line in await json_lines("workers", "--all")}[str(claim.worker_id)]
    assert stopped["live"] is False
    assert stopped["stoppedAt"] is not None


async def test_maintenance_tasks_are_listed_with_how_they_went(unserved_queue: UnservedQueue) -> None:
    async with unserved_queue.database.work(SYSTEM) as work:
        await work.run(insert(MaintenanceTaskState).values(name="tidy", worker="w", runs=3, failures=1, changed=7, error="It broke."))
    (task,) = [task for task in await json_lines("jobs", "maintenance") if task["name"] == "tidy"]  # a worker beside us may run its own
    assert (task["runs"], task["failures"], task["changed"], task["error"]) == (3, 1, 7, "It broke.")
    assert "It broke." in (await trellis("jobs", "maintenance")).stdout
    assert (await trellis("jobs", "chores")).stdout.startswith("task ")  # the deprecated name


async def test_a_maintenance_task_can_be_done_now(unserved_queue: UnservedQueue) -> None:
    assert (await trellis_when_free("jobs", "maintenance", "run", "forget_keys")).stdout == "forget_keys: 0 changed.\n"
    (task,) = [task for task in await json_lines("jobs", "maintenance") if task["name"] == "forget_keys"]
    assert (task["failures"], task["error"]) == (0, None)
    assert task["runs"] >= 1
    assert task["worker"].startswith("trellis jobs at ")
    refused = await trellis("jobs", "maintenance", "run", "dishes")
    assert refused.returncode == 1
    assert refused.stderr.startswith("There is no maintenance task 'dishes'. The tasks are ")


async def test_a_worker_refuses_a_queue_that_there_is_not(settings: StateSettings) -> None:
    answer = await trellis("worker", "--queues", "tabular, fast", "--queues", "slow")
    assert (answer.returncode, answer.stderr) == (
        2,
        "There is no queue 'fast', 'slow'. The queues are default, upload, text, tabular, image, audio, video, signal.\n",
    )
