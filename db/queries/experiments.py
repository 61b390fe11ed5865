"""Queries of experiments."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ColumnElement, exists, select

from db.core.batch import rows_by_key
from db.core.criteria import Equals, Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.queries.tags import has_tags
from db.tables import Experiment, Run, Tagging


def with_deleted(viewer: Viewer) -> Rows:
    """The experiments a viewer may see, deleted ones included, since edges still lead to them."""
    return select(Experiment.__table__).where(visible(Experiment, viewer))


def experiments(viewer: Viewer) -> Rows:
    """The experiments that lists and lookups by id find: those not deleted."""
    return with_deleted(viewer).where(Experiment.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Experiment.id)
live_by_id = rows_by_key(experiments, Experiment.id)


def _has_algorithm(condition: Equals) -> Iterator[ColumnElement[bool]]:
    """One of the experiment's runs trained a model of this algorithm."""
    yield exists().where(Run.experiment_id == Experiment.id, Run.algorithm == condition.value, Run.deleted_at.is_(None))


listing = Listing(
    experiments, Orders(Experiment), Filters(Experiment, algorithm=_has_algorithm, tags=has_tags(Tagging.experiment_id, Experiment.id))
)
of_owner = listing.under(Experiment.owner_id)
