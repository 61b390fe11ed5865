"""The cost of an operation in points, and the points that its viewer has left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

UNLIMITED = 2**31 - 1  # `limit` and `remaining` where there is no limit: the largest Int of GraphQL


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """The cost of an operation, and its viewer's token bucket after it."""

    cost: int
    limit: int
    remaining: int
    reset_at: datetime


def unlimited_status(cost: int) -> RateLimitStatus:
    """Return the status of a viewer without a limit."""
    return RateLimitStatus(cost, UNLIMITED, UNLIMITED, datetime.now(UTC))
