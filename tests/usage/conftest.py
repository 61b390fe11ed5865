"""Batches of requests as the API makes them, and what the API then says of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from db.services.usage import OperationNames, RequestRecord, UsageBatch
from tests.client import Client

USAGE = """
query($since: DateTime!, $until: DateTime!, $granularity: UsageGranularity! = DAY, $key: ID, $name: String) {
  apiUsage(since: $since, until: $until, granularity: $granularity, apiKeyId: $key, operationName: $name) {
    periodStart requests errors errorRate requestsPerSecond meanDuration p50 p95 p99 cost
    operations { operationName requests errors meanDuration p95 }
  }
}
"""


@dataclass(frozen=True)
class Counts:
    """The sums of all periods, and of each operation name."""

    requests: int
    errors: int
    cost: int
    operations: dict[str | None, tuple[int, int]]


async def usage_of(client: Client, **variables: Any) -> list[dict[str, Any]]:
    """Return the periods around now: of yesterday and today by default, so that no test depends on the time of day."""
    now = datetime.now(UTC)
    window = {"since": (now - timedelta(days=1)).isoformat(), "until": (now + timedelta(minutes=1)).isoformat()}
    return await client.one(USAGE, **{**window, **variables})


async def counts_of(client: Client, **variables: Any) -> Counts:
    """Return the sums of the periods around now."""
    periods = await usage_of(client, **variables)
    operations: dict[str | None, tuple[int, int]] = {}
    for operation in (operation for period in periods for operation in period["operations"]):
        requests, errors = operations.get(operation["operationName"], (0, 0))
        operations[operation["operationName"]] = requests + operation["requests"], errors + operation["errors"]
    requests, errors, cost = (sum(period[name] for period in periods) for name in ("requests", "errors", "cost"))
    return Counts(requests, errors, cost, operations)


def record(user_id: UUID | None, duration: float = 0.01, **changes: Any) -> RequestRecord:
    """Return a request that has just ended without errors."""
    plain = RequestRecord(time.time(), user_id, None, None, "Read", "query", 2, duration, None, 100, 1000, "192.0.2.1", "curl", duration)
    return plain._replace(**changes)


def batch(records: Iterable[RequestRecord]) -> UsageBatch:
    """Return a batch of these requests."""
    made, names = UsageBatch(), OperationNames()
    for each in records:
        made.add(each, names, keeps_record=True)
    return made
