"""Changes of many rows in batches, one transaction each."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy import Executable
from sqlalchemy.exc import DBAPIError

from db.core.database_errors import is_statement_timeout
from db.core.viewer import SYSTEM
from db.core.work import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SMALLER = 4  # times
LEAST = 50  # rows


async def in_batches(database: Database, size: int, change: Callable[[int], Executable]) -> int:
    """Execute `change(size)`, which changes at most so many rows, until it finds fewer; return how many it has changed.

    How long a batch takes depends on triggers, statistics and what else the machine does: one that PostgreSQL ended at its statement timeout is tried
    again with a quarter of the rows, and so are those after it. Raises `DBAPIError` if `LEAST` rows take too long.
    """
    statement, total = change(size), 0
    while True:
        try:
            async with database.work(SYSTEM) as work:
                changed = await work.run(statement)
        except DBAPIError as error:
            if size <= LEAST or not is_statement_timeout(error):
                raise
            size = max(size // SMALLER, LEAST)
            log.warning("batch_made_smaller", rows=size)
            statement = change(size)
            continue
        total += changed
        if changed < size:
            return total
