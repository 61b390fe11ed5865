"""The endings of mutations on credits."""

from __future__ import annotations

from uuid import uuid4

from db.core.viewer import SYSTEM
from db.services import workers
from db.services.jobs import Claim, claim, complete  # by name: `jobs` is a module of this package
from tests.endings import UNKNOWN, Endings, World, endings_of, key_of


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
