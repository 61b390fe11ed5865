"""A tier sets the storage quota, the highest priority of a job, the points a minute and how many jobs run at once.

Points: tests/graph/test_rate_limit.py. Running jobs: tests/jobs/test_concurrency_limits.py.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from db.core.viewer import SYSTEM, UserTier
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings, state_settings
from tests.client import Client
from tests.datasets.test_quota import request_upload

ADA = "ada@example.org"
STORAGE = "{ viewer { storage { usedBytes pendingBytes quotaBytes } } }"
RETRY = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on RetryJobPayload { job { priority } } } }"
CSV = "x,label\n" + "".join(f"{i},{'a' if i % 3 else 'b'}\n" for i in range(30))


async def set_tier(database: Database, tier: UserTier) -> None:
    async with database.work(SYSTEM) as work:
        await accounts.set_tier(work, ADA, tier)


async def test_the_tier_or_an_admin_sets_the_quota(ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_settings(), "storage_quota_bytes", 50)
    monkeypatch.setattr(state_settings(), "storage_quotas", {"pro": 100, "enterprise": 0})
    dataset = await ada.create_dataset("d")
    pending = 0

    async def expect(quota: int | None, size: int, *, fits: bool) -> None:
        nonlocal pending
        assert await ada.one(STORAGE) == {"storage": {"usedBytes": 0, "pendingBytes": pending, "quotaBytes": quota}}
        answer = await request_upload(ada, dataset, size)
        if fits:
            assert answer["__typename"] == "RequestUploadPayload"
            pending += size
        else:
            assert (answer["code"], answer["limit"], answer["used"]) == ("QUOTA_EXCEEDED", quota, pending)

    await expect(50, 51, fits=False)
    await expect(50, 50, fits=True)
    await set_tier(database, UserTier.PRO)
    await expect(100, 51, fits=False)
    await expect(100, 50, fits=True)
    await set_tier(database, UserTier.ENTERPRISE)
    await expect(None, 900, fits=True)
    for own, size, fits in ((1_001, 2, False), (1_001, 1, True), (0, 1, False)):
        async with database.work(SYSTEM) as work:
            await accounts.set_quota(work, ADA, own)
        await expect(own, size, fits=fits)
    async with database.work(SYSTEM) as work:
        await accounts.set_quota(work, ADA, None)
    await expect(None, 1, fits=True)


@pytest.mark.exhaustive
async def test_the_tier_sets_the_highest_priority(
    ada: Client, admin: Client, database: Database, worker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "priority_limits", {"free": 6, "pro": 8})
    version = await ada.ingest("d", CSV, targetColumn="label", problemType="CLASSIFICATION")
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("train", "train_random_forest", {"target": "label"})))["pipeline"]

    async def run(client: Client, priority: int) -> dict[str, Any]:
        return await client.run_pipeline(pipeline["id"], version, priority=priority)

    for client in (ada, admin):  # the tier of the owner counts, whoever submits the job
        refused = await run(client, 7)
        assert refused["issues"] == [{"path": ["priority"], "message": "The priority is 7; jobs of the tier FREE have at most 6."}]
    assert (await run(ada, 11))["issues"][0]["message"] == "The priority is 11; it goes from 1, the least urgent, to 6."
    assert (await run(ada, 6))["__typename"] == "RunPipelinePayload"
    await set_tier(database, UserTier.PRO)
    assert (await run(ada, 9))["issues"][0]["path"] == ["priority"]
    job = (await run(ada, 8))["job"]["id"]
    await ada.wait(job)
    await set_tier(database, UserTier.FREE)
    assert await ada.one(RETRY, id=job) == {"__typename": "RetryJobPayload", "job": {"priority": 6}}
    await set_tier(database, UserTier.ENTERPRISE)
    assert await ada.one(RETRY, id=job) == {"__typename": "RetryJobPayload", "job": {"priority": 8}}
    assert (await run(ada, 10))["__typename"] == "RunPipelinePayload"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("storage_quotas", {"gold": 1}, "There is no tier 'gold'. The tiers are free, pro, enterprise."),
        ("storage_quotas", {"pro": -1}, "greater than or equal to 0"),
        ("priority_limits", {"gold": 5}, "There is no tier 'gold'. The tiers are free, pro, enterprise."),
        ("priority_limits", {"free": 4}, "greater than or equal to 5"),
        ("priority_limits", {"free": 11}, "less than or equal to 10"),
    ],
)
def test_a_limit_that_cannot_be_is_refused(name: str, value: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StateSettings(**{name: value})  # pyright: ignore[reportArgumentType] - invalid on purpose
    assert complaint in str(caught.value)
