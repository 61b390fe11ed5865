"""Files of external runs, and their uploads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0067"
down_revision = "0066"
branch_labels = None
depends_on = None

BELONGS = "ck_artifacts_belongs_to_something"


def upgrade() -> None:
    op.create_table(
        "artifact_uploads",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("artifact_id", sa.Uuid(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("path", "object_key", "content_type")),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_artifact_uploads_size_not_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_artifact_uploads_owner_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_artifact_uploads_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_artifact_uploads_artifact_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_uploads")),
        sa.UniqueConstraint("object_key", name=op.f("uq_artifact_uploads_object_key")),
    )
    change_enum(op, "artifact_uploads", "state", ("open", "completed", "mismatched", "expired"))
    for column in ("owner_id", "run_id", "artifact_id"):
        op.create_index(op.f(f"ix_artifact_uploads_{column}"), "artifact_uploads", [column])
    is_open = sa.text("state = 'open'")
    op.create_index("ix_artifact_uploads_due", "artifact_uploads", ["due_at"], postgresql_where=is_open)
    op.create_index(
        "ix_artifact_uploads_holding", "artifact_uploads", ["owner_id"], postgresql_include=["size_bytes"], postgresql_where=is_open
    )
    op.drop_constraint(op.f(BELONGS), "artifacts", type_="check")
    op.create_check_constraint(op.f(BELONGS), "artifacts", "num_nonnulls(dataset_version_id, model_version_id, job_id, run_id) >= 1")


def downgrade() -> None:
    op.execute("DELETE FROM artifacts WHERE num_nonnulls(dataset_version_id, model_version_id, job_id) = 0")
    op.drop_constraint(op.f(BELONGS), "artifacts", type_="check")
    op.create_check_constraint(op.f(BELONGS), "artifacts", "num_nonnulls(dataset_version_id, model_version_id, job_id) >= 1")
    op.drop_table("artifact_uploads")
