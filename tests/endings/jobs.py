"""The endings of mutations on jobs."""

from __future__ import annotations

from tests.endings import BAD_KEY, CSV, UNKNOWN, Endings, World, endings_of

CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"


@endings_of("cancelJob")
async def cancel_job(world: World) -> Endings:
    yield "CancelJobPayload", {"id": await world.submit_job()}
    yield "NotFound", {"id": f"job_{UNKNOWN}"}
    _, ingest = await world.ada.upload(await world.ada.create_dataset("d"), "d.csv", CSV)
    assert (await world.ada.wait(ingest))["status"] == "COMPLETED"
    yield "WrongState", {"id": ingest}


@endings_of("cancelJobs")
async def cancel_jobs(world: World) -> Endings:
    yield "CancelJobsPayload", {"ids": [await world.submit_job(), f"job_{UNKNOWN}"]}
    yield "InvalidInput", {"ids": []}
    yield "InvalidInput", {"ids": [f"job_{UNKNOWN}"], "filter": {}}


@endings_of("retryJob")
async def retry_job(world: World) -> Endings:
    waiting, cancelled = await world.submit_job(), await world.submit_job()
    assert await world.ada.one(CANCEL, id=cancelled) == {"__typename": "CancelJobPayload"}
    yield "RetryJobPayload", {"id": cancelled, "idempotencyKey": "k"}
    yield "Conflict", {"id": waiting, "idempotencyKey": "k"}
    yield "NotFound", {"id": f"job_{UNKNOWN}"}
    yield "InvalidInput", {"id": cancelled, "idempotencyKey": BAD_KEY}
    yield "WrongState", {"id": waiting}
    version, _ = await world.ada.upload(await world.ada.create_dataset("d"), "d.csv", CSV)
    assert version
    world.set_quota(1)
    yield "QuotaExceeded", {"id": cancelled}
    world.set_quota(None)
    world.set_prices({"EXPORT": 10})
    yield "InsufficientCredits", {"id": cancelled}
