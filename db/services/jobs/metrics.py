"""Metric points in batches. One METRIC event announces a batch, and its sequence is the batch's number.

Points are first copied to a staging table, which takes no lock, then moved under the lock of the job's row. A failure in between leaves
only staged rows, which nobody reads and a maintenance task deletes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Integer, Select, Text, Uuid, bindparam, delete, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.base import finite_or_none
from db.core.work import Database, Work
from db.errors import Unavailable
from db.services.jobs import events
from db.services.jobs.transitions import Claim, lock_if_held
from db.services.summaries import insert_summaries, upsert_summaries
from db.tables import MetricPoint, Run, RunMetric, StagedPoint
from db.tables.jobs import JobEventType

_COLUMNS = ("batch_id", "position", "key", "step", "value", "recorded_at")


@dataclass(frozen=True, slots=True)
class Point:
    """One value at one step; NaN and infinities are values too."""

    key: str
    step: int
    value: float
    recorded_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """A batch in the staging table; each step of a key is there once. `values` has the last of each key, None if it is not finite."""

    batch_id: UUID
    values: dict[str, float | None]
    count: int


async def stage(database: Database, points: Sequence[Point]) -> StagedBatch:
    """COPY points to the staging table in a transaction of their own. Of a step that is reported twice, the last value counts."""
    latest = {(point.key, point.step): point for point in points}
    batch_id = uuid4()
    records = [(batch_id, position, *astuple(point)) for position, point in enumerate(latest.values())]
    await database.copy(StagedPoint.__tablename__, _COLUMNS, records)
    # Sorted by key and step, so that the last step of a key is the one that stays.
    values = {key: finite_or_none(point.value) for (key, _), point in sorted(latest.items(), key=itemgetter(0))}
    return StagedBatch(batch_id, values, len(records))


async def record(work: Work, claim: Claim, run_id: UUID, staged: StagedBatch, step: str | None = None) -> int | None:
    """Move staged points to the run and update its summaries. The event is written first: it locks the job and checks the claim. None if that is lost.

    `step` is the step of the event: the part of the job that reported the points.
    Raises `Unavailable` if the staged points are gone, as after a crash of PostgreSQL: stage them again.
    """
    data = {"keys": list(staged.values), "points": staged.count, "values": staged.values}
    job = await events.append(work, claim, JobEventType.METRIC, data=data, step=step)
    if job is None:
        return None
    moved_count = await work.scalar(_MOVE, {"p_batch_id": staged.batch_id, "p_run_id": run_id, "p_sequence": job.last_sequence})
    if moved_count != staged.count:
        raise Unavailable("database", f"{staged.count} points were staged, {moved_count} are there.")
    return job.last_sequence


async def rewind(work: Work, claim: Claim, run_id: UUID, last_steps: Mapping[str, int]) -> bool:
    """Delete the points after `last_steps`, the last step to keep of each key. False if the claim is lost."""
    if not await lock_if_held(work, claim):
        return False
    await work.run(_DELETE_PAST, {"p_run_id": run_id, "p_keys": list(last_steps), "p_steps": list(last_steps.values())})
    await work.run(delete(RunMetric).where(RunMetric.run_id == run_id))
    await work.run(_REBUILD_SUMMARIES, {"p_run_id": run_id})
    return True


_RUN: ColumnElement[UUID] = bindparam("p_run_id", type_=Uuid())
_EXPERIMENT: ColumnElement[UUID] = select(Run.experiment_id).where(Run.id == _RUN).scalar_subquery()


def _move() -> Select[int]:
    """Build the statement that moves a batch from the staging table to the points and the summaries. A point replaces that of its step."""
    moved = delete(StagedPoint).where(StagedPoint.batch_id == bindparam("p_batch_id", type_=Uuid()))
    moved = moved.returning(StagedPoint.key, StagedPoint.step, StagedPoint.value, StagedPoint.recorded_at).cte("moved")
    sequence = bindparam("p_sequence", type_=MetricPoint.batch.type)
    is_of_step = (MetricPoint.run_id == _RUN) & (MetricPoint.key == moved.c.key) & (MetricPoint.step == moved.c.step)
    replacing = update(MetricPoint).where(is_of_step)
    replacing = replacing.values(value=moved.c.value, recorded_at=moved.c.recorded_at, batch=sequence)
    replaced = replacing.returning(MetricPoint.key, MetricPoint.step).cte("replaced")
    is_replaced = exists().where(replaced.c.key == moved.c.key, replaced.c.step == moved.c.step)
    rows = select(_RUN, moved.c.key, moved.c.step, moved.c.value, moved.c.recorded_at, sequence).where(~is_replaced)
    added = insert(MetricPoint).from_select(["run_id", "key", "step", "value", "recorded_at", "batch"], rows)
    summaries = upsert_summaries(moved, added.returning(MetricPoint.key).cte("added"), _RUN, _EXPERIMENT, replaces=True)
    return select(func.count()).select_from(moved).add_cte(summaries)


def _delete_past() -> Any:
    bounds = func.unnest(bindparam("p_keys", type_=ARRAY(Text)), bindparam("p_steps", type_=ARRAY(Integer)))
    bounds = bounds.table_valued("key", "step").render_derived(name="bounds")
    is_within = exists(select(1).select_from(bounds).where(bounds.c.key == MetricPoint.key, MetricPoint.step <= bounds.c.step))
    return delete(MetricPoint).where(MetricPoint.run_id == _RUN, ~is_within)


def _rebuild_summaries() -> Any:
    columns = (MetricPoint.key, MetricPoint.step, MetricPoint.value, MetricPoint.recorded_at)
    return insert_summaries(select(*columns).where(MetricPoint.run_id == _RUN).subquery("points"), _RUN, _EXPERIMENT)


_MOVE = _move()
_DELETE_PAST = _delete_past()
_REBUILD_SUMMARIES = _rebuild_summaries()
