"""When PostgreSQL last started or recovered from a crash. Workers insert the row where it is missing; only a crash removes it.

`pg_postmaster_start_time` misses a crash that the postmaster survives, and what shows it is hidden from ordinary roles.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Insert, func, select
from sqlalchemy.dialects.postgresql import insert

from db.services.jobs.transitions import clock
from db.tables import Uptime


def record_start() -> Insert:
    """Build the statement that inserts the time unless the row exists."""
    return insert(Uptime).values(since=clock()).on_conflict_do_nothing()


def started_at() -> ColumnElement[object]:
    """When PostgreSQL started or was seen to have recovered; run `record_start` before."""
    return func.greatest(func.pg_postmaster_start_time(), select(Uptime.since).scalar_subquery())
