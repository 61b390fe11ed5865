"""Proposed schemas of dataset versions, and what happens to a version that breaks an accepted one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum, drop_enum
from db.migrations.outputs import guard_outputs

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schema_proposals",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), server_default="proposed", nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("columns", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("problem_type", sa.Text(), nullable=True),
        sa.Column("target_column", sa.Text(), nullable=True),
        sa.Column("rejection_reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("confidence BETWEEN 0 AND 1", name=op.f("ck_schema_proposals_confidence_is_a_share")),
        sa.CheckConstraint(
            "(status = 'rejected') = (rejection_reason IS NOT NULL)", name=op.f("ck_schema_proposals_rejected_for_a_reason")
        ),
        sa.CheckConstraint(
            "CASE status WHEN 'proposed' THEN decided_at IS NULL WHEN 'superseded' THEN true ELSE decided_at IS NOT NULL END",
            name=op.f("ck_schema_proposals_decided_once"),
        ),
        sa.ForeignKeyConstraint(["version_id"], ["dataset_versions.id"], name=op.f("fk_schema_proposals_version_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_schema_proposals_dataset_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_schema_proposals_job_id"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schema_proposals")),
    )
    change_enum(op, "schema_proposals", "status", ("proposed", "accepted", "rejected", "superseded"))
    change_enum(op, "schema_proposals", "problem_type", ("classification", "regression", "clustering", "other"))
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_schema_proposals_version_id_created_at", "schema_proposals", ["version_id", *newest_first])
    op.create_index("ix_schema_proposals_dataset_id", "schema_proposals", ["dataset_id"])
    op.create_index("ix_schema_proposals_job_id", "schema_proposals", ["job_id"])
    for status, column in (("proposed", "version_id"), ("accepted", "dataset_id")):
        where = sa.text(f"status = '{status}'")
        op.create_index(f"uq_schema_proposals_{status}", "schema_proposals", [column], unique=True, postgresql_where=where)
    guard_outputs(op, "schema_proposals", "proposal", "cascade")
    op.add_column("datasets", sa.Column("schema_policy", sa.Text(), server_default="warn", nullable=False))
    change_enum(op, "datasets", "schema_policy", ("warn", "fail"))


def downgrade() -> None:
    drop_enum(op, "datasets", "schema_policy")
    op.drop_column("datasets", "schema_policy")
    op.execute("DELETE FROM schema_proposals")  # and with them that they are outputs
    op.drop_table("schema_proposals")
