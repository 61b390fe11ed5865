"""What admins change of credits."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import accounts, billing, jobs
from db.services import credits
from graph.accounts.types import User
from graph.billing.enums import TransactionType
from graph.billing.inputs import GrantCreditsInput, RefundJobInput
from graph.billing.types import CreditTransaction
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, WrongState
from graph.jobs.types import Job


@strawberry.type(description="The credits were granted.")
class GrantCreditsPayload:
    transaction_id: strawberry.Private[UUID]
    user_id: strawberry.Private[UUID]
    transaction: CreditTransaction = one(billing.transaction_by_id, key="transaction_id", description="The new entry of the ledger.")
    user: User = one(accounts.by_id, key="user_id", description="The account that got them.")


@strawberry.type(description="The charge was given back.")
class RefundJobPayload:
    transaction_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    transaction: CreditTransaction = one(
        billing.transaction_by_id, key="transaction_id", description="The new entry of the payer's ledger."
    )
    job: Job = one(jobs.by_id, key="job_id", description="The job; what it was charged stays in its `credits`, beside what was refunded.")


GrantCreditsResult = Annotated[
    GrantCreditsPayload | NotFound | InvalidInput | Conflict | InsufficientCredits,
    strawberry.union("GrantCreditsResult", description="The possible results of `grantCredits`."),
]
RefundJobResult = Annotated[
    RefundJobPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("RefundJobResult", description="The possible results of `refundJob`."),
]


@strawberry.type
class BillingMutations:
    @mutation(
        scope=Scope.ADMIN,
        description="Give credits to a person or a team, or take some away. For admins. Its owner reads the reason in the ledger.",
    )
    async def grant_credits(
        self, info: Info, input: Annotated[GrantCreditsInput, strawberry.argument(description="The credits to grant.")]
    ) -> GrantCreditsResult:
        user_id = decode("user", input.user_id)
        new_grant = credits.Grant(user_id, TransactionType(input.type.value), input.amount, input.reason, input.idempotency_key)
        async with info.context.work() as work:
            granted = await credits.grant(work, new_grant)
        return GrantCreditsPayload(transaction_id=granted.transaction_id, user_id=user_id)

    @mutation(
        scope=Scope.ADMIN,
        description="Give back what a completed job was charged, or a part of it, once, to the account that paid for it. For admins.",
    )
    async def refund_job(
        self, info: Info, input: Annotated[RefundJobInput, strawberry.argument(description="The job whose charge is given back.")]
    ) -> RefundJobResult:
        job_id = decode("job", input.job_id)
        async with info.context.work() as work:
            transaction_id = await credits.refund_job(work, job_id, input.reason, input.amount)
        return RefundJobPayload(transaction_id=transaction_id, job_id=job_id)
