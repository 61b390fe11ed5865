"""Packages of credits, purchases by a payment provider, and the events of the provider that took effect."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0079"
down_revision = "0078"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credit_packages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("price_cents", sa.Integer(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("tier_restriction", sa.Text(), nullable=False),
        sa.Column("external_price_id", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name=op.f("ck_credit_packages_currency_is_a_code")),
        sa.CheckConstraint("credits > 0", name=op.f("ck_credit_packages_credits_positive")),
        sa.CheckConstraint("price_cents > 0", name=op.f("ck_credit_packages_price_cents_positive")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_credit_packages_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_packages")),
    )
    change_enum(op, "credit_packages", "tier_restriction", ("none", "pro_only", "enterprise_only"))
    op.create_index("uq_credit_packages_owner_id_name", "credit_packages", ["owner_id", sa.literal_column("lower(name)")], unique=True)
    op.create_table(
        "credit_purchases",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("package_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("price_cents", sa.Integer(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("external_price_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("checkout_url", sa.Text(), nullable=True),
        sa.Column("external_reference", sa.Text(), nullable=True),
        sa.Column("transaction_id", sa.Uuid(), nullable=True),
        sa.Column("refunded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("taken_back", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(status = 'completed') = (transaction_id IS NOT NULL)", name=op.f("ck_credit_purchases_a_completed_one_has_its_entry")
        ),
        sa.CheckConstraint(
            "taken_back >= 0 AND taken_back <= refunded AND refunded <= credits",
            name=op.f("ck_credit_purchases_taken_back_of_what_was_refunded"),
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_credit_purchases_owner_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["package_id"], ["credit_packages.id"], name=op.f("fk_credit_purchases_package_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["credit_transactions.id"], name=op.f("fk_credit_purchases_transaction_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_purchases")),
    )
    change_enum(op, "credit_purchases", "status", ("open", "completed", "expired"))
    op.create_index(
        "ix_credit_purchases_owner_id_created_at",
        "credit_purchases",
        ["owner_id", sa.literal_column("created_at DESC"), sa.literal_column("id DESC")],
    )
    op.create_index(op.f("ix_credit_purchases_package_id"), "credit_purchases", ["package_id"])
    op.create_index(op.f("ix_credit_purchases_transaction_id"), "credit_purchases", ["transaction_id"])
    op.create_index("uq_credit_purchases_external_reference", "credit_purchases", ["external_reference"], unique=True)
    op.create_table(
        "payment_events",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("purchase_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["purchase_id"], ["credit_purchases.id"], name=op.f("fk_payment_events_purchase_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_payment_events")),
    )
    op.create_index(op.f("ix_payment_events_purchase_id"), "payment_events", ["purchase_id"])
    op.add_column("credit_transactions", sa.Column("package_id", sa.Uuid(), nullable=True))
    op.add_column("credit_transactions", sa.Column("external_reference", sa.Text(), nullable=True))
    op.create_index(op.f("ix_credit_transactions_package_id"), "credit_transactions", ["package_id"])
    op.create_index(
        "uq_credit_transactions_purchase",
        "credit_transactions",
        ["external_reference"],
        unique=True,
        postgresql_where=sa.text("kind = 'purchase'"),
    )
    op.create_foreign_key(
        op.f("fk_credit_transactions_package_id"), "credit_transactions", "credit_packages", ["package_id"], ["id"], ondelete="RESTRICT"
    )


def downgrade() -> None:
    op.drop_table("payment_events")
    op.drop_table("credit_purchases")
    op.drop_column("credit_transactions", "external_reference")  # and the index on it with it
    op.drop_column("credit_transactions", "package_id")
    op.drop_table("credit_packages")
