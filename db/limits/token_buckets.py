"""Token buckets by the generic cell rate algorithm (GCRA), which stores one number a bucket.

The number is the time at which the bucket will be full again, by Redis's clock, so that all processes agree. A bucket's capacity is what
flows in within its window, by default a minute. Source: ITU-T I.371; the same form as in throttled and redis-cell.
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
MINUTE = 60.0  # seconds
MAX_LOCAL_BUCKETS = 10_000  # kept by a process while Redis is unavailable

# KEYS: the bucket. ARGV: points, points a window, microseconds of the window. Negative points flow back into the bucket.
# Returns: taken (0 or 1), microseconds until the bucket is full, microseconds to wait.
_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
local after = math.max(full + ARGV[1] * ARGV[3] / ARGV[2], now)
if ARGV[1] == '0' then return {1, full - now, 0} end
if after - now > tonumber(ARGV[3]) then return {0, full - now, math.ceil(after - now - ARGV[3])} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1000)
return {1, math.ceil(after - now), 0}
"""


@dataclass(frozen=True, slots=True)
class TakeResult:
    """`ok` if the points were taken; `remaining` of `limit`; seconds until the bucket is full, and until a retry can succeed."""

    ok: bool
    limit: int
    remaining: int
    full_in: float
    retry_in: float


class TokenBuckets:
    """Buckets by name, in Redis. While it is unavailable: in this process, at half the rate, since other processes grant points too."""

    def __init__(self, redis: Redis, breaker: CircuitBreaker) -> None:
        script: Any = redis.register_script(_TAKE)  # pyright: ignore[reportUnknownMemberType] - redis types its scripts thinly
        self._script = script
        self._breaker = breaker
        self._local: OrderedDict[str, float] = OrderedDict()

    async def take(self, name: str, points: int, limit: int, window: float = MINUTE) -> TakeResult:
        """Take points of the `limit` that flow in within `window` seconds, if available; 0 points only read the state.

        Larger amounts are capped at a full bucket, else they could never be granted. Negative points return what was taken before.
        """
        points, window_us = min(points, limit), int(window * 1e6)
        try:
            ok, full_in, retry_in = await self._breaker.call(lambda: self._script(keys=[PREFIX + name], args=[points, limit, window_us]))
        except RedisUnavailable:
            limit = max(limit // 2, 1)
            ok, full_in, retry_in = self._take_locally(name, min(points, limit), limit, window_us)
        remaining = max(int((window_us - full_in) * limit / window_us), 0)
        return TakeResult(bool(ok), limit, remaining, full_in / 1e6, retry_in / 1e6)

    def _take_locally(self, name: str, points: int, limit: int, window_us: int) -> tuple[bool, int, int]:
        now = time.monotonic() * 1e6
        full_at = max(self._local.get(name, now), now)
        full_at_after = max(full_at + points * window_us / limit, now)
        if full_at_after - now > window_us and points:
            return False, ceil(full_at - now), ceil(full_at_after - now - window_us)
        self._local[name] = full_at_after
        self._local.move_to_end(name)
        if len(self._local) > MAX_LOCAL_BUCKETS:
            self._local.popitem(last=False)
        return True, ceil(full_at_after - now), 0
