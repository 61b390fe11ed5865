"""Credits: users' balances, the costs of their jobs, and the ledger of both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("credit_balance", "credits_held", "credit_sequence"):
        op.add_column("users", sa.Column(column, sa.BigInteger(), server_default="0", nullable=False))
    op.create_check_constraint("credits_not_negative", "users", "credit_balance >= 0 AND credits_held >= 0")
    op.add_column("jobs", sa.Column("credit_cost", sa.BigInteger(), server_default="0", nullable=False))
    op.create_check_constraint("cost_not_negative", "jobs", "credit_cost >= 0")
    op.create_table(
        "credit_transactions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("balance_after", sa.BigInteger(), nullable=False),
        sa.Column("held_after", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "kind IN ('purchase', 'consumption', 'refund', 'adjustment', 'hold', 'release')",
            name=op.f("ck_credit_transactions_kind_is_known"),
        ),
        sa.CheckConstraint("sequence > 0 AND balance_after >= 0 AND held_after >= 0", name=op.f("ck_credit_transactions_never_negative")),
        sa.CheckConstraint(
            "job_id IS NOT NULL OR kind NOT IN ('hold', 'consumption', 'release')", name=op.f("ck_credit_transactions_a_hold_is_of_a_job")
        ),
        sa.CheckConstraint(
            "CASE kind WHEN 'hold' THEN amount < 0 AND held = -amount WHEN 'release' THEN held < 0 AND amount = -held"
            " WHEN 'consumption' THEN held < 0 AND amount >= 0 AND amount <= -held ELSE held = 0 AND amount <> 0 END",
            name=op.f("ck_credit_transactions_kind_says_what_moves"),
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_credit_transactions_owner_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_credit_transactions_job_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_credit_transactions_actor_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_transactions")),
        sa.UniqueConstraint("owner_id", "sequence", name=op.f("uq_credit_transactions_owner_id_sequence")),
    )
    op.create_index(op.f("ix_credit_transactions_job_id"), "credit_transactions", ["job_id"], unique=False)
    op.create_index(op.f("ix_credit_transactions_actor_id"), "credit_transactions", ["actor_id"], unique=False)
    op.create_index(
        "uq_credit_transactions_hold", "credit_transactions", ["job_id"], unique=True, postgresql_where=sa.text("kind = 'hold'")
    )
    op.create_index(
        "uq_credit_transactions_end",
        "credit_transactions",
        ["job_id"],
        unique=True,
        postgresql_where=sa.text("kind IN ('consumption', 'release')"),
    )
    install_function(op, "trellis_refuse", revision)
    # A trigger for each statement refuses TRUNCATE too, which a trigger for rows never sees.
    op.execute(
        "CREATE TRIGGER immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_transactions FOR EACH STATEMENT"
        " EXECUTE FUNCTION trellis_refuse('the ledger is only ever added to; correct it by a further line')"
    )
    op.execute(
        "CREATE TRIGGER keep_cost BEFORE UPDATE OF credit_cost ON jobs FOR EACH ROW WHEN (OLD.credit_cost <> NEW.credit_cost)"
        " EXECUTE FUNCTION trellis_refuse('what a job costs is held when it is submitted, and stays')"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_cost ON jobs")
    op.drop_table("credit_transactions")
    drop_function(op, "trellis_refuse")
    op.drop_constraint(op.f("ck_jobs_cost_not_negative"), "jobs")
    op.drop_column("jobs", "credit_cost")
    op.drop_constraint(op.f("ck_users_credits_not_negative"), "users")
    for column in ("credit_sequence", "credits_held", "credit_balance"):
        op.drop_column("users", column)
