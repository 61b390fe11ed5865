"""Types of SQL as the queries write it."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import InstrumentedAttribute

Rows: TypeAlias = Select[*tuple[Any, ...]]  # a select, whatever its columns
Column: TypeAlias = ColumnElement[Any] | InstrumentedAttribute[Any]  # a column of a table, or an expression
