"""Subscription to the metrics of a run."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import NotFound
from db.queries import jobs, metrics, runs
from db.tables.experiments import RunStatus
from graph.core.context import Context, Info
from graph.core.errors import BadUserInput
from graph.core.ids import decode
from graph.core.permissions import subscription
from graph.core.session_reads import read_with_retry
from graph.experiments.metrics import MetricBatch
from graph.experiments.types import MAX_KEYS

if TYPE_CHECKING:
    from db.core.viewer import Viewer

BATCH_INTERVAL = 0.3  # seconds between two batches while the run goes on
TERMINAL_STATUSES = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED})


@strawberry.type
class ExperimentSubscriptions:
    @subscription(
        description="The metric points of a run, from the first one or from after a cursor: first those that exist, then new ones as they are"
        " recorded, in batches, at most a few per second. Completes when the run has ended, after all of its points; an external run may go on later:"
        " subscribe again, after the last cursor."
    )
    async def run_metrics(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument(description="The run.")],
        keys: Annotated[
            list[str] | None, strawberry.argument(description="The keys of the metrics, at most 100; all metrics by default.")
        ] = None,
        after: Annotated[
            str | None,
            strawberry.argument(description="A `MetricBatch.cursor` of this run; by default, the stream starts with the first point."),
        ] = None,
    ) -> AsyncGenerator[MetricBatch, None]:
        context = info.context
        if keys is not None and len(keys) > MAX_KEYS:
            raise BadUserInput(f"`keys` has {len(keys)} entries; at most {MAX_KEYS} are accepted at once.")
        run_id = decode("run", id)
        runs_by_id = await runs.live_by_id(context.database, context.signed_in_viewer, [run_id])
        if run_id not in runs_by_id:
            raise NotFound(id)
        run = runs_by_id[run_id]
        after = context.progress.after or after
        last_batch = -1
        if after is not None:
            last_batch = metrics.batch_of(after, run_id, await _last_batch(context, run))
        return _stream_batches(context, run, last_batch, keys)


async def _stream_batches(context: Context, run: Any, last_batch: int, keys: list[str] | None) -> AsyncGenerator[MetricBatch, None]:
    assert context.session is not None
    session = context.session
    with ExitStack() as stack:
        signal = stack.enter_context(context.feed.signal(run.id if run.job_id is None else run.job_id, session))
        while True:
            viewer = session.viewer
            # Read the status before the points: the run of a job that has ended records no more points.
            has_ended = await read_with_retry(session, lambda: _has_ended(context, session.viewer, run.id))
            rows = await read_with_retry(session, lambda: metrics.points_after(context.database, session.viewer, run.id, last_batch, keys))  # noqa: B023 - called at once
            if session.viewer != viewer:
                continue
            sent_at = time.monotonic()
            if rows:
                last_batch = rows[-1].batch
                cursor = context.progress.last_cursor = metrics.cursor_of(run.id, last_batch)
                yield MetricBatch.of(rows, cursor)
            if len(rows) >= metrics.REPLAY:
                continue
            if has_ended:
                return
            await signal.wait()  # any event of the job, or write to the run, may mean new points
            await asyncio.sleep(max(0.0, sent_at + BATCH_INTERVAL - time.monotonic()))


async def _last_batch(context: Context, run: Any) -> int | None:
    """The number of the last batch that a cursor can name."""
    if run.job_id is None:
        return run.last_batch
    job = (await jobs.by_id(context.database, context.signed_in_viewer, [run.job_id])).get(run.job_id)
    return None if job is None else job.last_sequence


async def _has_ended(context: Context, viewer: "Viewer", run_id: UUID) -> bool:
    """Return whether the run has ended. Raises `NotFound` if it is gone or the viewer may no longer see it."""
    runs_by_id = await runs.by_id(context.database, viewer, [run_id])
    if run_id not in runs_by_id:
        raise NotFound(str(run_id))
    return runs_by_id[run_id].status in TERMINAL_STATUSES
