"""A worker in the test process that runs jobs with a task of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row

from db.core.work import Database, Work
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from db.tables.jobs import JobKind
from tests.workers.worker_harness import QUICK_SETTINGS, WorkerHarness
from workers.runtime.attempt import Task, WorkerResources
from workers.runtime.engine import Engine
from workers.runtime.process_pool import ProcessPool
from workers.runtime.scratch import Scratch
from workers.settings import WorkerSettings

LEASE = 15.0  # seconds; the worker shares a process with the tests, and must not lose its leases on a busy machine
RunningWorker = Callable[..., AbstractAsyncContextManager[ObjectStore]]


@pytest.fixture
def running_worker(harness: WorkerHarness, settings: StateSettings, tmp_path: Path) -> RunningWorker:
    """Run a worker: `async with running_worker(task, slots=4):`, with any of its settings."""

    @asynccontextmanager
    async def running_worker(task: Task, statement_timeout: float | None = None, **changes: Any) -> AsyncGenerator[ObjectStore]:
        quick_settings = {name.lower(): value for name, value in QUICK_SETTINGS.items()}
        worker_settings = WorkerSettings(scratch=tmp_path, body_paths=[tmp_path], **{**quick_settings, "lease": LEASE, **changes})  # pyright: ignore[reportArgumentType] - read from text
        redis = connect(settings.redis_url)
        with Scratch.open(worker_settings.scratch) as scratch:
            async with (
                Database.open(settings, RedisNoticePublisher(redis), statement_timeout=statement_timeout) as database,
                ObjectStore.open(settings) as objects,
                ProcessPool(preload=False) as process_pool,
            ):
                resources = WorkerResources(database, objects, process_pool, scratch, worker_settings)
                engine = Engine(resources, settings.redis_url, [harness.queue], {JobKind.EXPORT: task})
                engine_task = asyncio.create_task(engine.run())
                try:
                    yield objects
                finally:  # an engine that outlives a failed test would disturb all later tests of the process
                    engine.stop()
                    await engine_task
        await redis.aclose()

    return running_worker


async def no_effects(_work: Work, _job: Row[Any]) -> Sequence[str]:
    """The effects of a job that has none."""
    return []
