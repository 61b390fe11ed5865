"""The queues that jobs wait in. A worker serves some of them, or all.

A job that needs extras of the package waits in a part of its queue that only workers with the first of these read: its *route*, such as
`tabular+xgboost`. So it neither waits behind jobs that others can run nor makes them wait, and a job without extras has nothing to do with it: its
route is its queue. Limits of a queue count all its jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

QUEUES = ("default", "upload", "text", "tabular", "image", "audio", "video", "signal")
ROUTE_MARK = "+"


def entry_id(job_id: UUID, dispatch_no: int) -> str:
    """The id by which Redis has a dispatch of a job; each dispatch has another one."""
    return f"{job_id.hex}:{dispatch_no}"


def route_of(row: Any) -> str:
    """The route of a job's row; `db.queries.scheduling.route` is the same in SQL."""
    return f"{row.queue}{ROUTE_MARK}{row.extras[0]}" if row.extras else row.queue


def served_routes(queues: Iterable[str], extras: Sequence[str]) -> list[str]:
    """The queues, and their routes for these extras."""
    served = list(queues)
    return served + [f"{queue}{ROUTE_MARK}{extra}" for queue in served for extra in extras]


def with_queues(routes: Iterable[str]) -> list[str]:
    """The routes, and the queues that they are parts of."""
    return sorted({name for route in routes for name in (route, route.partition(ROUTE_MARK)[0])})


def named_queues(served: Iterable[str]) -> list[str]:
    """Without routes."""
    return [queue for queue in served if ROUTE_MARK not in queue]
