"""Credits of accounts, and the ledger of their changes."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, billing, jobs
from graph.accounts.types import Profile, User
from graph.billing.enums import TierRestriction, TransactionType
from graph.billing.inputs import CreditTransactionFilter
from graph.core.edges import connection, extend, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope, scoped
from graph.core.scalars import BigInt
from graph.jobs.types import Job

_DESCRIPTIONS = {
    TransactionType.PURCHASE: "Credits were bought.",
    TransactionType.CONSUMPTION: "Charged for a job that completed.",
    TransactionType.REFUND: "Given back.",
    TransactionType.ADJUSTMENT: "Adjusted by an admin.",
    TransactionType.HOLD: "Held for a job.",
    TransactionType.RELEASE: "Released by a job that did not complete.",
}


@strawberry.type(description="The credits of an account. `balance` is `held` and `available` together.")
class CreditAccount:
    balance: BigInt = strawberry.field(description="All credits that it has.")
    held: BigInt = strawberry.field(description="Those that are kept for its unfinished jobs.")
    available: BigInt = strawberry.field(description="Those that it can spend.")
    low_since: datetime | None = strawberry.field(
        description="Since when it can spend fewer than `TRELLIS_LOW_CREDITS`, 100 by default; null if it has more, or never had any."
    )

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(balance=row.balance, held=row.held, available=row.available, low_since=row.low_since)


@strawberry.type(description="Credits that are sold at a price, by `purchaseCredits`. Admins make and change packages.")
class CreditPackage(Node, prefix="package", found_by=billing.package_by_id, scope=Scope.READ):
    name: str = strawberry.field(description="What it is called; no other package has the name.")
    credits: BigInt = strawberry.field(description="The credits that one gets.")
    price_cents: int = strawberry.field(description="What they cost, in the smallest unit of `currency`: 500 are 5.00 EUR, and 500 JPY.")
    currency: str = strawberry.field(description="The currency's code, such as EUR (ISO 4217).")
    is_active: bool = strawberry.field(description="Whether it is sold. One that is not is still shown by the purchases of it.")
    tier_restriction: TierRestriction = strawberry.field(description="Which accounts may buy it.")
    external_price_id: str | None = strawberry.field(
        description="The payment provider's id of the price, for admins; null where a checkout names the amount, and for others."
    )
    created_at: datetime = strawberry.field(description="When an admin made it.")


@strawberry.type(
    description="An entry of an account's ledger: a change of its credits. Entries are never changed; an error is corrected by a further one."
)
class CreditTransaction(Node, prefix="transaction", found_by=billing.transaction_by_id, scope=Scope.BILLING):
    owner_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID | None]
    actor_id: strawberry.Private[UUID | None]
    note: strawberry.Private[str | None]
    package_id: strawberry.Private[UUID | None]
    sequence: BigInt = strawberry.field(description="Its number in the account's ledger: 1, 2, 3 and so on without a gap.")
    type: TransactionType = strawberry.field(description="What it tells.")
    amount: BigInt = strawberry.field(
        description="How it changed the credits that can be spent: a HOLD takes them, so a CONSUMPTION, which spends what was held, has 0."
    )
    held: BigInt = strawberry.field(description="How it changed the held credits.")
    balance_after: BigInt = strawberry.field(description="The credits that could be spent after it.")
    held_after: BigInt = strawberry.field(description="The held credits after it.")
    created_at: datetime = strawberry.field(description="When it was written, in the order of `sequence`.")
    external_reference: str | None = strawberry.field(description="The payment provider's id of the checkout, where credits were bought.")
    package: CreditPackage | None = one(
        billing.package_by_id, key="package_id", description="The package that was bought, or whose payment was refunded."
    )
    job: Job | None = one(
        jobs.by_id, key="job_id", description="The job that it is about; null if there is none, or it is of a team that you left."
    )
    actor: Profile | None = one(
        accounts.profile_by_id,
        key="actor_id",
        description="Who caused it: who submitted or cancelled the job, or the admin. Null for the end of a job, and for what an operator did.",
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The account whose credits it changed: a person's, or a team's.")

    @strawberry.field(description="What it was for: the reason that an admin gave, else what its `type` says.")
    def description(self) -> str:
        return self.note or _DESCRIPTIONS[self.type]


extend(
    User,
    "credits",
    CreditAccount,
    one(
        billing.account_by_user,
        metadata=scoped(Scope.BILLING),
        description="What the account can spend, and what its unfinished jobs hold.",
    ),
)
extend(
    User,
    "credit_transactions",
    Connection[CreditTransaction],
    connection(
        billing.transactions_of_owner,
        filtered_by=CreditTransactionFilter,
        metadata=scoped(Scope.BILLING),
        description="The ledger of the account's credits, newest first.",
    ),
)
extend(
    Job,
    "credit_transactions",
    Connection[CreditTransaction],
    connection(
        billing.transactions_of_job,
        filtered_by=CreditTransactionFilter,
        metadata=scoped(Scope.BILLING),
        description="What the job did to the credits of its payer, newest first; empty if it is free, or you do not see the payer's ledger.",
    ),
)
