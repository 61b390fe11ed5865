"""The filter of the ledger, and inputs of mutations on credits."""

from __future__ import annotations

import strawberry
from strawberry import ID

from graph.billing.enums import GrantType, TransactionType
from graph.core.filters import DateTimeFilter, Filter, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.scalars import BigInt


@strawberry.input(description="Conditions on entries of the ledger, all of which must hold. A list of values means any of them.")
class CreditTransactionFilter(Filter):
    type: list[TransactionType] | None = strawberry.field(description="What it tells.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was written.")
    job_id: ID | None = reference("job", description="The job that it is about.")
    owner_id: ID | None = reference("user", description="Whose credits it changed: you or a team of yours; of admins, anybody.")


@strawberry.input(description="The credits to grant.")
class GrantCreditsInput:
    user_id: ID = strawberry.field(description="Who gets them: a person or a team.")
    amount: BigInt = strawberry.field(description="How many; an ADJUSTMENT may be negative, but never takes more than can be spent.")
    reason: str = strawberry.field(description="Why, in up to 1,000 characters; it is the entry's `description`, which the account reads.")
    type: GrantType = strawberry.field(default=GrantType.ADJUSTMENT, description="What the entry is.")
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=IDEMPOTENCY_KEY,
    )


@strawberry.input(description="The job whose charge is given back.")
class RefundJobInput:
    job_id: ID = strawberry.field(description="A job that completed and was charged.")
    reason: str = strawberry.field(description="Why, in up to 1,000 characters; it is the entry's `description`, which the payer reads.")
    amount: BigInt | None = strawberry.field(
        default=None, description="How many credits, at most what the job was charged, which is given back if this is left out."
    )
