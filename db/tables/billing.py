"""The ledger of users' credits."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, enum_column, filter_index, listing_indexes, now_column, uuid_primary_key
from db.core.policy import Owned


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

    `amount` changes the balance and `held` the held credits; the columns `*_after` have the results. A job is refunded at most once.
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
    created_at: Mapped[datetime] = now_column()
