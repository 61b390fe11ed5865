"""Real workers on a queue of their own, for tests that choose a job's body and check the outcome."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from sqlalchemy import Row, select

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts, jobs, maintenance
from db.settings import StateSettings
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from db.tables import Experiment, Job, JobAttempt, JobEvent, User, Worker
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus
from tests.client import Client
from tests.conftest import LiveServer
from tests.forked_forkserver import EXEC
from tests.prefork import ForkedProcess, prefork_server

LEASE = 1.5
QUICK_SETTINGS = {
    "LEASE": str(LEASE),
    "HEARTBEAT_INTERVAL": "0.3",
    "POLL_INTERVAL": "0.2",
    "PRELOAD": "false",
    "SLOTS": "2",
    "GRACE": "0.3",
}
SHARED_WORKER_SETTINGS = {"CANCEL_GRACE": "0.5", "BACKOFF_BASE": "0.1", "BACKOFF_FACTOR": "1"}


class WorkerHarness:
    """A database with an owner of jobs, a queue that only this test's workers serve, and the trace files of bodies."""

    def __init__(self, database: Database, owner_id: UUID, token: str, folder: Path) -> None:
        self.database = database
        self.owner_id = owner_id
        self.token = token
        self.folder = folder
        self.queue = f"test-{uuid4()}"
        self.workers: list[ForkedProcess] = []

    async def start_worker(self, **settings: str) -> ForkedProcess:
        """Start a worker and wait until it is registered."""
        worker = launch_worker(self.queue, self.folder, settings)
        self.workers.append(worker)
        await wait_registered(self.database, worker)
        return worker

    async def submit(
        self, body: str, *, max_tries: int = 3, timeout: float | None = None, owner_id: UUID | None = None, **spec: Any
    ) -> UUID:
        """Submit a job that runs this body and traces its starts in its own file."""
        parameters = {"body": body, "spec": {"trace": str(self.folder / f"{uuid4()}.trace"), **spec}}
        async with self.database.work(SYSTEM) as work:
            new_job = jobs.NewJob(
                owner_id or self.owner_id, JobKind.EXPORT, self.queue, parameters=parameters, max_tries=max_tries, timeout=timeout
            )
            return (await jobs.submit(work, new_job)).id

    async def job(self, job_id: UUID) -> Row[Any]:
        (row,) = await self.database.rows(select(*Job.__table__.c).where(Job.id == job_id))
        return row

    async def wait_for_status(self, job_id: UUID, *statuses: JobStatus, within: float = 60.0) -> Row[Any]:
        async def in_status() -> Row[Any] | None:
            row = await self.job(job_id)
            return row if row.status in statuses else None

        return await eventually(in_status, within=within)

    async def wait_for_starts(self, job_id: UUID, count: int = 1) -> list[tuple[int, float]]:
        """Wait for `count` starts of the body; return (process id, time) of each."""
        trace = Path((await self.job(job_id)).parameters["spec"]["trace"])

        async def enough_starts() -> list[tuple[int, float]] | None:
            lines = trace.read_text().splitlines() if trace.exists() else []
            return [(int(line.split()[0]), float(line.split()[1])) for line in lines] if len(lines) >= count else None

        return await eventually(enough_starts)

    async def worker_of(self, job_id: UUID) -> ForkedProcess:
        """Return the worker process that runs the job."""
        (row,) = await self.database.rows(select(Worker.name).join(Job, Job.worker_id == Worker.id).where(Job.id == job_id))
        return next(worker for worker in self.workers if f"-{worker.pid}-" in row.name)

    async def outcomes(self, job_id: UUID) -> list[str | None]:
        rows = await self.database.rows(select(JobAttempt.outcome).where(JobAttempt.job_id == job_id).order_by(JobAttempt.number))
        return [row.outcome for row in rows]

    async def effects(self, job_id: UUID) -> list[str]:
        """Return the attempts that had an effect."""
        rows = await self.database.rows(select(Experiment.name).where(Experiment.name.startswith(str(job_id))))
        return [row.name.split()[1] for row in rows]

    async def events(self, job_id: UUID) -> list[Row[Any]]:
        return list(await self.database.rows(select(*JobEvent.__table__.c).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence)))


def launch_worker(queue: str, folder: Path, settings: Mapping[str, str]) -> ForkedProcess:
    """Start a worker process that serves one queue with short intervals."""
    worker_environment = {
        name if name.startswith(("TRELLIS_", "TESTS_")) else f"TRELLIS_WORKER_{name}": value
        for name, value in {**QUICK_SETTINGS, **settings}.items()
    }
    # Bodies of tests write traces into their test's folder; tests may share the worker.
    folders = {"TRELLIS_WORKER_SCRATCH": str(folder / "scratch"), "TRELLIS_WORKER_BODY_PATHS": json.dumps([str(folder.parent)])}
    environment = {**os.environ, **folders, **worker_environment}
    if settings.keys() & {"MEMORY_BYTES", "PRELOAD"}:  # what its bodies may use is measured, or what they find
        environment[EXEC] = "true"
    return prefork_server().start([sys.executable, "-m", "tests.workers.scripted_worker", queue], environment, folder / "worker.log")


async def wait_registered(database: Database, worker: ForkedProcess) -> None:
    """Wait until the worker is registered."""

    async def registered() -> bool:
        return bool(await database.rows(select(Worker.id).where(Worker.name.contains(f"-{worker.pid}-"))))

    await eventually(registered, within=60.0)


async def run_maintenance(context: maintenance.MaintenanceContext, name: str) -> maintenance.MaintenanceResult:
    """Run a maintenance task here, once no worker of another test runs it."""
    return await eventually(lambda: maintenance.run_task(context, name, "test"))


async def eventually(probe: Callable[[], Any], within: float = 60.0) -> Any:
    """Return the first truthy result of `probe`, called every 20 ms."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if answer := await probe():
            return answer
        await asyncio.sleep(0.02)
    pytest.fail(f"Did not happen within {within} s.")


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
async def harness(settings: StateSettings, database: Database, clean: None, bucket: None, tmp_path: Path) -> AsyncGenerator[WorkerHarness]:
    redis = connect(settings.redis_url)
    async with Database.open(settings, RedisNoticePublisher(redis)) as notifying_database:
        async with notifying_database.work(SYSTEM) as work:
            token = await accounts.add_user(work, "owner@example.org", "owner", None, UserRole.MEMBER)
            owner_id = await work.scalar(select(User.id).where(User.username == "owner"))
        harness = WorkerHarness(notifying_database, owner_id, token, tmp_path)
        yield harness
        for worker in harness.workers:
            worker.send_signal(signal.SIGCONT)
            worker.kill()
            worker.wait()
    await redis.aclose()


@pytest.fixture(scope="module")
async def shared_worker_queue(settings: StateSettings, database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    """The queue of a worker that all tests of a module share, so none may harm it."""
    queue = f"test-{uuid4()}"
    worker = launch_worker(queue, tmp_path_factory.mktemp("crew"), SHARED_WORKER_SETTINGS)
    await wait_registered(database, worker)
    yield queue
    assert worker.poll() is None
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 60) == 0


@pytest.fixture
def harness_with_worker(harness: WorkerHarness, shared_worker_queue: str) -> WorkerHarness:
    """A harness on the queue of the shared worker."""
    harness.queue = shared_worker_queue
    return harness


@pytest.fixture
async def owner(harness: WorkerHarness, live_server: LiveServer) -> AsyncGenerator[Client]:
    """A client of the owner of the harness's jobs."""
    client = Client(live_server.url, harness.token)
    yield client
    await client.close()
