"""Root queries for what was deleted."""

from __future__ import annotations

import strawberry

from db.queries import deletions
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.deletions.types import Deleted


@strawberry.type
class DeletionQueries:
    deleted: Connection[Deleted] = listing(
        deletions.listing,
        description="What you and your teams deleted and can restore, the latest first; for admins, everybody's. What was deleted with an account is"
        " restored with it and not listed.",
    )
