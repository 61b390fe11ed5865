"""Many jobs are cancelled at once: named ones, or those that meet a filter."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from db.services.jobs import cancelling
from tests.client import Client
from tests.factories import platform

CANCEL = """mutation($input: CancelJobsInput!) { cancelJobs(input: $input) { __typename
  ... on CancelJobsPayload { cancelledCount cancellingCount remainingCount unchanged { jobId status } } } }"""


async def statuses(client: Client) -> dict[str, str]:
    page = await client.one("{ jobs(first: 100) { edges { node { id status } } } }")
    return {edge["node"]["id"]: edge["node"]["status"] for edge in page["edges"]}


@pytest.fixture
async def jobs(ada: Client, database: Database) -> dict[str, str]:
    """Ada's jobs in every state."""
    await platform.fill(database, "ada", 2)
    await platform.add_states(database, "ada")
    return await statuses(ada)


def with_status(jobs: dict[str, str], *wanted: str) -> list[str]:
    return [job for job, status in jobs.items() if status in wanted]


def result(cancelled: int, cancelling: int, unchanged: list[dict[str, Any]], remaining: int = 0) -> dict[str, Any]:
    counts = {"cancelledCount": cancelled, "cancellingCount": cancelling, "remainingCount": remaining}
    return {"__typename": "CancelJobsPayload", **counts, "unchanged": unchanged}


async def test_named_jobs_are_cancelled_and_the_others_are_told(ada: Client, bob: Client, jobs: dict[str, str], database: Database) -> None:
    waiting, running = with_status(jobs, "PENDING", "QUEUED"), with_status(jobs, "RUNNING")
    ended = with_status(jobs, "COMPLETED")[0]
    unknown = "job_" + "0" * 32
    ids = [unknown, *waiting, *running, ended, ended]
    assert len(waiting) >= 2
    assert running
    assert await bob.one(CANCEL, input={"ids": ids}) == result(0, 0, [{"jobId": id_, "status": None} for id_ in dict.fromkeys(ids)])
    assert await statuses(ada) == jobs
    expected = [{"jobId": unknown, "status": None}, {"jobId": ended, "status": "COMPLETED"}]
    assert await ada.one(CANCEL, input={"ids": ids}) == result(len(waiting), len(running), expected)
    now = {**jobs, **dict.fromkeys(waiting, "CANCELLED"), **dict.fromkeys(running, "CANCELLING")}
    assert await statuses(ada) == now
    again = await ada.one(CANCEL, input={"ids": ids})
    assert again == result(0, 0, [{"jobId": id_, "status": now.get(id_)} for id_ in dict.fromkeys(ids)])
    events = await database.rows(text("SELECT count(*) FROM audit_events WHERE action = 'cancel_job'"))
    assert events[0][0] == len(waiting) + len(running)


async def test_a_filter_cancels_what_it_finds_in_parts(
    ada: Client, bob: Client, jobs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "MAX_JOBS", 2)
    left = len(with_status(jobs, "PENDING", "QUEUED", "RUNNING"))
    assert left > 2
    assert await bob.one(CANCEL, input={"filter": {}}) == result(0, 0, [])
    assert await ada.one(CANCEL, input={"filter": {"status": ["COMPLETED", "CANCELLING"]}}) == result(0, 0, [])
    assert await statuses(ada) == jobs
    while left:
        part = await ada.one(CANCEL, input={"filter": {}})
        assert part["cancelledCount"] + part["cancellingCount"] == min(2, left)
        left -= min(2, left)
        assert part["remainingCount"] == left
    changed = {"PENDING": "CANCELLED", "QUEUED": "CANCELLED", "RUNNING": "CANCELLING"}
    assert await statuses(ada) == {job: changed.get(status, status) for job, status in jobs.items()}
