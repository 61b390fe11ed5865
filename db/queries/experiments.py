"""What can be asked of experiments."""

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
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Experiment


@dataclass(frozen=True, slots=True)
class ExperimentFilter:
    """Which experiments a list holds; what is None does not restrict."""

    name: TextMatch | None = None
    created_at: Period | None = None
    owner_id: UUID | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if self.name is not None:
            conditions += self.name.conditions(Experiment.name)
        if self.created_at is not None:
            conditions += self.created_at.conditions(Experiment.created_at)
        if self.owner_id is not None:
            conditions.append(Experiment.owner_id == self.owner_id)
        return conditions


NO_FILTER = ExperimentFilter()


class ExperimentOrderField(StrEnum):
    """What a list of experiments is sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    NAME = "name"


def with_deleted(viewer: Viewer) -> Rows:
    """The experiments a viewer may see, deleted ones too: edges still lead to them."""
    return select(Experiment.__table__).where(visible(Experiment, viewer))


def experiments(viewer: Viewer, criteria: ExperimentFilter | None = None) -> Rows:
    """The experiments that lists and look-ups by id find."""
    return with_deleted(viewer).where(Experiment.deleted_at.is_(None), *((criteria or NO_FILTER).conditions()))


by_id = rows_by_key(with_deleted, Experiment.id)
live_by_id = rows_by_key(experiments, Experiment.id)

listing = Listing(experiments, partial(named_sort, Experiment))
of_owner = listing.under(Experiment.owner_id)
