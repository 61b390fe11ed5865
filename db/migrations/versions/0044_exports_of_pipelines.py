"""The job of a pipeline may make several exports."""

from __future__ import annotations

from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_exports_job_id"), "exports", ["job_id"], unique=False)
    op.drop_constraint(op.f("uq_exports_job_id"), "exports", type_="unique")


def downgrade() -> None:
    op.create_unique_constraint(op.f("uq_exports_job_id"), "exports", ["job_id"])
    op.drop_index(op.f("ix_exports_job_id"), table_name="exports")
