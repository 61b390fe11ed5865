"""Objects, lists and counts under the rows of a page, written into the texts of those rows: the whole is one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Text, bindparam, case, cast, func, literal_column, select

from db.core.batch import RowsByKey
from db.core.listing import Listing, is_filter
from db.core.page import between
from db.core.prepared import pick_columns
from db.core.row_text import RowText, constant
from db.core.sql import Rows
from db.core.viewer import Viewer


@dataclass(frozen=True)
class NestedObject:
    """The row that a batch has for the value of a column, or null."""

    batch: RowsByKey
    key: str
    row_text: RowText
    is_nullable: bool

    @property
    def for_values(self) -> bool:
        return self.row_text.for_values

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        statement = self.batch.statement(viewer)
        found = statement.with_only_columns(*pick_columns(statement, self.row_text.names), maintain_column_froms=True)
        row = found.where(self.batch.key == rows.c[self.key]).correlate(rows).subquery()
        text = func.max(self.row_text.sql(row, viewer), type_=Text)
        return (
            select(case((func.count() == literal_column("0"), constant("null")), else_=text) if self.is_nullable else text)
            .select_from(row)
            .scalar_subquery()
        )


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
        return self.row_text.for_values or is_filter(self.criteria)

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        sort = self.listing.sort(self.order)
        page = between(_under(self.listing, self.criteria, self.key, self.row_text.names, rows, viewer), sort, None, None, backward=False)
        page_rows = page.limit(bindparam(self.limit, type_=BigInteger)).correlate(rows).subquery()
        # Without the offset PostgreSQL would write each text twice, once for either aggregate.
        text = self.row_text.sql(page_rows, viewer).label("text")
        texts = select(text).select_from(page_rows).offset(literal_column("0")).subquery()
        separator = constant(f"{self.after},{self.before}")
        joined = constant(f"[{self.before}").concat(func.string_agg(texts.c.text, separator, type_=Text)).concat(constant(f"{self.after}]"))
        whole = case((func.count() == literal_column("0"), constant("[]")), (func.count() == func.count(texts.c.text), joined))
        return select(whole).select_from(texts).scalar_subquery()


@dataclass(frozen=True)
class NestedCount:
    """The number of rows of a listing under the value of a column."""

    listing: Listing
    criteria: Any
    key: str

    @property
    def for_values(self) -> bool:
        return is_filter(self.criteria)

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        counted = _under(self.listing, self.criteria, self.key, (), rows, viewer).with_only_columns(
            cast(func.count(), Text), maintain_column_froms=True
        )
        return counted.correlate(rows).scalar_subquery()


def _under(listing: Listing, criteria: Any, key: str, names: tuple[str, ...], rows: FromClause, viewer: Viewer) -> Rows:
    assert listing.parent is not None
    statement = listing.rows(viewer, criteria)
    return statement.with_only_columns(*pick_columns(statement, names), maintain_column_froms=True).where(listing.parent == rows.c[key])
