"""Events of jobs: pages of one job's, what a stream replays, and the cursor that both understand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.listing import Listing
from db.core.page import Sort, decode_cursor, encode_cursor
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.queries.jobs import visible
from db.tables import Job, JobEvent

REPLAY = 200

# A job's events have no ids of their own: the sequence is the place, and the job's id marks whose sequence it is.
ORDER = Sort("EVENT", JobEvent.sequence, JobEvent.job_id, descending=False, kind="int")


def events(viewer: Viewer, _criteria: None = None) -> Rows:
    """The events of the jobs a viewer may see."""
    return select(JobEvent.__table__).join(Job, Job.id == JobEvent.job_id).where(visible(viewer))


of_job = Listing(events, lambda _: ORDER, JobEvent.job_id)


def cursor_of(job_id: UUID, sequence: int) -> str:
    """The cursor of an event, the same in a page and in a stream."""
    return encode_cursor(ORDER, sequence, job_id)


def sequence_of(cursor: str, job_id: UUID) -> int:
    """The sequence that a cursor of this job names; `InvalidCursor` for another job's or anything else."""
    sequence, key = decode_cursor(ORDER, cursor)
    if key != job_id:
        raise InvalidCursor(
            f"The cursor {cursor[:60]!r} belongs to another job. Give a cursor of this job's events, or none to start over."
        )
    return sequence


async def after(database: Database, viewer: Viewer, job_id: UUID, sequence: int, limit: int = REPLAY) -> Sequence[Row[Any]]:
    """The next events of a job in their order, at most `limit`."""
    found = events(viewer).where(JobEvent.job_id == job_id, JobEvent.sequence > sequence)
    return await database.rows(found.order_by(JobEvent.sequence).limit(limit))
