"""A version is profiled again by the profiler of the workers' release; what an older one computed stays where it is referred to."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.tables import DatasetProfile
from tests.client import Client

FIELDS = "id profilerVersion isExact rowCount duplicateRowCount missingCellRatio correlations columns { name type mean quantiles topValues { value count } }"
PROFILE = (
    f"query($id: ID!) {{ node(id: $id) {{ ... on DatasetVersion {{ profile {{ {FIELDS} }} }} ... on DatasetProfile {{ {FIELDS} }} }} }}"
)
AGAIN = """mutation($id: ID!, $key: String) { profileVersion(input: {datasetVersionId: $id, idempotencyKey: $key}) { __typename
  ... on ProfileVersionPayload { job { id kind queue } } ... on Problem { code } } }"""
JOB = """query($id: ID!) { job(id: $id) { status result nodes { key status output } datasetVersion { id }
  outputs { __typename ... on DatasetProfile { id profilerVersion } } } }"""


async def profile(client: Client, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Have the version profiled; return the job, and the profile that it shows."""
    job = (await client.one(AGAIN, id=version))["job"]
    assert (job["kind"], job["queue"]) == ("PROFILE", "upload")
    await client.wait(job["id"])
    return await client.one(JOB, id=job["id"]), (await client.one(PROFILE, id=version))["profile"]


async def test_a_newer_profiler_adds_its_profile_and_the_same_one_adds_none(
    ada: Client, bob: Client, database: Database, worker: object
) -> None:
    version = await ada.ingest("d", "x,y,c\n1,2,a\n3,,b\n3,4,b\n3,4,b\n")
    (first,) = (await ada.one(PROFILE, id=version)).values()
    job, shown = await profile(ada, version)
    assert (job["status"], job["result"], job["outputs"], shown) == ("COMPLETED", {"profilerVersion": "1", "isNew": False}, [], first)

    async with database.work(SYSTEM) as work:  # as if the version had been read by an older release
        changed = {"profiler_version": "0", "duplicate_row_count": 7}
        await work.run(update(DatasetProfile).where(DatasetProfile.id == UUID(first["id"].removeprefix("profile_"))).values(changed))
    job, shown = await profile(ada, version)
    assert (job["status"], job["result"], job["datasetVersion"]) == ("COMPLETED", {"profilerVersion": "1", "isNew": True}, {"id": version})
    assert job["outputs"] == [{"__typename": "DatasetProfile", "id": shown["id"], "profilerVersion": "1"}]
    assert [(node["key"], node["status"]) for node in job["nodes"]] == [(key, "COMPLETED") for key in ("fetch", "profile", "store")]
    assert shown["id"] != first["id"]
    assert {**shown, "id": first["id"]} == first
    older = await ada.one(PROFILE, id=first["id"])
    assert older == {**first, "profilerVersion": "0", "duplicateRowCount": 7}

    assert (await bob.one(AGAIN, id=version)) == {"__typename": "NotFound", "code": "NOT_FOUND"}
    one, two = [await ada.one(AGAIN, id=version, key="k") for _ in range(2)]
    assert one == two
    await ada.wait(one["job"]["id"])
    assert await database.rows(select(func.count()).select_from(DatasetProfile)) == [(2,)]
