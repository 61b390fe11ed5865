"""The filter of the ledger, and inputs of mutations on credits."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.billing.enums import GrantType, TierRestriction, TransactionType
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


_PRICE_ID = "The payment provider's id of the price, such as `price_…` of Stripe, which then has to be the same price."


@strawberry.input(description="The package of credits to sell.")
class CreateCreditPackageInput:
    name: str = strawberry.field(description="Unique among packages, ignoring case; 1 to 200 characters.")
    credits: BigInt = strawberry.field(description="The credits that one gets, 1 or more.")
    price_cents: int = strawberry.field(description="What they cost, in the smallest unit of the currency, 1 or more.")
    currency: str = strawberry.field(description="The currency's code of three letters, such as EUR (ISO 4217).")
    tier_restriction: TierRestriction = strawberry.field(default=TierRestriction.NONE, description="Which accounts may buy it.")
    external_price_id: str | None = strawberry.field(default=None, description=f"{_PRICE_ID} Without it, a checkout names the amount.")


@strawberry.input(description="Changes to a package. Omitted fields stay unchanged. Purchases that have begun keep the package as it was.")
class UpdateCreditPackageInput:
    id: ID = strawberry.field(description="The package.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    credits: Maybe[BigInt | None] = strawberry.field(description="The credits that one gets; they cannot be cleared.")
    price_cents: Maybe[int | None] = strawberry.field(
        description="What they cost, in the smallest unit of the currency; it cannot be cleared."
    )
    currency: Maybe[str | None] = strawberry.field(description="The currency's code of three letters; it cannot be cleared.")
    is_active: Maybe[bool | None] = strawberry.field(description="False to sell it no more; it cannot be cleared.")
    tier_restriction: Maybe[TierRestriction | None] = strawberry.field(description="Which accounts may buy it; it cannot be cleared.")
    external_price_id: Maybe[str | None] = strawberry.field(description=f"{_PRICE_ID} Null for none.")

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        names = ("name", "credits", "price_cents", "currency", "is_active", "tier_restriction", "external_price_id")
        return {name: change.value for name in names if (change := getattr(self, name)) is not None}


@strawberry.input(description="The package to buy, and for whom.")
class PurchaseCreditsInput:
    package_id: ID = strawberry.field(description="A package that is sold.")
    account_id: ID | None = strawberry.field(
        default=None, description="Whose credits they are to be: of a team of which you are an ADMIN; yours if left out."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.input(description="The budget to set.")
class SetBudgetInput:
    id: ID = strawberry.field(description="An experiment, a team, or a study, of which this is `maxCredits`.")
    credits: BigInt | None = strawberry.field(
        description="The most that jobs may cost together, from when a budget was first set; null for no limit. That of a study can be changed and not removed."
    )
