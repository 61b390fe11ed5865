"""Queries of models, their versions and the aliases that point to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Row, Text, Uuid, any_, bindparam, exists, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import aliased

from db.core.batch import rows_by_key, rows_by_parent
from db.core.criteria import Equals, Filters, Orders
from db.core.listing import FirstRows, Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.tags import has_tags
from db.tables import Model, ModelAliasEvent, ModelDataset, ModelVersion, Tagging

PRODUCTION = "production"

_VERSION = (
    *(column for column in ModelVersion.__table__.c if column.name not in {"metrics", "framework"}),
    (ModelVersion.framework + func.coalesce(" " + ModelVersion.packages[ModelVersion.framework].astext, "")).label("framework"),
    ModelVersion.metrics.label("measured"),
)


NEWEST_VERSION = Sort("NUMBER", ModelVersion.number, ModelVersion.id, kind="int")


def with_deleted(viewer: Viewer) -> Rows:
    """The models a viewer may see, deleted ones included, since edges still lead to them."""
    return select(Model.__table__).where(visible(Model, viewer))


def models(viewer: Viewer) -> Rows:
    """The models that lists and lookups by id find: those not deleted."""
    return with_deleted(viewer).where(Model.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Model.id)
live_by_id = rows_by_key(models, Model.id)


_IS_SET = (ModelAliasEvent.superseded_at.is_(None), ModelAliasEvent.model_version_id.is_not(None))  # a removal has no version


def is_current_alias(name: str) -> tuple[ColumnElement[bool], ...]:
    """The conditions that a row is an alias with this name which is set now."""
    return ModelAliasEvent.name == name.lower(), *_IS_SET


def _has_alias(condition: Equals) -> Iterator[ColumnElement[bool]]:
    """An alias of this name points to one of the model's versions now."""
    yield exists().where(ModelAliasEvent.model_id == Model.id, *is_current_alias(condition.value))


def _has_algorithm(condition: Equals) -> Iterator[ColumnElement[bool]]:
    """One of the model's versions was trained by this algorithm."""
    yield exists().where(ModelVersion.model_id == Model.id, ModelVersion.algorithm == condition.value, ModelVersion.deleted_at.is_(None))


listing = Listing(
    models,
    Orders(Model),
    Filters(Model, alias=_has_alias, algorithm=_has_algorithm, tags=has_tags(Tagging.model_id, Model.id)),
)
of_owner = listing.under(Model.owner_id)


def _with_datasets(viewer: Viewer) -> Rows:
    return models(viewer).join(ModelDataset, ModelDataset.model_id == Model.id)


_FIRST_TRAINED = Sort("trained_at", ModelDataset.created_at, ModelDataset.model_id)

of_dataset = Listing(_with_datasets, lambda _: _FIRST_TRAINED, parent=ModelDataset.dataset_id)
"""The models with a version that was trained on the dataset, by the first of these trainings."""


def versions(viewer: Viewer) -> Rows:
    """The model versions a viewer may see, those of deleted models included."""
    return select(*_VERSION).where(visible(ModelVersion, viewer))


def live_versions(viewer: Viewer) -> Rows:
    """The model versions that lookups by id find."""
    return (
        versions(viewer).join(Model, Model.id == ModelVersion.model_id).where(Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None))
    )


def _not_deleted(viewer: Viewer) -> Rows:
    """The versions that lists under a model have, which may be deleted itself."""
    return versions(viewer).where(ModelVersion.deleted_at.is_(None))


of_model = Listing(_not_deleted, lambda _: NEWEST_VERSION, parent=ModelVersion.model_id)
version_by_id = rows_by_key(versions, ModelVersion.id)
live_version_by_id = rows_by_key(live_versions, ModelVersion.id)


async def numbered(database: Database, viewer: Viewer, model_id: UUID, number: int) -> Row[Any] | None:
    """The version of a live model with this number; None where there is none."""
    rows = await database.rows(live_versions(viewer).where(ModelVersion.model_id == model_id, ModelVersion.number == number))
    return rows[0] if rows else None


async def search_versions(
    database: Database, viewer: Viewer, owner_id: UUID, conditions: Sequence[ColumnElement[bool]], before: UUID | None, limit: int
) -> Sequence[Row[Any]]:
    """The versions of an owner's live models that meet the conditions, newest first, from behind `before` on."""
    found = live_versions(viewer).where(Model.owner_id == owner_id, *conditions)
    if before is not None:
        found = found.where(ModelVersion.id < before)
    return await database.rows(found.order_by(ModelVersion.id.desc()).limit(limit))


def _newest_of_run(viewer: Viewer) -> Rows:
    return versions(viewer).ext(distinct_on(ModelVersion.run_id)).order_by(ModelVersion.run_id, ModelVersion.id.desc())


version_of_run = rows_by_key(_newest_of_run, ModelVersion.run_id)


latest_version = FirstRows(of_model)
"""The version with the highest number of each model that has one."""


def _aliases(viewer: Viewer) -> Rows:
    """The aliases that are set now."""
    return select(ModelAliasEvent.__table__).where(visible(ModelAliasEvent, viewer), *_IS_SET)


aliases_of_model = rows_by_parent(_aliases, ModelAliasEvent.model_id, ModelAliasEvent.name.asc())
aliases_of_version = rows_by_parent(_aliases, ModelAliasEvent.model_version_id, ModelAliasEvent.name.asc())


def _is_set_at() -> tuple[ColumnElement[bool], ...]:
    """An alias pointed to its version at the parameter `at`."""
    at = bindparam("at", type_=ModelAliasEvent.set_at.type)
    still_set = or_(ModelAliasEvent.superseded_at.is_(None), ModelAliasEvent.superseded_at > at)
    return ModelAliasEvent.model_version_id.is_not(None), ModelAliasEvent.set_at <= at, still_set


def _aliases_at(viewer: Viewer) -> Rows:
    of_models = ModelAliasEvent.model_id == any_(bindparam("model_ids", type_=ARRAY(Uuid)))
    aliases = select(ModelAliasEvent.__table__).where(visible(ModelAliasEvent, viewer), of_models, *_is_set_at())
    return aliases.order_by(ModelAliasEvent.model_id, ModelAliasEvent.name)


_ALIASES_AT = PreparedRows(_aliases_at, "model_ids", "at")


@dataclass(frozen=True, slots=True)
class AliasesAt:
    """A batch: the aliases of each model that were set at a time, ordered by name."""

    at: datetime

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Row[Any]]]:
        aliases: dict[UUID, list[Row[Any]]] = {key: [] for key in keys}
        for row in await _ALIASES_AT(database, viewer, model_ids=keys, at=self.at):
            aliases[row.model_id].append(row)
        return aliases


def alias_events(viewer: Viewer) -> Rows:
    """The changes of aliases that a viewer may see, those of deleted models included; `previous_id` is the version that the alias pointed to before."""
    earlier = aliased(ModelAliasEvent)
    previous = select(earlier.model_version_id).where(
        earlier.model_id == ModelAliasEvent.model_id, earlier.name == ModelAliasEvent.name, earlier.set_at < ModelAliasEvent.set_at
    )
    previous = previous.order_by(earlier.set_at.desc()).limit(literal_column("1")).correlate(ModelAliasEvent)
    return select(
        ModelAliasEvent.id,
        ModelAliasEvent.model_id,
        ModelAliasEvent.model_version_id,
        ModelAliasEvent.name,
        ModelAliasEvent.set_by_id,
        ModelAliasEvent.reason,
        ModelAliasEvent.set_at.label("created_at"),
        previous.scalar_subquery().label("previous_id"),
    ).where(visible(ModelAliasEvent, viewer))


def live_alias_events(viewer: Viewer) -> Rows:
    """Those of models that are not deleted."""
    return alias_events(viewer).join(Model, Model.id == ModelAliasEvent.model_id).where(Model.deleted_at.is_(None))


_LATEST_CHANGE = Sort("set_at", ModelAliasEvent.set_at, ModelAliasEvent.id)

live_alias_event_by_id = rows_by_key(live_alias_events, ModelAliasEvent.id)
alias_history = Listing(alias_events, lambda _: _LATEST_CHANGE, parent=ModelAliasEvent.model_id)


def _by_alias(viewer: Viewer, *conditions: ColumnElement[bool]) -> Rows:
    statement = versions(viewer).join(ModelAliasEvent, ModelAliasEvent.model_version_id == ModelVersion.id)
    return statement.where(
        ModelVersion.model_id == any_(bindparam("model_ids", type_=ARRAY(Uuid))),
        ModelAliasEvent.name == bindparam("name", type_=Text),
        *conditions,
    )


def _by_alias_at(viewer: Viewer) -> Rows:
    return _by_alias(viewer, *_is_set_at())


_BY_ALIAS = PreparedRows(lambda viewer: _by_alias(viewer, ModelAliasEvent.superseded_at.is_(None)), "model_ids", "name")
_BY_ALIAS_AT = PreparedRows(_by_alias_at, "model_ids", "name", "at")


@dataclass(frozen=True, slots=True)
class VersionByAlias:
    """A batch: the version of each model that the alias points to now, or pointed to at the time `at`."""

    name: str
    at: datetime | None = None

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        name = self.name.lower()
        if self.at is None:
            rows = await _BY_ALIAS(database, viewer, model_ids=keys, name=name)
        else:
            rows = await _BY_ALIAS_AT(database, viewer, model_ids=keys, name=name, at=self.at)
        return {row.model_id: row for row in rows}
