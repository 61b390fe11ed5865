"""Metrics as they are recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import NotFound, Unavailable
from db.queries import jobs, metrics, runs
from db.tables.jobstates import RunStatus
from graph.core.context import Context, Info
from graph.core.failures import BadUserInput
from graph.core.ids import decode
from graph.core.permissions import subscription
from graph.experiments.metrics import MetricBatch
from graph.experiments.types import MAX_KEYS

if TYPE_CHECKING:
    from db.core.viewer import Viewer
    from db.stores.sessions import Session

T = TypeVar("T")

PAUSE = 0.3  # seconds between two batches of a run that goes on
ENDED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


@strawberry.type
class ExperimentSubscriptions:
    @subscription(
        description="The metric points of a run, from the first or from after a cursor: those there are, then each as it is recorded, in"
        " batches, at most a few a second. Completes with the run, after all of its points."
    )
    async def run_metrics(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument(description="The run.")],
        keys: Annotated[list[str] | None, strawberry.argument(description="The metrics, at most 100; all of them when not given.")] = None,
        after: Annotated[
            str | None, strawberry.argument(description="A `MetricBatch.cursor` of this run; from the start when not given.")
        ] = None,
    ) -> AsyncGenerator[MetricBatch, None]:
        context = info.context
        if keys is not None and len(keys) > MAX_KEYS:
            raise BadUserInput(f"`keys` has {len(keys)} entries; at most {MAX_KEYS} are taken at once.")
        run_id = decode("run", id)
        found = await runs.live_by_id(context.database, context.signed_in, [run_id])
        if run_id not in found:
            raise NotFound(id)
        run = found[run_id]
        after = context.progress.after or after
        seen = -1
        if after is not None:
            job = (await jobs.by_id(context.database, context.signed_in, [run.job_id])).get(run.job_id) if run.job_id else None
            seen = metrics.batch_of(after, run_id, None if job is None else job.last_sequence)
        return _batches(context, run, seen, keys)


async def _batches(context: Context, run: Any, seen: int, keys: list[str] | None) -> AsyncGenerator[MetricBatch, None]:
    assert context.session is not None
    session = context.session
    with ExitStack() as stack:
        bell = None if run.job_id is None else stack.enter_context(context.feed.bell(run.job_id, session))
        while True:
            viewer = session.viewer
            # In this order: whatever the run recorded was there before it was over.
            over = await _patiently(session, lambda: _is_over(context, session.viewer, run.id))
            rows = await _patiently(session, lambda: metrics.after(context.database, session.viewer, run.id, seen, keys))  # noqa: B023 - called at once
            if session.viewer != viewer:
                continue
            sent = time.monotonic()
            if rows:
                seen = rows[-1].batch
                cursor = context.progress.reached = metrics.cursor_of(run.id, seen)
                yield MetricBatch.of(rows, cursor)
            if len(rows) >= metrics.REPLAY:
                continue
            if over or bell is None:
                return
            await bell.wait()  # which event it is does not matter, for the points are read in any case
            await asyncio.sleep(max(0.0, sent + PAUSE - time.monotonic()))


async def _is_over(context: Context, viewer: Viewer, run_id: UUID) -> bool:
    """Raises `NotFound` for a run that the viewer may not see any more, or that is gone."""
    found = await runs.by_id(context.database, viewer, [run_id])
    if run_id not in found:
        raise NotFound(str(run_id))
    return found[run_id].status in ENDED


async def _patiently(session: Session, read: Callable[[], Awaitable[T]]) -> T:
    """What is read; while Postgres is away, it is waited for. Raises `SignedOut`."""
    while True:
        session.check()
        try:
            found = await read()
        except Unavailable:
            await asyncio.sleep(PAUSE)
            continue
        session.check()
        return found
