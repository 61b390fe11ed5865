"""Objects, lists and counts under the rows of a page, written into the texts of those rows: the whole is one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Text, bindparam, case, cast, func, literal_column, select

from db.core.batch import RecordBatch, RowsByParent
from db.core.listing import Listing
from db.core.row_text import RowText, constant
from db.core.sql import OuterColumn, Rows
from db.core.viewer import Viewer


@dataclass(frozen=True)
class NestedObject:
    """The row that a batch has for the value of a column, or null."""

    batch: RecordBatch
    key: str
    row_text: RowText
    is_nullable: bool

    @property
    def for_values(self) -> bool:
        return self.row_text.for_values

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        row = self.batch.nested(viewer, self.row_text.names, OuterColumn(rows, self.key)).subquery()
        text = func.max(self.row_text.sql(row, viewer), type_=Text)
        return (
            select(case((func.count() == literal_column("0"), constant("null")), else_=text) if self.is_nullable else text)
            .select_from(row)
            .scalar_subquery()
        )


@dataclass(frozen=True)
class NestedRows:
    """All rows that a batch has for the value of a column."""

    batch: RowsByParent
    key: str
    row_text: RowText

    @property
    def for_values(self) -> bool:
        return self.row_text.for_values

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        return _joined(self.batch.nested(viewer, self.row_text.names, OuterColumn(rows, self.key)), self.row_text, viewer)


@dataclass(frozen=True)
class NestedList:
    """The first rows of a listing under the value of a column. `limit` is the name of the parameter with their number.

    Each text stands between `before` and `after`.
    """

    listing: Listing
    criteria: Any
    order: Any
    key: str
    limit: str
    row_text: RowText
    before: str
    after: str

    @property
    def for_values(self) -> bool:
        return self.row_text.for_values or self.listing.is_for_values(self.criteria, self.order)

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        limit = bindparam(self.limit, type_=BigInteger)
        page = self.listing.first_rows(viewer, self.criteria, self.order, self.row_text.names, OuterColumn(rows, self.key), limit)
        return _joined(page, self.row_text, viewer, self.before, self.after)


@dataclass(frozen=True)
class NestedCount:
    """The number of rows of a listing under the value of a column."""

    listing: Listing
    criteria: Any
    key: str

    @property
    def for_values(self) -> bool:
        return self.listing.is_for_values(self.criteria, None)

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        counted = self.listing.rows(viewer, self.criteria).with_only_columns(cast(func.count(), Text), maintain_column_froms=True)
        return OuterColumn(rows, self.key).select(counted, self.listing.parent).scalar_subquery()


def _joined(rows: Rows, row_text: RowText, viewer: Viewer, before: str = "", after: str = "") -> ColumnElement[str]:
    """The list of the texts of rows, in their order; NULL if one of them is."""
    found = rows.subquery()
    # Without the offset PostgreSQL would write each text twice, once for either aggregate.
    texts = select(row_text.sql(found, viewer).label("text")).select_from(found).offset(literal_column("0")).subquery()
    joined = func.string_agg(texts.c.text, constant(f"{after},{before}"), type_=Text)
    whole = constant(f"[{before}").concat(joined).concat(constant(f"{after}]"))
    is_whole = func.count() == func.count(texts.c.text)
    return select(case((func.count() == literal_column("0"), constant("[]")), (is_whole, whole))).select_from(texts).scalar_subquery()
