"""What stands between a request and the graph: which documents are run, and how much each viewer may spend in a minute."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Self

from graphql import GraphQLError
from redis.asyncio import Redis

from db.core.viewer import UserTier, Viewer
from db.stores.buckets import Buckets
from db.stores.patience import Patience
from db.stores.registered import RegisteredDocuments
from graph.core.persisted import Persisted, trusted_documents
from graph.settings import GraphSettings

CHARACTERS = 500  # of a document, that are looked at for a point
UNLIMITED = 2**31 - 1  # what `limit` and `remaining` say where there is no limit: the largest Int of GraphQL


@dataclass(frozen=True, slots=True)
class Spent:
    """What an operation cost, and how its viewer's bucket stands after it."""

    cost: int
    limit: int
    remaining: int
    reset_at: datetime


def unlimited(cost: int) -> Spent:
    """Where there is no limit."""
    return Spent(cost, UNLIMITED, UNLIMITED, datetime.now(UTC))


class Gate:
    """One a process. Without Redis, as in a script, it counts nothing."""

    def __init__(self, settings: GraphSettings, documents: Persisted, buckets: Buckets | None) -> None:
        self.settings = settings
        self.documents = documents
        self._buckets = buckets
        self._rates = {
            UserTier.FREE: settings.rate_limit_free,
            UserTier.PRO: settings.rate_limit_pro,
            UserTier.ENTERPRISE: settings.rate_limit_enterprise,
        }

    @classmethod
    def of(cls, settings: GraphSettings, redis: Redis | None = None) -> Self:
        """Raises `ValueError` for a file of trusted documents that cannot be used."""
        only_trusted = settings.documents == "trusted"
        if only_trusted and settings.documents_file is None:
            raise ValueError("TRELLIS_DOCUMENTS is `trusted`, so TRELLIS_DOCUMENTS_FILE must name the file of trusted documents.")
        patience = Patience()
        documents = Persisted(
            None if redis is None else RegisteredDocuments(redis, patience),
            trusted_documents(settings.documents_file),
            only_trusted=only_trusted,
            longest=settings.query_max_bytes,
        )
        return cls(settings, documents, None if redis is None else Buckets(redis, patience))

    async def admit(self, viewer: Viewer | None, address: str | None, text: str) -> int:
        """Take what looking at a document costs that was not looked at before: how many points. Raises as `spend` does.

        Otherwise whoever sends nothing but documents that are refused would keep the process busy for nothing.
        """
        return (await self.spend(viewer, address, 1 + len(text) // CHARACTERS)).cost

    async def spend(self, viewer: Viewer | None, address: str | None, cost: int, *, dry: bool = False, paid: int = 0) -> Spent:
        """Take the points from the bucket of the viewer or, where nobody is signed in, of the address. Raises a GraphQLError, RATE_LIMITED.

        A dry run takes one. What was `paid` to be looked at counts.
        """
        rate = self.settings.rate_limit_anonymous if viewer is None else self._rates[viewer.tier]
        if rate == 0 or self._buckets is None:
            return unlimited(cost)
        name = f"address:{_network(address)}" if viewer is None else f"user:{viewer.id.hex}"
        taken = await self._buckets.take(name, max((1 if dry else cost) - paid, 0), rate)
        if not taken.ok:
            raise _rate_limited(cost, taken.limit, taken.remaining, ceil(taken.retry_in))
        return Spent(cost, taken.limit, taken.remaining, datetime.now(UTC) + timedelta(seconds=taken.full_in))


def _network(address: str | None) -> str:
    """One household's addresses: of IPv6 the first 64 bits, which one client may vary the rest of."""
    try:
        found = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False).network_address)
    return str(getattr(found, "ipv4_mapped", None) or found)


def _rate_limited(cost: int, limit: int, remaining: int, seconds: int) -> GraphQLError:
    wait = max(seconds, 1)
    return GraphQLError(
        f"This operation costs {cost:,} points, and {remaining:,} are left of the {limit:,} that you may spend in a minute."
        f" Try again in {wait} s, or ask for less: shorter pages, fewer levels. `rateLimit` tells how you stand.",
        extensions={"code": "RATE_LIMITED", "retryAfter": wait, "cost": cost, "limit": limit, "remaining": remaining},
    )
