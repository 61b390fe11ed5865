"""Queries of job events: pages of one job's events, what a stream replays, and the cursor that both use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Integer, Row, Uuid, any_, bindparam, literal, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.listing import Listing
from db.core.page import Sort, decode_cursor, encode_cursor
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows, equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.tables import Job, JobEvent

REPLAY = 200
BATCH_SIZE = 100  # viewers per statement

# Events have no id of their own: a cursor holds the sequence and the id of the job.
ORDER = Sort("EVENT", JobEvent.sequence, JobEvent.job_id, descending=False, kind="int")


def events(viewer: Viewer) -> Rows:
    """The events of the jobs a viewer may see."""
    return select(JobEvent.__table__).where(visible(JobEvent, viewer))


of_job = Listing(events, lambda _: ORDER, parent=JobEvent.job_id)


def cursor_of(job_id: UUID, sequence: int) -> str:
    """The cursor of an event, the same in a page and in a stream."""
    return encode_cursor(ORDER, sequence, job_id)


def sequence_of(cursor: str, job_id: UUID, last: int) -> int:
    """The sequence in a cursor of this job. Raises `InvalidCursor` for another job's cursor, one past `last`, or anything else."""
    sequence, key = decode_cursor(ORDER, cursor)
    if key != job_id:
        raise InvalidCursor(
            f"The cursor {cursor[:60]!r} belongs to another job. Give a cursor of this job's events, or none to start over."
        )
    if not 1 <= sequence <= last:
        raise InvalidCursor(
            f"The cursor {cursor[:60]!r} names no event of this job. Give one that came with an event, or none to start over."
        )
    return sequence


async def events_after(database: Database, viewer: Viewer, job_id: UUID, sequence: int, limit: int = REPLAY) -> Sequence[Row[Any]]:
    """The next events of a job by sequence, at most `limit`."""
    return await _EVENTS_AFTER(database, viewer, job_id=job_id, sequence=sequence, limit=limit)


def _events_after(viewer: Viewer) -> Rows:
    statement = events(viewer).where(
        JobEvent.job_id == bindparam("job_id", type_=Uuid), JobEvent.sequence > bindparam("sequence", type_=JobEvent.sequence.type)
    )
    return statement.order_by(JobEvent.sequence).limit(bindparam("limit", type_=Integer))


_EVENTS_AFTER = PreparedRows(_events_after, "job_id", "sequence", "limit")


async def pruned(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, bool]:
    """A batch: True for each job whose first events were let go, since their retention is over."""
    return {row.id: True for row in await _PRUNED(database, viewer, job_ids=keys)}


def _pruned(viewer: Viewer) -> Rows:
    # The first event is written with the job, and events are let go from the first on.
    first = select(literal(1)).where(JobEvent.job_id == Job.id, JobEvent.sequence == 1).exists()
    return select(Job.id).where(Job.id == any_(bindparam("job_ids", type_=ARRAY(Uuid))), visible(Job, viewer), ~first)


_PRUNED = PreparedRows(_pruned, "job_ids")


async def visible_jobs(database: Database, jobs_by_viewer: Mapping[Viewer, Collection[UUID]]) -> Collection[tuple[Viewer, UUID]]:
    """Which of the jobs each viewer may see."""
    allowed: set[tuple[Viewer, UUID]] = set()
    all_viewers = list(jobs_by_viewer)
    for start in range(0, len(all_viewers), BATCH_SIZE):
        viewers = all_viewers[start : start + BATCH_SIZE]
        statements = [
            select(literal(index, Integer).label("viewer_index"), Job.id).where(
                equals_any(Job.id, jobs_by_viewer[viewer]), visible(Job, viewer)
            )
            for index, viewer in enumerate(viewers)
        ]
        rows: Any = await database.rows(union_all(*statements))
        allowed |= cast("set[tuple[Viewer, UUID]]", {(viewers[row.viewer_index], row.id) for row in rows})
    return allowed
