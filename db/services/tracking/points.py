"""Log points of metrics to an external run: one statement for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Double, Integer, Text, Uuid, bindparam, func, literal_column, select, true, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError

from db.core.checks import Checks
from db.core.prepared import SELECTS
from db.core.unique import violated_unique_index
from db.core.viewer import Viewer
from db.core.work import Database, Notice, Work
from db.errors import invalid
from db.services.summaries import upsert_summaries
from db.services.tracking.runs import heartbeat, is_writable, raise_unwritable
from db.tables import MetricPoint, Run

MAX_POINTS = 1_000  # in one batch
KEY_LENGTH = 250
# The fields of LoggedPoint in their order.
_POINT = {"key": Text, "step": Integer, "value": Double, "recorded_at": DateTime(timezone=True)}


class LoggedPoint(NamedTuple):
    """One value at one step; NaN and infinities are values too. Without a time, it is recorded now."""

    key: str
    step: int
    value: float
    recorded_at: datetime | None = None


async def log(work: Work, run_id: UUID, points: Sequence[LoggedPoint]) -> int:
    """Add points to an external run; return how many were new: one that is equal to another in key, step, time and value changes nothing.

    The row of the run is locked first, so that the batches of a run are numbered in the order of their commits: a stream that has read one has read all
    before it. Raises `InvalidInput`, `NotFound`, or `WrongState` for the run of a job.
    """
    work.viewer.require_write()
    _check(points)
    row = await work.first(_statement(work.viewer), _arguments(run_id, points))
    if row is None:
        await raise_unwritable(work, run_id)
        raise AssertionError(run_id)
    work.viewer.require_write_in(row.owner_id)
    work.notify(Notice(run_id, row.last_batch))
    return row.added


async def log_alone(database: Database, viewer: Viewer, run_id: UUID, points: Sequence[LoggedPoint]) -> int:
    """`log` as a whole unit of work: one statement, which is sent as it was prepared. Single points arrive by thousands.

    Nearly all points are new. PostgreSQL takes three quarters of the time for them if the statement need not expect any that is there already; where one
    is, nothing is written, and the statement that leaves it out does all of it.
    """
    if viewer.is_read_only_somewhere:  # whose run it is, and so whether they may write, is known when it is written
        async with database.work(viewer) as work:
            return await log(work, run_id, points)
    viewer.require_write()
    _check(points)
    arguments = _arguments(run_id, points)
    names = frozenset(arguments)
    statement = SELECTS.get(_statement_for_new, viewer, _statement_for_new, names)
    try:
        records = await database.write(statement, statement.values(viewer, arguments))
    except IntegrityError as error:
        if violated_unique_index(error) is None:
            raise
        statement = SELECTS.get(_statement, viewer, _statement, names)
        records = await database.write(statement, statement.values(viewer, arguments))
    if not records:
        async with database.work(viewer) as work:
            await raise_unwritable(work, run_id)
    _, last_batch, added = records[0]
    await database.publish([Notice(run_id, last_batch)])
    return added


def _arguments(run_id: UUID, points: Sequence[LoggedPoint]) -> dict[str, Any]:
    columns = zip(_POINT, zip(*points, strict=True), strict=True)
    return {"p_run_id": run_id, **{f"p_{name}": list(values) for name, values in columns}}


def _check(points: Sequence[LoggedPoint]) -> None:
    if not 1 <= len(points) <= MAX_POINTS:
        raise invalid("points", message=f"These are {len(points)} points; between 1 and {MAX_POINTS:,} are logged at once.")
    checks, first_positions = Checks(), dict[str, int]()
    for position, point in enumerate(points):
        first_positions.setdefault(point.key, position)
    for key, position in first_positions.items():
        check_key(checks, key, "points", str(position), "key")
    checks.raise_if_invalid()


def check_key(checks: Checks, key: str, *path: str) -> None:
    """Validate the key of a metric, which is kept as it is."""
    if not key.strip():
        checks.add(*path, message="A metric needs a name.")
    elif len(key) > KEY_LENGTH:
        checks.add(*path, message=f"This name is {len(key)} characters long; at most {KEY_LENGTH} are kept.")
    elif not key.isprintable():
        checks.add(*path, message="Control characters and line breaks cannot stand in the name of a metric.")


@lru_cache(maxsize=64)
def _statement(viewer: Viewer) -> Any:
    """The statement for the points of the run `p_run_id`. To build it takes longer than all else that a single point needs of the API."""
    return _insert_statement(viewer, lambda insert: insert.on_conflict_do_nothing())


def _statement_for_new(viewer: Viewer) -> Any:
    """The same for points that are all new; it raises an `IntegrityError` where one is not."""
    return _insert_statement(viewer, lambda insert: insert)


def _insert_statement(viewer: Viewer, finish: Callable[[Any], Any]) -> Any:
    touched = (
        update(Run).where(is_writable(viewer, bindparam("p_run_id", type_=Uuid()))).values(last_batch=Run.last_batch + 1, **heartbeat())
    )
    touched = touched.returning(Run.id, Run.owner_id, Run.experiment_id, Run.last_batch).cte("touched")
    rows = (
        func.unnest(*(bindparam(f"p_{name}", type_=ARRAY(type_)) for name, type_ in _POINT.items()))
        .table_valued(*(literal_column(name, type_) for name, type_ in _POINT.items()), name="logged")
        .render_derived()
    )
    recorded_at = func.coalesce(rows.c.recorded_at, func.now()).label("recorded_at")
    points = select(rows.c.key, rows.c.step, rows.c.value, recorded_at).cte("points")
    columns = (touched.c.id, points.c.key, points.c.step, points.c.value, points.c.recorded_at, touched.c.last_batch)
    names = ["run_id", "key", "step", "value", "recorded_at", "batch"]
    # In the order of the key, so that two writers cannot wait for each other, and the index is written from left to right.
    ordered = (
        select(*columns)
        .select_from(touched.join(points, true()))
        .order_by(points.c.key, points.c.step, points.c.recorded_at, points.c.value)
    )
    added = finish(upsert(MetricPoint).from_select(names, ordered)).returning(MetricPoint.key).cte("added")
    run = select(touched.c.id).scalar_subquery()
    experiment = select(touched.c.experiment_id).scalar_subquery()
    of_run = select(points).where(run.is_not(None)).subquery("of_run")
    summaries = upsert_summaries(of_run, added, run, experiment)
    count = select(func.count()).select_from(added).scalar_subquery()
    return select(touched.c.owner_id, touched.c.last_batch, count.label("added")).add_cte(summaries)
