"""Queries of tags: those of an account, those of a thing, and the filter of things by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, exists, select
from sqlalchemy.orm import aliased

from db.core.batch import RowsByParent, rows_by_key, rows_by_parent
from db.core.criteria import Filters, OneOf, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Tag, Tagging

MAX_TAGS = 50  # on one thing


def tags(viewer: Viewer) -> Rows:
    """The tags that a viewer may see."""
    return select(Tag.__table__).where(visible(Tag, viewer))


by_id = rows_by_key(tags, Tag.id)
listing = Listing(tags, Orders(Tag), Filters(Tag))
of_owner = listing.under(Tag.owner_id)


def _on_things(viewer: Viewer) -> Rows:
    return tags(viewer).join(Tagging, Tagging.tag_id == Tag.id)


def _of(column: Any) -> RowsByParent:
    return rows_by_parent(_on_things, column, Tag.name.asc(), Tag.id.asc())


of_dataset = _of(Tagging.dataset_id)
of_pipeline = _of(Tagging.pipeline_id)
of_model = _of(Tagging.model_id)
of_experiment = _of(Tagging.experiment_id)
of_run = _of(Tagging.run_id)
of_study = _of(Tagging.study_id)


def has_tags(column: Any, key: Any) -> Callable[[OneOf], Iterator[ColumnElement[bool]]]:
    """The filter of things by tags, all of which they must have: `column` of `taggings` refers to `key`.

    A tag is a constant of the statement, so PostgreSQL knows how frequent it is: it walks the list's own index for a frequent one, and starts
    from the taggings of a rare one.
    """

    def conditions(condition: OneOf) -> Iterator[ColumnElement[bool]]:
        for tag_id in dict.fromkeys(condition.values):
            tagging = aliased(Tagging)
            yield exists().where(getattr(tagging, column.key) == key, tagging.tag_id == tag_id)

    return conditions
