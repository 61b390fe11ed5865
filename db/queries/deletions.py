"""Queries of what was deleted and can be restored."""

from __future__ import annotations

from sqlalchemy import func, select

from db.core.batch import rows_by_key
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Deletion


def deletions(viewer: Viewer) -> Rows:
    """The deletions that a viewer may see and that can be undone."""
    return select(Deletion.__table__).where(
        visible(Deletion, viewer), Deletion.restorable_until > func.now(), Deletion.purge_started_at.is_(None)
    )


by_id = rows_by_key(deletions, Deletion.id)
listing = Listing(deletions, Orders(Deletion), Filters(Deletion))
of_owner = listing.under(Deletion.owner_id)
