"""What every table shares: names of constraints, key and time columns, and words (enums kept as checked text)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Dialect, Double, Index, MetaData, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class Table(DeclarativeBase):
    """Base of the mapped tables. They are written and read as Core rows; no ORM session exists, so no relationship either."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own class attribute
        str: Text,
        UUID: Uuid,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        float: Double,
    }


class EnumText(TypeDecorator[StrEnum]):
    """A member of a Python enum, stored as its lower-case value."""

    impl = Text
    cache_ok = True

    def __init__(self, enum: type[StrEnum]) -> None:
        super().__init__()
        self.enum = enum

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:  # noqa: ARG002 - the signature is SQLAlchemy's
        return None if value is None else self.enum(value)


def enum_column(name: str, enum: type[StrEnum], **options: Any) -> Mapped[Any]:
    """A column that holds one of the enum's words, checked by the database too."""
    values = ", ".join(f"'{member.value}'" for member in enum)
    return mapped_column(name, EnumText(enum), CheckConstraint(f"{name} IN ({values})", name=f"{name}_is_known"), **options)


def uuid_primary_key() -> Mapped[UUID]:
    """A primary key in order of time, made by the database."""
    return mapped_column(primary_key=True, server_default=text("uuidv7()"))


def now_column() -> Mapped[datetime]:
    """A time that the database's clock sets on insert."""
    return mapped_column(server_default=func.now())


def bigint_column(**options: Any) -> Mapped[Any]:
    """A 64-bit integer."""
    return mapped_column(BigInteger, **options)


def jsonb_column(empty: str, **options: Any) -> Mapped[Any]:
    """A JSONB column that starts as `empty`, which is '{}' or '[]'."""
    return mapped_column(JSONB, server_default=text(f"'{empty}'::jsonb"), **options)


def unique_name_index(table: str) -> Index:
    """Names are unique per owner among live rows, whatever the case."""
    return Index(f"uq_{table}_owner_id_name", "owner_id", text("lower(name)"), unique=True, postgresql_where=text("deleted_at IS NULL"))


def listing_indexes(table: str, *, deletable: bool = True) -> tuple[Index, ...]:
    """The indexes behind the lists of a table: an owner's by creation (and by change), and everybody's, which admins read."""
    where = text("deleted_at IS NULL") if deletable else None
    owner_created = Index(f"ix_{table}_owner_id_created_at", "owner_id", text("created_at DESC"), text("id DESC"), postgresql_where=where)
    all_created = Index(f"ix_{table}_created_at", text("created_at DESC"), text("id DESC"), postgresql_where=where)
    if not deletable:
        return owner_created, all_created
    return (
        owner_created,
        all_created,
        Index(f"ix_{table}_owner_id_updated_at", "owner_id", text("updated_at DESC"), text("id DESC"), postgresql_where=where),
    )
