"""Budgets of credits for teams and experiments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0080"
down_revision = "0079"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credit_budgets",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=True),
        sa.Column("max_credits", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in ("held", "charged")),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("max_credits >= 0 AND held >= 0 AND charged >= 0", name=op.f("ck_credit_budgets_never_negative")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_credit_budgets_owner_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_credit_budgets_experiment_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_budgets")),
    )
    op.create_index(op.f("ix_credit_budgets_owner_id"), "credit_budgets", ["owner_id"])
    is_of_account = sa.text("experiment_id IS NULL")
    op.create_index("uq_credit_budgets_owner_id", "credit_budgets", ["owner_id"], unique=True, postgresql_where=is_of_account)
    op.create_index("uq_credit_budgets_experiment_id", "credit_budgets", ["experiment_id"], unique=True)
    op.create_table(
        "credit_budget_jobs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_credit_budget_jobs_job_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["budget_id"], ["credit_budgets.id"], name=op.f("fk_credit_budget_jobs_budget_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "budget_id", name=op.f("pk_credit_budget_jobs")),
    )
    op.create_index(op.f("ix_credit_budget_jobs_budget_id"), "credit_budget_jobs", ["budget_id"])


def downgrade() -> None:
    op.drop_table("credit_budget_jobs")
    op.drop_table("credit_budgets")
