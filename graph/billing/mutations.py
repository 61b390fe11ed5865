"""Purchases of credits, and what admins change of credits and packages."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.errors import NotFound as IdNotFound
from db.errors import invalid
from db.queries import accounts, billing, jobs
from db.queries import studies as study_queries
from db.services import credit_budgets, credits, packages, purchases
from db.services.studies import changing
from db.services.studies.budgets import BudgetChange
from graph.accounts.types import User
from graph.billing.budgets import CreditBudget
from graph.billing.enums import TransactionType
from graph.billing.inputs import (
    CreateCreditPackageInput,
    GrantCreditsInput,
    PurchaseCreditsInput,
    RefundJobInput,
    SetBudgetInput,
    UpdateCreditPackageInput,
)
from graph.billing.types import CreditPackage, CreditTransaction
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import decode, owner_key, parse
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NameTaken, NotFound, QuotaExceeded, Unsupported, WrongState
from graph.jobs.types import Job
from graph.studies.types import Study

PURCHASE = 50  # a request to the payment provider


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


@strawberry.type(description="The package can be bought.")
class CreateCreditPackagePayload:
    package_id: strawberry.Private[UUID]
    package: CreditPackage = one(billing.package_by_id, key="package_id", description="The new package.")


@strawberry.type(description="The package was changed.")
class UpdateCreditPackagePayload:
    package_id: strawberry.Private[UUID]
    package: CreditPackage = one(billing.package_by_id, key="package_id", description="The package as it is now.")


@strawberry.type(
    description="The purchase has begun. The credits are in the ledger once it is paid; the event CREDITS_PURCHASED tells of it."
)
class PurchaseCreditsPayload:
    transaction_id: strawberry.Private[UUID | None]
    checkout_url: str | None = strawberry.field(
        description="The page of the payment provider on which to pay, for about a day; null once it is paid."
    )
    transaction: CreditTransaction | None = one(
        billing.transaction_by_id,
        key="transaction_id",
        description="The entry of the ledger, if it is paid already: when the mutation is sent again with its `idempotencyKey`.",
    )


CreateCreditPackageResult = Annotated[
    CreateCreditPackagePayload | InvalidInput | NameTaken | QuotaExceeded,
    strawberry.union("CreateCreditPackageResult", description="The possible results of `createCreditPackage`."),
]
UpdateCreditPackageResult = Annotated[
    UpdateCreditPackagePayload | NotFound | InvalidInput | NameTaken,
    strawberry.union("UpdateCreditPackageResult", description="The possible results of `updateCreditPackage`."),
]
PurchaseCreditsResult = Annotated[
    PurchaseCreditsPayload | NotFound | InvalidInput | WrongState | Conflict | QuotaExceeded | Unsupported,
    strawberry.union("PurchaseCreditsResult", description="The possible results of `purchaseCredits`."),
]


@strawberry.type(description="The budget was set. It holds for what is submitted from now on.")
class SetBudgetPayload:
    budget_id: strawberry.Private[UUID | None]
    study_id: strawberry.Private[UUID | None]
    budget: CreditBudget | None = one(
        billing.budget_by_id, key="budget_id", description="The budget of the experiment or the team as it is now; null for a study."
    )
    study: Study | None = one(
        study_queries.live_by_id, key="study_id", description="The study, whose `budget` has the limit; null for the others."
    )


SetBudgetResult = Annotated[
    SetBudgetPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("SetBudgetResult", description="The possible results of `setBudget`."),
]
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
        scope=Scope.BILLING,
        metadata=costs(PURCHASE),
        description="Begin to buy a package of credits: open `checkoutUrl` in a browser to pay. For a team, its ADMINs do. Without a payment provider"
        " (`TRELLIS_PAYMENT_PROVIDER`) this is UNSUPPORTED, and admins grant credits.",
    )
    async def purchase_credits(
        self, info: Info, input: Annotated[PurchaseCreditsInput, strawberry.argument(description="The package to buy, and for whom.")]
    ) -> PurchaseCreditsResult:
        new_purchase = purchases.NewPurchase(decode("package", input.package_id), owner_key(input.account_id), input.idempotency_key)
        purchased = await purchases.purchase(info.context.database, info.context.signed_in_viewer, new_purchase)
        return PurchaseCreditsPayload(transaction_id=purchased.transaction_id, checkout_url=purchased.checkout_url)

    @mutation(
        scope=Scope.BILLING,
        description="Limit what the jobs of an experiment, a team or a study may cost together. A job that would exceed it ends with INSUFFICIENT_CREDITS,"
        " and a study pauses. Of a team's things, its ADMINs set budgets.",
    )
    async def set_budget(
        self, info: Info, input: Annotated[SetBudgetInput, strawberry.argument(description="The budget to set.")]
    ) -> SetBudgetResult:
        prefix, key = parse(input.id) or ("", None)
        budget_id = study_id = None
        async with info.context.work() as work:
            if prefix == "study" and key is not None:
                if input.credits is None:
                    raise invalid("credits", message="The limit of a study can be changed, and not removed. Give a number.")
                study_id = key
                await changing.update(work, key, BudgetChange(max_credits=input.credits), "set_budget")
            elif prefix == "experiment" and key is not None:
                budget_id = await credit_budgets.set_for_experiment(work, key, input.credits)
            elif prefix == "user" and key is not None:
                budget_id = await credit_budgets.set_for_team(work, key, input.credits)
            else:
                raise IdNotFound(input.id)
        return SetBudgetPayload(budget_id=budget_id, study_id=study_id)

    @mutation(scope=Scope.ADMIN, description="Sell credits at a price; at most 100 packages. For admins.")
    async def create_credit_package(
        self, info: Info, input: Annotated[CreateCreditPackageInput, strawberry.argument(description="The package to sell.")]
    ) -> CreateCreditPackageResult:
        new_package = packages.NewPackage(
            input.name, input.credits, input.price_cents, input.currency, input.tier_restriction, input.external_price_id
        )
        async with info.context.work() as work:
            package_id = await packages.create(work, new_package)
        return CreateCreditPackagePayload(package_id=package_id)

    @mutation(scope=Scope.ADMIN, description="Change a package of credits, or sell it no more. For admins.")
    async def update_credit_package(
        self, info: Info, input: Annotated[UpdateCreditPackageInput, strawberry.argument(description="The changes.")]
    ) -> UpdateCreditPackageResult:
        async with info.context.work() as work:
            package_id = await packages.update(work, decode("package", input.id), input.changes())
        return UpdateCreditPackagePayload(package_id=package_id)

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
