"""Queries of experiments."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Experiment


def with_deleted(viewer: Viewer) -> Rows:
    """The experiments a viewer may see, deleted ones included, since edges still lead to them."""
    return select(Experiment.__table__).where(visible(Experiment, viewer))


def experiments(viewer: Viewer) -> Rows:
    """The experiments that lists and lookups by id find: those not deleted."""
    return with_deleted(viewer).where(Experiment.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Experiment.id)
live_by_id = rows_by_key(experiments, Experiment.id)

listing = Listing(experiments, Orders(Experiment), Filters(Experiment))
of_owner = listing.under(Experiment.owner_id)
