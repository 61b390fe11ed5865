"""Root queries for billing."""

import strawberry

from db.queries import billing
from graph.billing.inputs import CreditTransactionFilter
from graph.billing.types import CreditPackage, CreditTransaction
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import listing
from graph.core.paging import Connection
from graph.core.permissions import Scope, query


@strawberry.type
class BillingQueries:
    credit_transactions: Connection[CreditTransaction] = listing(
        billing.transactions_listing,
        filtered_by=CreditTransactionFilter,
        scope=Scope.BILLING,
        description="The ledgers of your credits and of your teams', newest first; for admins, everybody's.",
    )

    @query(
        metadata=costs(entries=10),
        description="The packages of credits that are sold, the cheapest first; for admins, also those that are not.",
    )
    async def credit_packages(self, info: Info) -> list[CreditPackage]:
        return [CreditPackage.of(row) for row in await billing.packages(info.context.database, info.context.signed_in_viewer)]
