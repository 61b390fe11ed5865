"""Queries of credits: the ledger, and what accounts can spend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Text, literal, literal_column, select, true

from db.core.batch import rows_by_key
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible, visible_or_shipped
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import CreditBudget, CreditPackage, CreditTransaction, Job, User
from db.tables.billing import TransactionType

MAX_PACKAGES = 100

_COLUMNS = (
    CreditTransaction.id,
    CreditTransaction.owner_id,
    CreditTransaction.sequence,
    CreditTransaction.kind.label("type"),
    CreditTransaction.amount,
    CreditTransaction.held,
    CreditTransaction.balance_after,
    CreditTransaction.held_after,
    CreditTransaction.job_id,
    CreditTransaction.actor_id,
    CreditTransaction.note,
    CreditTransaction.package_id,
    CreditTransaction.external_reference,
    CreditTransaction.created_at,
)


def transactions(viewer: Viewer) -> Rows:
    """The entries of the ledgers that a viewer may see: their own and their teams'."""
    return select(*_COLUMNS).where(visible(CreditTransaction, viewer))


transaction_by_id = rows_by_key(transactions, CreditTransaction.id)
transactions_listing = Listing(
    transactions,
    Orders(CreditTransaction),
    Filters(CreditTransaction, type=lambda condition: condition.conditions(CreditTransaction.kind)),
)
transactions_of_owner = transactions_listing.under(CreditTransaction.owner_id)
transactions_of_job = transactions_listing.under(CreditTransaction.job_id)


def _accounts(viewer: Viewer) -> Rows:
    columns = (User.id, User.credit_balance.label("available"), User.credits_held.label("held"), User.credits_low_since.label("low_since"))
    return select(*columns, (User.credit_balance + User.credits_held).label("balance")).where(visible_or_shipped(User, viewer))


account_by_user = rows_by_key(_accounts, User.id)
"""By user: `balance`, of which `held` is kept for unfinished jobs and `available` can be spent, and `low_since`."""


def _packages(viewer: Viewer) -> Rows:
    external_price_id = CreditPackage.external_price_id if viewer.sees_all else literal(None, Text)
    columns = [column for column in CreditPackage.__table__.c if column.name != "external_price_id"]
    return select(*columns, external_price_id.label("external_price_id")).where(visible_or_shipped(CreditPackage, viewer))


package_by_id = rows_by_key(_packages, CreditPackage.id)
"""By id: a package, also one that is sold no more. Its `external_price_id` is shown to admins alone."""


def _sold(viewer: Viewer) -> Rows:
    is_shown = true() if viewer.sees_all else CreditPackage.is_active
    return _packages(viewer).where(is_shown).order_by(CreditPackage.price_cents, CreditPackage.id).limit(literal_column(str(MAX_PACKAGES)))


packages = PreparedRows(_sold)
"""The packages that are sold, the cheapest first; for admins, the others too."""


def _budgets(viewer: Viewer) -> Rows:
    return select(CreditBudget.__table__).where(visible(CreditBudget, viewer))


def _budgets_of_accounts(viewer: Viewer) -> Rows:
    return _budgets(viewer).where(CreditBudget.experiment_id.is_(None))


budget_by_id = rows_by_key(_budgets, CreditBudget.id)
budget_by_experiment = rows_by_key(_budgets, CreditBudget.experiment_id)
budget_by_account = rows_by_key(_budgets_of_accounts, CreditBudget.owner_id)


def _refunds(viewer: Viewer) -> Rows:
    statement = select(CreditTransaction.job_id, CreditTransaction.amount).join(Job, Job.id == CreditTransaction.job_id)
    return statement.where(CreditTransaction.kind == TransactionType.REFUND, visible(Job, viewer))


refund_by_job = rows_by_key(_refunds, CreditTransaction.job_id)
"""By job, for whoever sees the job: the `amount` that was given back to its payer."""


async def last_of_owner(database: Database, viewer: Viewer, owner_id: UUID, limit: int) -> Sequence[Row[Any]]:
    """The last entries of a user's ledger, newest first."""
    statement = select(*CreditTransaction.__table__.c).where(CreditTransaction.owner_id == owner_id, visible(CreditTransaction, viewer))
    return await database.rows(statement.order_by(CreditTransaction.sequence.desc()).limit(limit))
