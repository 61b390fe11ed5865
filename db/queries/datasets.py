"""Queries of datasets."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.queries.tags import has_tags
from db.tables import Dataset, Tagging

COLUMNS = (
    Dataset.id,
    Dataset.owner_id,
    Dataset.created_by_id,
    Dataset.name,
    Dataset.description,
    Dataset.modality,
    Dataset.problem_type,
    Dataset.target_column,
    Dataset.source,
    Dataset.schema_policy,
    Dataset.meta.label("metadata"),
    Dataset.created_at,
    Dataset.updated_at,
    Dataset.deleted_at,
    Dataset.purged_at,
)


def with_deleted(viewer: Viewer) -> Rows:
    """The datasets a viewer may see, deleted ones included, since edges still lead to them."""
    return select(*COLUMNS).where(visible(Dataset, viewer))


def datasets(viewer: Viewer) -> Rows:
    """The datasets that lists and lookups by id find: those not deleted."""
    return with_deleted(viewer).where(Dataset.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Dataset.id)
live_by_id = rows_by_key(datasets, Dataset.id)

listing = Listing(datasets, Orders(Dataset), Filters(Dataset, tags=has_tags(Tagging.dataset_id, Dataset.id)))
of_owner = listing.under(Dataset.owner_id)
