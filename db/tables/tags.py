"""Tags, and what they are on."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, literal_column, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, created_by_column, listing_indexes, now_column, uuid_primary_key
from db.core.policy import Owned, Through

TAGGABLE = ("dataset_id", "pipeline_id", "model_id", "experiment_id", "run_id", "study_id")
"""The columns of `taggings` that refer to what has tags: one is set."""


class Tag(Table, policy=Owned()):
    """A word that an account puts on its things. Triggers keep `usage_count`, the number of things with the tag that are not deleted."""

    __tablename__ = "tags"
    __table_args__ = (
        Index("uq_tags_owner_id_name", "owner_id", text("lower(name)"), unique=True),
        UniqueConstraint("owner_id", "slug"),
        *listing_indexes("tags", deletable=False),
        Index("ix_tags_name", text("lower(name)"), "id"),
        Index(
            "ix_tags_name_trigrams",
            literal_column("lower(name)", Text).label("lower_name"),
            postgresql_using="gin",
            postgresql_ops={"lower_name": "gin_trgm_ops"},
        ),
        Index("ix_tags_owner_id_usage_count", "owner_id", "usage_count", "id"),
        Index("ix_tags_usage_count", "usage_count", "id"),
        CheckConstraint("color ~ '^#[0-9a-f]{6}$'", name="color_is_hexadecimal"),
        CheckConstraint("usage_count >= 0", name="usage_count_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    name: Mapped[str]
    slug: Mapped[str]
    color: Mapped[str]
    usage_count: Mapped[int] = bigint_column(server_default="0")
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()


class Tagging(Table, policy=Through("tag_id")):
    """A tag on one thing of the same account. A trigger on the things keeps `is_live`: neither the thing nor, of a run, its experiment is deleted."""

    __tablename__ = "taggings"
    __table_args__ = (
        *(UniqueConstraint(column, "tag_id") for column in TAGGABLE),
        CheckConstraint(f"num_nonnulls({', '.join(TAGGABLE)}) = 1", name="is_on_one_thing"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    tag_id: Mapped[UUID] = mapped_column(ForeignKey("tags.id", ondelete="CASCADE"), index=True)
    dataset_id: Mapped[UUID | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    pipeline_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipelines.id", ondelete="CASCADE"))
    model_id: Mapped[UUID | None] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    experiment_id: Mapped[UUID | None] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    study_id: Mapped[UUID | None] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    is_live: Mapped[bool] = mapped_column(server_default=text("true"))
    added_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
