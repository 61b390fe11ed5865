"""Queries of the items of dataset versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, Double, Text, func, literal_column, select

from db.core.batch import rows_by_key
from db.core.criteria import AllOf, Equals, Filters, OneOf, Order, Orders, SpecialCondition
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows, lower_equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import versions
from db.queries.runs import MetricBound
from db.tables import Dataset, DatasetItem, DatasetVersion
from db.tables.items import FEATURES, sorted_feature, sorted_text

COLUMNS = (
    DatasetItem.id,
    DatasetItem.version_id,
    DatasetItem.key,
    DatasetItem.label,
    DatasetItem.split,
    DatasetItem.severity,
    DatasetItem.size_bytes,
    DatasetItem.sha256,
    DatasetItem.content_type,
    DatasetItem.meta.label("metadata"),
    DatasetItem.info,
    DatasetItem.features,
    DatasetItem.issues.label("found_issues"),
)


def items(viewer: Viewer) -> Rows:
    """The items a viewer may see. Those of a deleted dataset are not served, by lookups or by edges."""
    return (
        select(*COLUMNS)
        .join(DatasetVersion, DatasetVersion.id == DatasetItem.version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(visible(DatasetItem, viewer), Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None))
    )


def _sorted(name: str) -> ColumnElement[Any]:
    """The expression of the index, written as it is there."""
    table = DatasetItem.__tablename__
    if name in FEATURES:
        return literal_column(sorted_feature(f"{table}.{name}"), Double)
    return literal_column(sorted_text(f"{table}.{name}"), Text)


_VALUES = {name: _sorted(name) for name in ("label", "split", "severity", *FEATURES)}
_BY_KEY = Sort("key.0", func.lower(DatasetItem.key), DatasetItem.id, descending=False, kind="text")


class ItemOrders(Orders):
    """By a column, or by a feature. Items without a label, a split or the feature are before all others in ascending order. By key by default."""

    def __call__(self, order: Order | None) -> Sort:
        if order is None:
            return _BY_KEY
        if order.field not in _VALUES:
            return super().__call__(order)
        kind = "float" if order.field in FEATURES else "text"
        return Sort(f"{order.field}.{order.descending:d}", _VALUES[order.field], DatasetItem.id, order.descending, kind)


def _is_any_of(name: str) -> SpecialCondition:
    column = literal_column(f"COALESCE({DatasetItem.__tablename__}.{name}, ''::text)", Text)

    def conditions(condition: Any) -> Iterator[ColumnElement[bool]]:
        values = condition.values if isinstance(condition, OneOf) else ()
        # Of one value, the rows of the index are in the order of the columns behind it.
        yield func.lower(column) == func.lower(values[0]) if len(values) == 1 else lower_equals_any(column, values)
        if name == "severity":
            yield DatasetItem.severity.is_not(None)

    return conditions


def _has_issues(condition: Equals) -> Iterator[ColumnElement[bool]]:
    has_issues: ColumnElement[bool] = DatasetItem.__table__.c.has_issues
    yield has_issues if condition.value else ~has_issues


def _features_within(condition: AllOf | OneOf) -> Iterator[ColumnElement[bool]]:
    """Bounds of features; without bounds, the item has the feature. An empty list has no condition."""
    bounds = condition.items if isinstance(condition, AllOf) else ()
    for bound in cast("tuple[MetricBound, ...]", bounds):
        value = _VALUES[bound.key]
        yield getattr(DatasetItem, bound.key).is_not(None)
        if bound.gte is not None:
            yield value >= bound.gte
        if bound.lte is not None:
            yield value <= bound.lte


FILTERS = Filters(
    DatasetItem,
    label=_is_any_of("label"),
    split=_is_any_of("split"),
    severity=_is_any_of("severity"),
    has_issues=_has_issues,
    features=_features_within,
)

by_id = rows_by_key(items, DatasetItem.id)
of_version = Listing(items, ItemOrders(DatasetItem), FILTERS, DatasetItem.version_id)


_SUMMARIES = versions.documents(DatasetVersion.item_summary)


async def _summaries(database: Database, viewer: Viewer, keys: Sequence[UUID]) -> Mapping[UUID, Mapping[str, Any]]:
    return {key: row.document for key, row in (await _SUMMARIES(database, viewer, keys)).items() if row.document is not None}


async def label_counts(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Any]]:
    """The labels of each version's items, as [label, number], most frequent first."""
    return {key: summary["labels"] for key, summary in (await _summaries(database, viewer, keys)).items()}


async def severity_counts(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Any]]:
    """The same of severities."""
    return {key: summary["severities"] for key, summary in (await _summaries(database, viewer, keys)).items()}


async def split_counts(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Any]]:
    """The same of splits."""
    return {key: summary["splits"] for key, summary in (await _summaries(database, viewer, keys)).items()}


async def signal_geometries(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Mapping[str, Any]]:
    """What the signals of each version have in common; none of a version of other data."""
    summaries = await _summaries(database, viewer, keys)
    return {key: summary["signal"] for key, summary in summaries.items() if summary.get("signal") is not None}
