"""Queries of saved searches: an account has few."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.criteria import Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import SavedSearch

MAX_SEARCHES = 100  # of an account


def saved_searches(viewer: Viewer) -> Rows:
    """The saved searches that a viewer may see."""
    return select(SavedSearch.__table__).where(visible(SavedSearch, viewer))


by_id = rows_by_key(saved_searches, SavedSearch.id)
of_owner = Listing(saved_searches, Orders(SavedSearch)).under(SavedSearch.owner_id)
all_of_owner = rows_by_parent(
    saved_searches, SavedSearch.owner_id, SavedSearch.is_pinned.desc(), SavedSearch.last_used_at.desc().nulls_last(), SavedSearch.id.desc()
)
"""Pinned ones first, then the most recently used."""
