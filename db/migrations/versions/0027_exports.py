"""Exports of dataset versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum
from db.migrations.outputs import guard_outputs

revision = "0027"
down_revision = "0024"
branch_labels = None
depends_on = None

ONE_PARENT = "ck_artifacts_has_one_parent"


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("model_version_id", sa.Uuid(), nullable=True),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("options", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("num_nonnulls(dataset_version_id, model_version_id) = 1", name=op.f("ck_exports_has_one_source")),
        sa.CheckConstraint("num_nonnulls(size_bytes, expires_at) IN (0, 2)", name=op.f("ck_exports_complete_with_size_and_expiry")),
        sa.CheckConstraint("expired_at IS NULL OR expires_at IS NOT NULL", name=op.f("ck_exports_expires_once_complete")),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_exports_size_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_exports_owner_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_exports_job_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_exports_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(["model_version_id"], ["model_versions.id"], name=op.f("fk_exports_model_version_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint("job_id", name=op.f("uq_exports_job_id")),
    )
    change_enum(op, "exports", "format", ("csv", "json", "jsonl", "parquet"))
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_exports_created_at", "exports", newest_first)
    for column in ("owner_id", "format", "dataset_version_id", "model_version_id"):
        op.create_index(f"ix_exports_{column}_created_at", "exports", [column, *newest_first])
    op.create_index("ix_exports_due", "exports", ["expires_at"], postgresql_where=sa.text("expired_at IS NULL"))
    guard_outputs(op, "exports", "export", "cascade")

    op.add_column("artifacts", sa.Column("export_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_artifacts_export_id"), "artifacts", "exports", ["export_id"], ["id"], ondelete="CASCADE")
    op.create_index(op.f("ix_artifacts_export_id"), "artifacts", ["export_id"])
    op.drop_constraint(op.f(ONE_PARENT), "artifacts")
    op.create_check_constraint(op.f(ONE_PARENT), "artifacts", "num_nonnulls(dataset_version_id, model_version_id, export_id) <= 1")


def downgrade() -> None:
    op.execute("DELETE FROM exports")  # with their artifacts
    op.drop_constraint(op.f(ONE_PARENT), "artifacts")
    op.create_check_constraint(op.f(ONE_PARENT), "artifacts", "num_nonnulls(dataset_version_id, model_version_id) <= 1")
    op.drop_column("artifacts", "export_id")
    op.drop_table("exports")
