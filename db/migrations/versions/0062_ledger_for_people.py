"""The ledger as people read it: its lists, refunds of jobs, and entries that agree with the account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None

_NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))
_LISTED_BY = ("owner_id", "job_id", "kind", "owner_id_kind")


def upgrade() -> None:
    op.create_index("ix_credit_transactions_created_at", "credit_transactions", [*_NEWEST_FIRST])
    op.create_index("ix_credit_transactions_owner_id_created_at", "credit_transactions", ["owner_id", *_NEWEST_FIRST])
    op.create_index("ix_credit_transactions_job_id_created_at", "credit_transactions", ["job_id", *_NEWEST_FIRST])
    op.create_index("ix_credit_transactions_kind_created_at", "credit_transactions", ["kind", *_NEWEST_FIRST])
    op.create_index("ix_credit_transactions_owner_id_kind_created_at", "credit_transactions", ["owner_id", "kind", *_NEWEST_FIRST])
    op.drop_index(op.f("ix_credit_transactions_job_id"), "credit_transactions")
    op.create_index(
        "uq_credit_transactions_refund", "credit_transactions", ["job_id"], unique=True, postgresql_where=sa.text("kind = 'refund'")
    )
    install_function(op, "trellis_verify_credit_entry", revision)
    install_function(op, "trellis_verify_credit_change", revision)
    # At the end of the transaction: the account and its entry are written one after the other.
    op.execute(
        "CREATE CONSTRAINT TRIGGER agrees_with_account AFTER INSERT ON credit_transactions DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION trellis_verify_credit_entry()"
    )
    op.execute(
        "CREATE CONSTRAINT TRIGGER agrees_with_ledger AFTER UPDATE OF credit_balance, credits_held, credit_sequence ON users"
        " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ((OLD.credit_balance, OLD.credits_held, OLD.credit_sequence)"
        " IS DISTINCT FROM (NEW.credit_balance, NEW.credits_held, NEW.credit_sequence)) EXECUTE FUNCTION trellis_verify_credit_change()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER agrees_with_ledger ON users")
    op.execute("DROP TRIGGER agrees_with_account ON credit_transactions")
    drop_function(op, "trellis_verify_credit_change")
    drop_function(op, "trellis_verify_credit_entry")
    op.drop_index("uq_credit_transactions_refund", "credit_transactions")
    op.create_index(op.f("ix_credit_transactions_job_id"), "credit_transactions", ["job_id"])
    for columns in _LISTED_BY:
        op.drop_index(f"ix_credit_transactions_{columns}_created_at", "credit_transactions")
    op.drop_index("ix_credit_transactions_created_at", "credit_transactions")
