"""Root queries for billing."""

from __future__ import annotations

import strawberry

from db.queries import billing
from graph.billing.inputs import CreditTransactionFilter
from graph.billing.types import CreditTransaction
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.core.permissions import Scope


@strawberry.type
class BillingQueries:
    credit_transactions: Connection[CreditTransaction] = listing(
        billing.transactions_listing,
        filtered_by=CreditTransactionFilter,
        scope=Scope.BILLING,
        description="The ledgers of your credits and of your teams', newest first; for admins, everybody's.",
    )
