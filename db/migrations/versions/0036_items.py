"""Items of dataset versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

FORMATS = ("csv", "json", "jsonl", "parquet", "excel", "npy", "segy", "mat", "wav", "zip", "unknown")
NEW_FORMATS = ("npz", "tar", "png", "jpeg", "webp", "tiff", "gif", "bmp")
FEATURES = ("rms", "kurtosis", "skewness", "crest_factor", "peak", "dominant_frequency", "duration", "width", "height")
COUNTS = "size_bytes >= 0 AND row_count >= 0 AND column_count >= 0{} AND number > 0"


def upgrade() -> None:
    op.create_table(
        "dataset_items",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("label", "split", "severity")),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("info", postgresql.JSONB(), nullable=True),
        sa.Column("features", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("issues", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("has_issues", sa.Boolean(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in FEATURES),
        sa.Column("byte_offset", sa.BigInteger(), nullable=False),
        sa.Column("stored_size", sa.BigInteger(), nullable=False),
        sa.Column("storage", sa.Text(), nullable=False),
        sa.Column("in_pack", sa.Boolean(), nullable=False),
        sa.Column("preview_offset", sa.BigInteger(), nullable=True),
        sa.Column("preview_size", sa.BigInteger(), nullable=True),
        sa.Column("preview_sha256", sa.Text(), nullable=True),
        sa.CheckConstraint("size_bytes >= 0 AND byte_offset >= 0 AND stored_size >= 0", name=op.f("ck_dataset_items_sizes_not_negative")),
        sa.CheckConstraint(
            "num_nonnulls(preview_offset, preview_size, preview_sha256) IN (0, 3)", name=op.f("ck_dataset_items_preview_is_whole")
        ),
        sa.ForeignKeyConstraint(["version_id"], ["dataset_versions.id"], name=op.f("fk_dataset_items_version_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_items")),
    )
    change_enum(op, "dataset_items", "storage", ("stored", "deflated"))
    text_value = "lower(COALESCE({}, ''::text))"
    for name, column, where in (
        ("version_id_key", sa.text("lower(key)"), None),
        ("version_id_label", sa.text(text_value.format("label")), None),
        ("version_id_split", sa.text(text_value.format("split")), None),
        ("version_id_size_bytes", "size_bytes", None),
        *((f"version_id_{name}", sa.text(f"COALESCE({name}, '-1.7976931348623157e+308'::double precision)"), None) for name in FEATURES),
        ("severity", sa.text(text_value.format("severity")), sa.text("severity IS NOT NULL")),
    ):
        op.create_index(f"ix_dataset_items_{name}", "dataset_items", ["version_id", column, "id"], postgresql_where=where)
    op.create_index("ix_dataset_items_with_issues", "dataset_items", ["version_id", "id"], postgresql_where=sa.text("has_issues"))

    change_enum(op, "dataset_versions", "format", (*FORMATS[:-1], *NEW_FORMATS, "unknown"))
    op.add_column("dataset_versions", sa.Column("item_count", sa.BigInteger(), nullable=True))
    op.add_column("dataset_versions", sa.Column("item_summary", postgresql.JSONB(), nullable=True))
    op.drop_constraint(op.f("ck_dataset_versions_counts_not_negative"), "dataset_versions")
    op.create_check_constraint(op.f("ck_dataset_versions_counts_not_negative"), "dataset_versions", COUNTS.format(" AND item_count >= 0"))


def downgrade() -> None:
    op.drop_constraint(op.f("ck_dataset_versions_counts_not_negative"), "dataset_versions")
    op.create_check_constraint(op.f("ck_dataset_versions_counts_not_negative"), "dataset_versions", COUNTS.format(""))
    op.drop_column("dataset_versions", "item_summary")
    op.drop_column("dataset_versions", "item_count")
    versions = sa.table("dataset_versions", sa.column("format"))
    op.execute(versions.update().where(versions.c.format.in_(NEW_FORMATS)).values(format="unknown"))
    change_enum(op, "dataset_versions", "format", FORMATS)
    op.drop_table("dataset_items")
