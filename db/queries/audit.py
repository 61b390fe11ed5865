"""The events of the audit that a viewer may see, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from sqlalchemy import ColumnElement, FromClause, Select, Table, literal_column, select, union_all

from db.core.batch import rows_by_key
from db.core.criteria import Filters
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import POLICIES, SharedBetween, correlated, is_one_of_accounts, visible
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.tables import AuditEvent

_TABLE: Table = AuditEvent.__table__  # pyright: ignore[reportAssignmentType] - SQLAlchemy types it as FromClause
SHARED = cast("SharedBetween", POLICIES[_TABLE.name])
_FILTERED = ("action", "subject_id", "actor_id", "owner_id", "created_at")


def events(viewer: Viewer) -> Rows:
    """The events a viewer may see."""
    return select(_TABLE).where(visible(AuditEvent, viewer))


by_id = rows_by_key(events, AuditEvent.id)


def _column(name: str) -> ColumnElement[Any]:
    """A column of the list, which selects from the table or from a union."""
    return literal_column(f"events.{name}", _TABLE.c[name].type)


def _source(viewer: Viewer) -> FromClause:
    """The rows that the policy lets the viewer see. An index serves either column in the order of the list, but not both with OR."""
    if viewer.sees_all:
        return _TABLE.alias("events")
    owned = select(_TABLE).where(is_one_of_accounts(_TABLE.c.owner_id, viewer))
    # Of the accounts, only the viewer's own acts: read account by account, the second part is read once.
    is_of_other = (_TABLE.c.owner_id.is_distinct_from(viewer.id), SHARED.of_other(_TABLE, viewer))
    acted = select(_TABLE).where(is_one_of_accounts(_TABLE.c.actor_id, viewer), *is_of_other)
    return union_all(correlated(owned, viewer), correlated(acted, viewer)).subquery("events")


def _listed(viewer: Viewer) -> Select[Any]:
    return select(*(_column(column.name).label(column.name) for column in _TABLE.c)).select_from(_source(viewer))


def _condition_on(name: str) -> Callable[[Any], Iterable[ColumnElement[bool]]]:
    column: Column = _column(name)
    return lambda condition: condition.conditions(column)


listing = Listing(
    _listed,
    lambda _: Sort("createdAt", _column("created_at"), _column("id"), named_list=_TABLE.name),
    Filters(AuditEvent, **{name: _condition_on(name) for name in _FILTERED}),
)
