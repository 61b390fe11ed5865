"""Queries of explanations. The status of an explanation is that of its job. Their data have a batch of their own."""

from __future__ import annotations

from sqlalchemy import select

from db.core.batch import rows_by_key
from db.core.criteria import Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Dataset, DatasetVersion, Explanation, Job, Model, ModelVersion

COLUMNS = (
    Explanation.id,
    Explanation.owner_id,
    Explanation.created_by_id,
    Explanation.job_id,
    Explanation.model_version_id,
    Explanation.run_id,
    Explanation.dataset_version_id,
    Explanation.item_id,
    Explanation.method,
    Explanation.attributions.label("attributed"),
    Explanation.additivity_error,
    Explanation.created_at,
    Job.status,
)


def explanations(viewer: Viewer) -> Rows:
    """The explanations a viewer may see, those of deleted datasets and models included."""
    return select(*COLUMNS).join(Job, Job.id == Explanation.job_id).where(visible(Explanation, viewer))


def live(viewer: Viewer) -> Rows:
    """The explanations that lookups by id find: those of model versions that are not deleted, nor their model."""
    statement = explanations(viewer).join(ModelVersion, ModelVersion.id == Explanation.model_version_id)
    return statement.join(Model, Model.id == ModelVersion.model_id).where(ModelVersion.deleted_at.is_(None), Model.deleted_at.is_(None))


by_id = rows_by_key(explanations, Explanation.id)
live_by_id = rows_by_key(live, Explanation.id)
_listing = Listing(explanations, Orders(Explanation))
of_model_version = _listing.under(Explanation.model_version_id)
of_run = _listing.under(Explanation.run_id)
of_item = _listing.under(Explanation.item_id)


def _data(viewer: Viewer) -> Rows:
    """Data have values of rows, so those of a deleted dataset or model are not served, as its files are not."""
    return (
        select(Explanation.id, Explanation.data.label("document"))
        .outerjoin(DatasetVersion, DatasetVersion.id == Explanation.dataset_version_id)
        .outerjoin(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(ModelVersion, ModelVersion.id == Explanation.model_version_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            visible(Explanation, viewer),
            Explanation.data.is_not(None),
            Dataset.deleted_at.is_(None),
            DatasetVersion.deleted_at.is_(None),
            Model.deleted_at.is_(None),
            ModelVersion.deleted_at.is_(None),
        )
    )


data = rows_by_key(_data, Explanation.id)
