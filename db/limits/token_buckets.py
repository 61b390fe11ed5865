"""Buckets of points that fill evenly: the generic cell rate algorithm, which needs one number a bucket.

That number is the moment at which the bucket will be full again, on Redis's own clock, so that every process agrees. A bucket holds what
flows into it in a minute. Source: ITU-T I.371, as B. Fitzpatrick's `throttled` and brandur's redis-cell put it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import Any

from redis.asyncio import Redis

from db.stores.redis import CircuitBreaker, RedisUnavailable

PREFIX = "trellis:bucket:"
MINUTE_US = 60_000_000  # microseconds, in which all of this is reckoned
MAX_LOCAL_BUCKETS = 10_000  # buckets that a process keeps while Redis is away

# KEYS: the bucket. ARGV: points, points a minute. Answers: taken (0 or 1), microseconds until it would be full, microseconds to wait.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
local after = full + ARGV[1] * 60000000 / ARGV[2]
if ARGV[1] == '0' then return {1, full - now, 0} end
if after - now > 60000000 then return {0, full - now, math.ceil(after - now - 60000000)} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1000)
return {1, math.ceil(after - now), 0}
"""


@dataclass(frozen=True, slots=True)
class TakeResult:
    """How it went: whether the points were there, how many are left of `limit`, and in how many seconds it will be full, or to try again."""

    ok: bool
    limit: int
    remaining: int
    full_in: float
    retry_in: float


class TokenBuckets:
    """Buckets by name, in Redis; while it is away, in this process, where they fill half as fast: it cannot know what others give out."""

    def __init__(self, redis: Redis, breaker: CircuitBreaker) -> None:
        script: Any = redis.register_script(_TAKE)  # pyright: ignore[reportUnknownMemberType] - redis types its scripts thinly
        self._script = script
        self._breaker = breaker
        self._local: OrderedDict[str, float] = OrderedDict()

    async def take(self, name: str, points: int, per_minute: int) -> TakeResult:
        """Take points if they are there; 0 points only look. More than a whole bucket's are taken for a whole bucket's, or they never were."""
        points = min(points, per_minute)
        try:
            ok, full_in, retry_in = await self._breaker.call(lambda: self._script(keys=[PREFIX + name], args=[points, per_minute]))
        except RedisUnavailable:
            per_minute = max(per_minute // 2, 1)
            ok, full_in, retry_in = self._take_locally(name, min(points, per_minute), per_minute)
        remaining = max(int((MINUTE_US - full_in) * per_minute / MINUTE_US), 0)
        return TakeResult(bool(ok), per_minute, remaining, full_in / 1e6, retry_in / 1e6)

    def _take_locally(self, name: str, points: int, per_minute: int) -> tuple[bool, int, int]:
        now = time.monotonic() * 1e6
        full_at = max(self._local.get(name, now), now)
        full_at_after = full_at + points * MINUTE_US / per_minute
        if full_at_after - now > MINUTE_US and points:
            return False, ceil(full_at - now), ceil(full_at_after - now - MINUTE_US)
        self._local[name] = full_at_after
        self._local.move_to_end(name)
        if len(self._local) > MAX_LOCAL_BUCKETS:
            self._local.popitem(last=False)
        return True, ceil(full_at_after - now), 0
