"""The endings of mutations on credits."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.services import workers
from db.services.jobs import Claim, claim, complete  # by name: `jobs` is a module of this package
from tests.billing.stripe_stand_in import stand_in
from tests.endings import BAD_KEY, UNKNOWN, Endings, World, endings_of, key_of
from tests.endings.studies import CANCEL, LONG, create_of, inputs_of


@endings_of("grantCredits")
async def grant_credits(world: World) -> Endings:
    ada = (await world.ada.one("{ viewer { id } }"))["id"]
    world.sender = world.admin
    gift = {"userId": ada, "reason": "a gift"}
    yield "GrantCreditsPayload", {**gift, "amount": 5, "type": "ADJUSTMENT", "idempotencyKey": "once"}
    yield "GrantCreditsPayload", {**gift, "amount": 5, "type": "ADJUSTMENT", "idempotencyKey": "once"}
    yield "Conflict", {**gift, "amount": 6, "type": "ADJUSTMENT", "idempotencyKey": "once"}
    yield "NotFound", {**gift, "userId": f"user_{UNKNOWN}", "amount": 1}
    yield "InvalidInput", {**gift, "amount": -1, "type": "PURCHASE"}
    yield "InsufficientCredits", {**gift, "amount": -6}


@endings_of("refundJob")
async def refund_job(world: World) -> Endings:
    ada = key_of((await world.ada.one("{ viewer { id } }"))["id"])
    world.set_prices({"EXPORT": 3})
    grant = 'mutation($id: ID!) { grantCredits(input: {userId: $id, amount: 9, reason: "a gift"}) { __typename } }'
    await world.admin.one(grant, id=f"user_{ada.hex}")
    name = f"idle-{uuid4().hex[:8]}"
    job, waiting = await world.submit_job(), await world.submit_job()
    async with world.database.work(SYSTEM) as work:
        worker = await workers.register(work, name, ["nobody"], 1)
        claimed = await claim(work, key_of(job), worker, name, 60.0)
        assert claimed is not None
    async with world.database.work(SYSTEM) as work:
        await complete(work, Claim(claimed.id, claimed.attempt, worker))
    world.sender = world.admin
    yield "RefundJobPayload", {"jobId": job, "reason": "It was slow.", "amount": 2}
    yield "WrongState", {"jobId": job, "reason": "It was slow."}
    yield "WrongState", {"jobId": waiting, "reason": "It was slow."}
    yield "NotFound", {"jobId": f"job_{UNKNOWN}", "reason": "It was slow."}
    yield "InvalidInput", {"jobId": job, "reason": " "}


_PACKAGE = {"name": "Starter", "credits": 100, "priceCents": 1_000, "currency": "EUR"}
_CREATE = "mutation($input: CreateCreditPackageInput!) { createCreditPackage(input: $input) { ... on CreateCreditPackagePayload { package { id } } } }"


@endings_of("createCreditPackage")
async def create_credit_package(world: World) -> Endings:
    world.sender = world.admin
    yield "CreateCreditPackagePayload", _PACKAGE
    yield "NameTaken", _PACKAGE
    yield "InvalidInput", {**_PACKAGE, "credits": 0}
    async with world.database.work(SYSTEM) as work:
        await work.run(
            text(
                "INSERT INTO credit_packages (owner_id, name, credits, price_cents, currency, tier_restriction)"
                " SELECT owner_id, 'copy ' || i, 1, 1, 'EUR', 'none' FROM credit_packages, generate_series(1, 99) i"
            )
        )
    yield "QuotaExceeded", {**_PACKAGE, "name": "One too many"}


@endings_of("updateCreditPackage")
async def update_credit_package(world: World) -> Endings:
    package, _ = [(await world.admin.one(_CREATE, input={**_PACKAGE, "name": name}))["package"]["id"] for name in ("Starter", "Large")]
    world.sender = world.admin
    yield "UpdateCreditPackagePayload", {"id": package, "isActive": False}
    yield "NotFound", {"id": f"package_{UNKNOWN}", "isActive": False}
    yield "NameTaken", {"id": package, "name": "large"}
    yield "InvalidInput", {"id": package, "priceCents": 0}


@endings_of("purchaseCredits")
async def purchase_credits(world: World) -> Endings:
    package, other = [(await world.admin.one(_CREATE, input={**_PACKAGE, "name": name}))["package"]["id"] for name in ("Starter", "Large")]
    async with stand_in() as stripe:
        world.use_stripe(stripe)
        yield "PurchaseCreditsPayload", {"packageId": package, "idempotencyKey": "once"}
        yield "PurchaseCreditsPayload", {"packageId": package, "idempotencyKey": "once"}
        yield "Conflict", {"packageId": other, "idempotencyKey": "once"}
        yield "NotFound", {"packageId": f"package_{UNKNOWN}"}
        yield "InvalidInput", {"packageId": package, "idempotencyKey": BAD_KEY}
        stop = "mutation($id: ID!) { updateCreditPackage(input: {id: $id, isActive: false}) { __typename } }"
        await world.admin.one(stop, id=other)
        yield "WrongState", {"packageId": other}
        async with world.database.work(SYSTEM) as work:
            await work.run(
                text(
                    "INSERT INTO credit_purchases (owner_id, package_id, name, credits, price_cents, currency)"
                    " SELECT owner_id, package_id, name, credits, price_cents, currency FROM credit_purchases, generate_series(1, 20)"
                )
            )
        yield "QuotaExceeded", {"packageId": package}
        world.use_stripe(None)
        yield "Unsupported", {"packageId": package}


@endings_of("setBudget")
async def set_budget(world: World) -> Endings:
    create = 'mutation { createExperiment(input: {name: "bearings"}) { ... on CreateExperimentPayload { experiment { id } } } }'
    experiment = (await world.ada.one(create))["experiment"]["id"]
    yield "SetBudgetPayload", {"id": experiment, "credits": 9}
    yield "SetBudgetPayload", {"id": experiment, "credits": None}
    yield "InvalidInput", {"id": experiment, "credits": -1}
    yield "NotFound", {"id": f"experiment_{UNKNOWN}", "credits": 1}
    study = await create_of(world, await inputs_of(world), **LONG)
    yield "SetBudgetPayload", {"id": study, "credits": 9}
    yield "InvalidInput", {"id": study, "credits": None}
    await world.ada.one(CANCEL, id=study)
    yield "WrongState", {"id": study, "credits": 9}
