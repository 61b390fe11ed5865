"""A worker in the tests' own process, whose jobs are done by a task of the test's own."""

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
from db.stores.events import RedisPost, connect
from db.stores.objects import ObjectStore
from db.tables.jobs import JobKind
from tests.workers.stage import QUICK, Stage
from workers.runtime.attempt import Task, Tools
from workers.runtime.child import Nursery
from workers.runtime.engine import Engine
from workers.runtime.scratch import Scratch
from workers.settings import WorkerSettings

LEASE = 15.0  # seconds: it shares a process with the tests, and a busy machine must not cost it the jobs
Working = Callable[..., AbstractAsyncContextManager[ObjectStore]]


@pytest.fixture
def working(stage: Stage, settings: StateSettings, tmp_path: Path) -> Working:
    """`async with working(task, slots=4):` with any of a worker's settings."""

    @asynccontextmanager
    async def working(task: Task, statement_timeout: float | None = None, **changes: Any) -> AsyncGenerator[ObjectStore]:
        quick = {name.lower(): value for name, value in QUICK.items()}
        own = WorkerSettings(scratch=tmp_path, **{**quick, "lease": LEASE, **changes})  # pyright: ignore[reportArgumentType] - read from text
        redis = connect(settings.redis_url)
        with Scratch.open(own.scratch) as scratch:
            async with (
                Database.open(settings, RedisPost(redis), statement_timeout=statement_timeout) as database,
                ObjectStore.open(settings) as objects,
                Nursery(preload=False) as nursery,
            ):
                tools = Tools(database, objects, nursery, scratch, own)
                engine = Engine(tools, settings.redis_url, [stage.queue], {JobKind.EXPORT: task})
                running = asyncio.create_task(engine.run())
                yield objects
                engine.stop()
                await running
        await redis.aclose()

    return working


async def nothing(_work: Work, _job: Row[Any]) -> Sequence[str]:
    """The effects of a job that has none."""
    return []
