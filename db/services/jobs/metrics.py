"""Points of curves, a batch at a time: one event says how far they reach, and its sequence is the batch's number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Double, Integer, Text, case, func, literal, literal_column, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.services.jobs import events
from db.services.jobs.transitions import Claim
from db.tables import MetricPoint, RunMetric
from db.tables.jobs import JobEventType


@dataclass(frozen=True, slots=True)
class Point:
    """One value at one step; NaN and infinities are values too."""

    key: str
    step: int
    value: float


async def record(work: Work, claim: Claim, run_id: UUID, points: Sequence[Point]) -> int | None:
    """Write the points and their summaries. The event comes first: it locks the job and proves the claim. None when that is lost.

    A step that is reported twice keeps its last value.
    """
    latest = {(point.key, point.step): point.value for point in points}
    keys = sorted({key for key, _ in latest})
    job = await events.append(work, claim, JobEventType.METRIC, data={"keys": keys, "points": len(latest)})
    if job is None:
        return None
    rows = select(
        literal(run_id, MetricPoint.run_id.type),
        func.unnest(literal([key for key, _ in latest], ARRAY(Text))),
        func.unnest(literal([step for _, step in latest], ARRAY(Integer))),
        func.unnest(literal(list(latest.values()), ARRAY(Double))),
        literal(job.last_sequence, MetricPoint.batch.type),
    )
    insert = upsert(MetricPoint).from_select(["run_id", "key", "step", "value", "batch"], rows)
    new = insert.excluded
    insert = insert.on_conflict_do_update(
        index_elements=["run_id", "key", "step"], set_={"value": new.value, "batch": new.batch, "recorded_at": func.now()}
    )
    # In Postgres 18 RETURNING sees the row as it was: absent for a point that was not there before.
    written = await work.all(insert.returning(MetricPoint.key, literal_column("old.step IS NULL", Boolean).label("fresh")))
    fresh = dict.fromkeys(keys, 0)
    for row in written:
        fresh[row.key] += bool(row.fresh)
    await _summarise(work, run_id, latest, fresh)
    return job.last_sequence


async def _summarise(work: Work, run_id: UUID, latest: dict[tuple[str, int], float], fresh: dict[str, int]) -> None:
    summaries: list[dict[str, Any]] = []
    for key, count in fresh.items():
        steps = sorted((step, value) for (name, step), value in latest.items() if name == key)
        finite = [(value, step) for step, value in steps if math.isfinite(value)]
        least = min(finite, default=(None, None))
        greatest = max(finite, key=lambda found: (found[0], -found[1]), default=(None, None))
        summaries.append(
            {
                "run_id": run_id,
                "key": key,
                "last": steps[-1][1],
                "last_step": steps[-1][0],
                "min": least[0],
                "min_step": least[1],
                "max": greatest[0],
                "max_step": greatest[1],
                "count": count,
            }
        )
    row = upsert(RunMetric).values(summaries)
    new = row.excluded
    later = new.last_step >= RunMetric.last_step
    lower = (RunMetric.min.is_(None)) | (new.min < RunMetric.min)
    higher = (RunMetric.max.is_(None)) | (new.max > RunMetric.max)
    await work.run(
        row.on_conflict_do_update(
            index_elements=["run_id", "key"],
            set_={
                "last": case((later, new.last), else_=RunMetric.last),
                "last_step": case((later, new.last_step), else_=RunMetric.last_step),
                "min": case((lower, new.min), else_=RunMetric.min),
                "min_step": case((lower, new.min_step), else_=RunMetric.min_step),
                "max": case((higher, new.max), else_=RunMetric.max),
                "max_step": case((higher, new.max_step), else_=RunMetric.max_step),
                "count": RunMetric.count + new.count,
            },
        )
    )
