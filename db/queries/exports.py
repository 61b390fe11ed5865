"""Queries of exports. The status of an export is that of its job."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Export, Job

COLUMNS = (
    Export.id,
    Export.owner_id,
    Export.created_by_id,
    Export.job_id,
    Export.dataset_version_id,
    Export.model_version_id,
    Export.target,
    Export.list_parent_id,
    Export.filter,
    Export.order_by,
    Export.columns,
    Export.format,
    Export.options,
    Export.size_bytes,
    Export.created_at,
    Export.expires_at,
    Job.status,
)


def exports(viewer: Viewer) -> Rows:
    """The exports a viewer may see, those of deleted datasets and models and expired ones included."""
    return select(*COLUMNS).join(Job, Job.id == Export.job_id).where(visible(Export, viewer))


by_id = rows_by_key(exports, Export.id)
listing = Listing(exports, Orders(Export), Filters(Export))
of_version = listing.under(Export.dataset_version_id)
of_model_version = listing.under(Export.model_version_id)
