"""The entry point of a worker process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress

import structlog
import uvloop

from db.core.work import Database
from db.errors import Unavailable
from db.services.jobs import QUEUES
from db.settings import state_settings
from db.stores.objects import ObjectStore
from db.stores.redis import CONNECTION_ERRORS, connect
from db.streams.notices import RedisNoticePublisher
from db.tables.jobs import JobKind
from workers.catalogue import project_steps
from workers.registry import declared_tasks
from workers.runtime import process_tree, sandbox, telemetry
from workers.runtime.attempt import Task, WorkerResources
from workers.runtime.engine import Engine
from workers.runtime.process_pool import ProcessPool
from workers.runtime.scratch import Scratch
from workers.settings import worker_settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def run(queues: Sequence[str] | None = None) -> None:
    """Process jobs of the queues, all if none are named, until SIGTERM or SIGINT."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(list(queues) if queues else list(QUEUES), declared_tasks()))


async def serve(queues: Sequence[str], tasks: Mapping[JobKind, Task]) -> None:
    """Process jobs of the queues with `tasks` until SIGTERM or SIGINT."""
    state, settings = state_settings(), worker_settings()
    process_tree.set_dumpable(value=False)  # bodies run as the same user
    _log_sandbox(sandbox.landlock_abi())
    async with AsyncExitStack() as stack:
        stack.enter_context(telemetry.serve_metrics(settings))
        scratch = stack.enter_context(Scratch.open(settings.scratch))
        redis = connect(state.redis_url)
        stack.push_async_callback(_close_redis, redis)
        idle_timeout = settings.idle_timeout(state.idle_transaction_timeout)
        database = await stack.enter_async_context(Database.open(state, RedisNoticePublisher(redis), idle_timeout=idle_timeout))
        objects = await stack.enter_async_context(ObjectStore.open(state))
        process_pool = await stack.enter_async_context(
            ProcessPool(preload=settings.preload, is_subreaper=True, variables=settings.body_environment, max_kept=settings.slot_count())
        )
        resources = WorkerResources(database, objects, process_pool, scratch, settings)
        engine = Engine(resources, state.redis_url, queues, tasks)

        def stop() -> None:
            resources.stopping.set()
            engine.stop()

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop)
        with suppress(Unavailable):  # the engine waits for PostgreSQL; `trellis migrate` projects the steps too
            await project_steps(database)
        await engine.run()


def _log_sandbox(abi: int) -> None:
    if abi < sandbox.NETWORK_ABI:
        unprotected = "the network, and files of this user" if abi == 0 else "the network"
        log.warning("bodies_not_sandboxed", landlock_abi=abi, unprotected=unprotected, needs="Linux 6.7 with Landlock")


async def _close_redis(redis: object) -> None:
    with suppress(*CONNECTION_ERRORS):
        await redis.aclose()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - a Redis client from `connect`
