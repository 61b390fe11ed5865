"""What can be asked of datasets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from uuid import UUID

from sqlalchemy import ColumnElement, select

from db.core.batch import rows_by_key
from db.core.criteria import Period, TextMatch, named_sort
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows, equals_any
from db.core.viewer import Viewer
from db.tables import Dataset
from db.tables.datasets import DatasetSource, Modality, ProblemType

COLUMNS = (
    Dataset.id,
    Dataset.owner_id,
    Dataset.name,
    Dataset.description,
    Dataset.modality,
    Dataset.problem_type,
    Dataset.target_column,
    Dataset.source,
    Dataset.meta.label("metadata"),
    Dataset.created_at,
    Dataset.updated_at,
    Dataset.deleted_at,
)


@dataclass(frozen=True, slots=True)
class DatasetFilter:
    """Which datasets a list holds; what is None does not restrict, an empty tuple matches nothing."""

    name: TextMatch | None = None
    modality: tuple[Modality, ...] | None = None
    problem_type: tuple[ProblemType, ...] | None = None
    source: tuple[DatasetSource, ...] | None = None
    created_at: Period | None = None
    owner_id: UUID | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        allowed_values = ((Dataset.modality, self.modality), (Dataset.problem_type, self.problem_type), (Dataset.source, self.source))
        return [
            *(self.name.conditions(Dataset.name) if self.name is not None else ()),
            *(equals_any(column, members) for column, members in allowed_values if members is not None),
            *(self.created_at.conditions(Dataset.created_at) if self.created_at is not None else ()),
            *((Dataset.owner_id == self.owner_id,) if self.owner_id is not None else ()),
        ]


NO_FILTER = DatasetFilter()


class DatasetOrderField(StrEnum):
    """What a list of datasets is sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    NAME = "name"


def with_deleted(viewer: Viewer) -> Rows:
    """The datasets a viewer may see, deleted ones too: edges still lead to them."""
    return select(*COLUMNS).where(visible(Dataset, viewer))


def datasets(viewer: Viewer, criteria: DatasetFilter | None = None) -> Rows:
    """The datasets that lists and look-ups by id find."""
    return with_deleted(viewer).where(Dataset.deleted_at.is_(None), *((criteria or NO_FILTER).conditions()))


by_id = rows_by_key(with_deleted, Dataset.id)
live_by_id = rows_by_key(datasets, Dataset.id)

listing = Listing(datasets, partial(named_sort, Dataset))
of_owner = listing.under(Dataset.owner_id)
