"""Checks of a process for all requests: which documents may be executed, and how many points each viewer may spend in a minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Self

from graphql import GraphQLError
from redis.asyncio import Redis

from db.core.networks import client_network
from db.core.viewer import UserTier, Viewer
from db.limits.lent_points import LentPoints
from db.limits.token_buckets import TakeResult, TokenBuckets
from db.stores.redis import CircuitBreaker
from db.stores.registered_documents import RegisteredDocuments
from graph.core.rate_limit import RateLimitStatus, unlimited_status
from graph.execution.persisted_documents import PersistedDocuments, trusted_documents
from graph.settings import GraphSettings

CHARACTERS_PER_POINT = 500  # characters of a document that are validated for one point


class Gate:
    """One for each process. Without Redis, as in a script, it limits nothing."""

    def __init__(self, settings: GraphSettings, documents: PersistedDocuments, points: LentPoints | None) -> None:
        self.settings = settings
        self.documents = documents
        self._points = points
        self._rates = {
            UserTier.FREE: settings.rate_limit_free,
            UserTier.PRO: settings.rate_limit_pro,
            UserTier.ENTERPRISE: settings.rate_limit_enterprise,
        }

    @classmethod
    def of(cls, settings: GraphSettings, redis: Redis | None = None) -> Self:
        """Build the gate of a process. Raises `ValueError` for a file of trusted documents that cannot be used."""
        only_trusted = settings.documents == "trusted"
        breaker = CircuitBreaker()
        documents = PersistedDocuments(
            None if redis is None else RegisteredDocuments(redis, breaker),
            trusted_documents(settings.documents_file),
            only_trusted=only_trusted,
            max_bytes=settings.query_max_bytes,
        )
        return cls(settings, documents, None if redis is None else LentPoints(TokenBuckets(redis, breaker)))

    async def take_validation_points(self, viewer: Viewer | None, address: str | None, text: str) -> int:
        """Take the points for validating a document that was not seen before, and return how many. Raises as `take_points` does.

        Otherwise a client that sends only invalid documents would keep the process busy for free.
        """
        return (await self.take_points(viewer, address, 1 + len(text) // CHARACTERS_PER_POINT, is_part=True)).cost

    async def take_points(
        self,
        viewer: Viewer | None,
        address: str | None,
        cost: int,
        *,
        is_dry_run: bool = False,
        prepaid_points: int = 0,
        is_part: bool = False,
    ) -> RateLimitStatus:
        """Take the points from the bucket of the viewer or, where nobody is signed in, of the address. Raises a GraphQLError, RATE_LIMITED.

        An API key with a limit of its own has a bucket too, from which they are taken as well; the status is that of the one with fewer points
        left. A dry run takes one point. `prepaid_points` are subtracted. `is_part`: more are taken for the same request.
        """
        buckets = self._buckets(viewer, address)
        if self._points is None or not buckets:
            return unlimited_status(cost)
        points = max((1 if is_dry_run else cost) - prepaid_points, 0)
        tightest: TakeResult | None = None
        for position, (name, rate) in enumerate(buckets):
            result = await self._points.take(name, points, rate, is_part=is_part)
            if not result.ok:
                for taken_name, taken_rate in buckets[:position]:
                    self._points.give_back(taken_name, points, taken_rate)
                raise _rate_limited(cost, result.limit, result.remaining, ceil(result.retry_in))
            if tightest is None or result.remaining < tightest.remaining:
                tightest = result
        assert tightest is not None
        return RateLimitStatus(cost, tightest.limit, tightest.remaining, datetime.now(UTC) + timedelta(seconds=tightest.full_in))

    def _buckets(self, viewer: Viewer | None, address: str | None) -> list[tuple[str, int]]:
        """The buckets that a request takes points from, and the points that flow into each in a minute."""
        if viewer is None:
            rate = self.settings.rate_limit_anonymous
            return [(f"address:{client_network(address)}", rate)] if rate else []
        buckets: list[tuple[str, int]] = []
        if viewer.points_per_minute is not None and viewer.key_id is not None:
            buckets.append((f"key:{viewer.key_id.hex}", viewer.points_per_minute))
        if rate := self._rates[viewer.tier]:
            buckets.append((f"user:{viewer.id.hex}", rate))
        return buckets


def _rate_limited(cost: int, limit: int, remaining: int, seconds: int) -> GraphQLError:
    retry_after = max(seconds, 1)
    return GraphQLError(
        f"This operation costs {cost:,} points, and {remaining:,} are left of the {limit:,} that you may spend in a minute."
        f" Retry in {retry_after} s, or request less: shorter pages, fewer levels. `rateLimit` returns your remaining points.",
        extensions={"code": "RATE_LIMITED", "retryAfter": retry_after, "cost": cost, "limit": limit, "remaining": remaining},
    )
