"""Items of dataset versions: signals, images, recordings and texts, each with its features and the place of its bytes."""

from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, enum_column, jsonb_column, uuid_primary_key
from db.core.policy import Through

FEATURES = ("rms", "kurtosis", "skewness", "crest_factor", "peak", "dominant_frequency", "duration", "width", "height")
"""The features that lists filter and sort by, each a column."""

WITHOUT_VALUE = "'-1.7976931348623157e+308'::double precision"
"""What sorts in place of a missing feature, so that one index serves both directions: the least double."""


class ItemStorage(StrEnum):
    """How the bytes of an item lie in their object."""

    STORED = "stored"
    DEFLATED = "deflated"


def sorted_feature(name: str) -> str:
    """The expression that lists sort by."""
    return f"COALESCE({name}, {WITHOUT_VALUE})"


def sorted_text(name: str) -> str:
    """The expression that lists sort and filter by: without case, and nothing before everything else."""
    return f"lower(COALESCE({name}, ''::text))"


class DatasetItem(Table, policy=Through("version_id")):
    """A part of a version that is read by itself. Its bytes are a range of the version's RAW artifact or, if `in_pack`, of its ITEMS artifact.

    Written once, with the version; the order of ids is that of the file.
    """

    __tablename__ = "dataset_items"
    __table_args__ = (
        Index("ix_dataset_items_version_id_key", "version_id", text("lower(key)"), "id"),
        *(Index(f"ix_dataset_items_version_id_{name}", "version_id", text(sorted_text(name)), "id") for name in ("label", "split")),
        Index("ix_dataset_items_version_id_size_bytes", "version_id", "size_bytes", "id"),
        *(Index(f"ix_dataset_items_version_id_{name}", "version_id", text(sorted_feature(name)), "id") for name in FEATURES),
        Index(
            "ix_dataset_items_severity", "version_id", text(sorted_text("severity")), "id", postgresql_where=text("severity IS NOT NULL")
        ),
        Index("ix_dataset_items_with_issues", "version_id", "id", postgresql_where=text("has_issues")),
        CheckConstraint("size_bytes >= 0 AND byte_offset >= 0 AND stored_size >= 0", name="sizes_not_negative"),
        CheckConstraint("num_nonnulls(preview_offset, preview_size, preview_sha256) IN (0, 3)", name="preview_is_whole"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"))
    key: Mapped[str]
    label: Mapped[str | None]
    split: Mapped[str | None]
    severity: Mapped[str | None]
    size_bytes: Mapped[int] = bigint_column()
    sha256: Mapped[str]
    content_type: Mapped[str]
    meta: Mapped[dict[str, Any]] = jsonb_column("{}", name="metadata")
    info: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    features: Mapped[dict[str, Any]] = jsonb_column("{}")
    issues: Mapped[list[Any]] = jsonb_column("[]")
    has_issues: Mapped[bool]
    rms: Mapped[float | None]
    kurtosis: Mapped[float | None]
    skewness: Mapped[float | None]
    crest_factor: Mapped[float | None]
    peak: Mapped[float | None]
    dominant_frequency: Mapped[float | None]
    duration: Mapped[float | None]
    width: Mapped[float | None]
    height: Mapped[float | None]
    byte_offset: Mapped[int] = bigint_column()
    stored_size: Mapped[int] = bigint_column()
    storage: Mapped[ItemStorage] = enum_column("storage", ItemStorage)
    in_pack: Mapped[bool]
    preview_offset: Mapped[int | None] = bigint_column()
    preview_size: Mapped[int | None] = bigint_column()
    preview_sha256: Mapped[str | None]
