"""Purchases count what was lost to disputes; events of payments are found by their age, to be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0082"
down_revision = "0081"
branch_labels = None
depends_on = None

OLD, NEW = "ck_credit_purchases_taken_back_of_what_was_refunded", "ck_credit_purchases_taken_back_of_what_was_given_back"


def upgrade() -> None:
    op.add_column("credit_purchases", sa.Column("disputed", sa.BigInteger(), server_default="0", nullable=False))
    op.drop_constraint(op.f(OLD), "credit_purchases", type_="check")
    op.create_check_constraint(
        op.f(NEW),
        "credit_purchases",
        "refunded BETWEEN 0 AND credits AND disputed BETWEEN 0 AND credits AND taken_back BETWEEN 0 AND LEAST(refunded + disputed, credits)",
    )
    op.create_index(op.f("ix_payment_events_created_at"), "payment_events", ["created_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_payment_events_created_at"), "payment_events")
    op.drop_constraint(op.f(NEW), "credit_purchases", type_="check")
    op.execute("UPDATE credit_purchases SET refunded = LEAST(credits, refunded + disputed)")  # what was taken back stays explained
    op.create_check_constraint(op.f(OLD), "credit_purchases", "taken_back >= 0 AND taken_back <= refunded AND refunded <= credits")
    op.drop_column("credit_purchases", "disputed")
