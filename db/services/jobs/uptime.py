"""Since when Postgres has run without a crash: the row is written by whoever finds it gone, and only a crash removes it.

`pg_postmaster_start_time` does not tell of a crash that the postmaster itself survives, and what does is hidden from ordinary roles.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Insert, func, select
from sqlalchemy.dialects.postgresql import insert

from db.services.jobs.transitions import clock
from db.tables import Uptime


def record_start() -> Insert:
    """The statement that notes the time if nobody has since the last crash."""
    return insert(Uptime).values(since=clock()).on_conflict_do_nothing()


def started_at() -> ColumnElement[object]:
    """When Postgres started, or was found to have recovered; to be asked after `noted`."""
    return func.greatest(func.pg_postmaster_start_time(), select(Uptime.since).scalar_subquery())
