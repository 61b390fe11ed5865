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

from db.stores.patience import Away, Patience

PREFIX = "trellis:bucket:"
MINUTE = 60_000_000  # microseconds, in which all of this is reckoned
KEPT = 10_000  # buckets that a process keeps while Redis is away

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
class Taken:
    """How it went: whether the points were there, how many are left of `limit`, and in how many seconds it will be full, or to try again."""

    ok: bool
    limit: int
    remaining: int
    full_in: float
    retry_in: float


class Buckets:
    """Buckets by name, in Redis; while it is away, in this process, where they fill half as fast: it cannot know what others give out."""

    def __init__(self, redis: Redis, patience: Patience) -> None:
        script: Any = redis.register_script(_TAKE)  # pyright: ignore[reportUnknownMemberType] - redis types its scripts thinly
        self._script = script
        self._patience = patience
        self._here: OrderedDict[str, float] = OrderedDict()

    async def take(self, name: str, points: int, a_minute: int) -> Taken:
        """Take points if they are there; 0 points only look. More than a whole bucket's are taken for a whole bucket's, or they never were."""
        points = min(points, a_minute)
        try:
            ok, full_in, retry_in = await self._patience.ask(lambda: self._script(keys=[PREFIX + name], args=[points, a_minute]))
        except Away:
            a_minute = max(a_minute // 2, 1)
            ok, full_in, retry_in = self._take_here(name, min(points, a_minute), a_minute)
        remaining = max(int((MINUTE - full_in) * a_minute / MINUTE), 0)
        return Taken(bool(ok), a_minute, remaining, full_in / 1e6, retry_in / 1e6)

    def _take_here(self, name: str, points: int, a_minute: int) -> tuple[bool, int, int]:
        now = time.monotonic() * 1e6
        full = max(self._here.get(name, now), now)
        after = full + points * MINUTE / a_minute
        if after - now > MINUTE and points:
            return False, ceil(full - now), ceil(after - now - MINUTE)
        self._here[name] = after
        self._here.move_to_end(name)
        if len(self._here) > KEPT:
            self._here.popitem(last=False)
        return True, ceil(after - now), 0
