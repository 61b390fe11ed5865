"""Credits: the ledger, the packages that are sold, and purchases."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import (
    Table,
    bigint_column,
    created_by_column,
    enum_column,
    filter_index,
    listing_indexes,
    now_column,
    uuid_primary_key,
)
from db.core.policy import Internal, Owned, Through


class TransactionType(StrEnum):
    """The type of a ledger entry. A hold ends with a consumption (charge) or a release."""

    PURCHASE = "purchase"
    CONSUMPTION = "consumption"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    HOLD = "hold"
    RELEASE = "release"


class CreditTransaction(Table, policy=Owned()):
    """One entry of an account's ledger, numbered from 1 without a gap. A trigger refuses every UPDATE, DELETE and TRUNCATE, and deferred ones
    refuse at the commit a change of an account's credits without the entry that tells of it, and an entry without the change.

    `amount` changes the balance and `held` the held credits; the columns `*_after` have the results. A job is refunded at most once, and a
    payment, which is named by `external_reference`, is credited at most once.
    """

    __tablename__ = "credit_transactions"
    __table_args__ = (
        UniqueConstraint("owner_id", "sequence"),
        *listing_indexes("credit_transactions", deletable=False),
        filter_index("credit_transactions", "job_id"),
        filter_index("credit_transactions", "kind"),
        filter_index("credit_transactions", "owner_id", "kind"),
        Index("uq_credit_transactions_hold", "job_id", unique=True, postgresql_where=text("kind = 'hold'")),
        Index("uq_credit_transactions_end", "job_id", unique=True, postgresql_where=text("kind IN ('consumption', 'release')")),
        Index("uq_credit_transactions_refund", "job_id", unique=True, postgresql_where=text("kind = 'refund'")),
        Index("uq_credit_transactions_purchase", "external_reference", unique=True, postgresql_where=text("kind = 'purchase'")),
        CheckConstraint("sequence > 0 AND balance_after >= 0 AND held_after >= 0", name="never_negative"),
        CheckConstraint("job_id IS NOT NULL OR kind NOT IN ('hold', 'consumption', 'release')", name="a_hold_is_of_a_job"),
        CheckConstraint(
            "CASE kind WHEN 'hold' THEN amount < 0 AND held = -amount WHEN 'release' THEN held < 0 AND amount = -held"
            " WHEN 'consumption' THEN held < 0 AND amount >= 0 AND amount <= -held ELSE held = 0 AND amount <> 0 END",
            name="kind_says_what_moves",
        ),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    sequence: Mapped[int] = bigint_column()
    kind: Mapped[TransactionType] = enum_column("kind", TransactionType)
    amount: Mapped[int] = bigint_column()
    held: Mapped[int] = bigint_column(server_default="0")
    balance_after: Mapped[int] = bigint_column()
    held_after: Mapped[int] = bigint_column()
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"))
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    note: Mapped[str | None]
    package_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_packages.id", ondelete="RESTRICT"), index=True)
    external_reference: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()


class TierRestriction(StrEnum):
    """Accounts of which tier may buy a package."""

    NONE = "none"
    PRO_ONLY = "pro_only"
    ENTERPRISE_ONLY = "enterprise_only"


class CreditPackage(Table, policy=Owned()):
    """Credits that are sold at a price. It belongs to the SYSTEM account, as what ships does, so that everybody sees it.

    `external_price_id` is the provider's id of the price; without one, a checkout names amount and currency.
    """

    __tablename__ = "credit_packages"
    __table_args__ = (
        Index("uq_credit_packages_owner_id_name", "owner_id", text("lower(name)"), unique=True),
        CheckConstraint("credits > 0", name="credits_positive"),
        CheckConstraint("price_cents > 0", name="price_cents_positive"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency_is_a_code"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    name: Mapped[str]
    credits: Mapped[int] = bigint_column()
    price_cents: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    tier_restriction: Mapped[TierRestriction] = enum_column("tier_restriction", TierRestriction)
    external_price_id: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()


class PurchaseStatus(StrEnum):
    """OPEN until the provider tells that it is paid, or that it will not be."""

    OPEN = "open"
    COMPLETED = "completed"
    EXPIRED = "expired"


class CreditPurchase(Table, policy=Owned()):
    """A package as it was when an account began to buy it. What is paid is credited from here; a callback of the provider only says that it is paid.

    `external_reference` is the provider's id of the checkout. `refunded` are the credits whose payment was refunded, `disputed` those whose payment
    was lost to disputes, `taken_back` those of them that the account still had.
    """

    __tablename__ = "credit_purchases"
    __table_args__ = (
        filter_index("credit_purchases", "owner_id"),
        Index("uq_credit_purchases_external_reference", "external_reference", unique=True),
        CheckConstraint("(status = 'completed') = (transaction_id IS NOT NULL)", name="a_completed_one_has_its_entry"),
        CheckConstraint(
            "refunded BETWEEN 0 AND credits AND disputed BETWEEN 0 AND credits AND taken_back BETWEEN 0 AND LEAST(refunded + disputed, credits)",
            name="taken_back_of_what_was_given_back",
        ),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    package_id: Mapped[UUID] = mapped_column(ForeignKey("credit_packages.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    credits: Mapped[int] = bigint_column()
    price_cents: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str]
    external_price_id: Mapped[str | None]
    status: Mapped[PurchaseStatus] = enum_column("status", PurchaseStatus, server_default="open")
    checkout_url: Mapped[str | None]
    external_reference: Mapped[str | None]
    transaction_id: Mapped[UUID | None] = mapped_column(ForeignKey("credit_transactions.id", ondelete="RESTRICT"), index=True)
    refunded: Mapped[int] = bigint_column(server_default="0")
    disputed: Mapped[int] = bigint_column(server_default="0")
    taken_back: Mapped[int] = bigint_column(server_default="0")
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()


class PaymentEvent(Table, policy=Internal("The provider sends each event several times; its id here says that it took effect.")):
    """An event of the payment provider that took effect, written in the transaction of its effects.

    `refused` is why the payment that it tells of is sent back instead.
    """

    __tablename__ = "payment_events"
    __table_args__ = (Index("ix_payment_events_created_at", "created_at"),)

    event_id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    purchase_id: Mapped[UUID] = mapped_column(ForeignKey("credit_purchases.id", ondelete="CASCADE"), index=True)
    refused: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()


class CreditBudget(Table, policy=Owned()):
    """What the jobs of a team, or of one experiment, may cost. `held` and `charged` count the jobs submitted since it was first set."""

    __tablename__ = "credit_budgets"
    __table_args__ = (
        Index("uq_credit_budgets_owner_id", "owner_id", unique=True, postgresql_where=text("experiment_id IS NULL")),
        Index("uq_credit_budgets_experiment_id", "experiment_id", unique=True),
        CheckConstraint("max_credits >= 0 AND held >= 0 AND charged >= 0", name="never_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    experiment_id: Mapped[UUID | None] = mapped_column(ForeignKey("experiments.id", ondelete="CASCADE"))
    max_credits: Mapped[int | None] = bigint_column()
    held: Mapped[int] = bigint_column(server_default="0")
    charged: Mapped[int] = bigint_column(server_default="0")
    created_at: Mapped[datetime] = now_column()


class CreditBudgetJob(Table, policy=Through("job_id")):
    """A job that counts in a budget, also after its run was moved to another experiment."""

    __tablename__ = "credit_budget_jobs"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    budget_id: Mapped[UUID] = mapped_column(ForeignKey("credit_budgets.id", ondelete="CASCADE"), primary_key=True, index=True)
