"""The filter of things by their annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam
from sqlalchemy.dialects.postgresql import JSONB


@dataclass(frozen=True, slots=True)
class AnnotationMatch:
    """There is an annotation with this key, and with this text if there is one."""

    key: str
    eq: str | None = None

    def condition(self, column: Any) -> ColumnElement[bool]:
        """On a JSONB column with a GIN index."""
        if self.eq is None:
            return column.has_key(bindparam(None, self.key, type_=Text, unique=True))
        return column.contains(bindparam(None, {self.key: self.eq}, type_=JSONB, unique=True))
