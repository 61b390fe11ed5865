"""Points of a minute's budget, most of them without a command to Redis.

A process lends a viewer at most 5 % of the bucket, as long as the state that it read within the last second has them, and takes what it has
lent with the next points for which it must ask. A viewer may so overspend by at most that much for each process, until the bucket is asked.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from db.limits.token_buckets import MINUTE, TakeResult, TokenBuckets

MAX_BUCKETS = 10_000  # kept by a process
MAX_AGE_US = 1_000_000  # for which a process lends by the state that it read
MINUTE_US = int(MINUTE * 1e6)
# What is lent is at most 5 % of the bucket. The last fifth of it is for points that are taken before the cost of their request is known.
LENT_SHARE, LENT_SHARE_WITH_PARTS = 25, 20


@dataclass(slots=True)
class _Bucket:
    """What a process knows of a bucket: when it is full by the state last read, and the points that it has lent and not yet taken.

    `settling` are being taken by a command whose reply is awaited. Both are negative where more was given back. Times are in microseconds of the
    monotonic clock.
    """

    full_at: int = 0
    read_at: int = -MAX_AGE_US
    lent: int = 0
    settling: int = 0

    def full_in(self, now: int, per_minute: int) -> float:
        return max(max(self.full_at - now, 0) + (self.lent + self.settling) * MINUTE_US / per_minute, 0)


class LentPoints:
    """Takes points from the buckets of viewers."""

    def __init__(self, buckets: TokenBuckets) -> None:
        self._buckets = buckets
        self._known: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    async def take(self, name: str, points: int, per_minute: int, *, is_part: bool = False) -> TakeResult:
        """As `TokenBuckets.take`. `is_part`: the rest is taken for the same request later, and these with it, so that Redis is asked once."""
        bucket, now = self._bucket(name), time.monotonic_ns() // 1_000
        if _may_lend(bucket, points, per_minute, now, is_part=is_part):
            bucket.lent += points
            return _result(bucket, per_minute, now)
        settled, bucket.lent = bucket.lent, 0
        bucket.settling += settled
        is_settled = False
        try:
            result = await self._buckets.take(name, points + settled, per_minute)
            is_settled = result.ok
        finally:
            bucket.settling -= settled
            if not is_settled:
                bucket.lent += settled
        if result.limit != per_minute:  # Redis is unavailable
            return result
        bucket.read_at = now = time.monotonic_ns() // 1_000
        bucket.full_at = now + round(result.full_in * 1e6)
        return result if result.ok and not bucket.lent else _result(bucket, per_minute, now, ok=result.ok, retry_in=result.retry_in)

    def give_back(self, name: str, points: int, per_minute: int) -> None:
        """Return points that were taken for a request which was then refused; the bucket has them with the next command to Redis."""
        self._bucket(name).lent -= min(points, per_minute)

    def _bucket(self, name: str) -> _Bucket:
        bucket = self._known.get(name)
        if bucket is None:
            bucket = self._known[name] = _Bucket()
            if len(self._known) > MAX_BUCKETS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(name)
        return bucket


def _may_lend(bucket: _Bucket, points: int, per_minute: int, now: int, *, is_part: bool) -> bool:
    lent = bucket.lent + bucket.settling + points
    if lent > per_minute // (LENT_SHARE_WITH_PARTS if is_part else LENT_SHARE):
        return False
    if bucket.full_in(now, per_minute) + points * MINUTE_US / per_minute > MINUTE_US:
        return False
    return is_part or now - bucket.read_at <= MAX_AGE_US


def _result(bucket: _Bucket, per_minute: int, now: int, *, ok: bool = True, retry_in: float = 0.0) -> TakeResult:
    full_in = bucket.full_in(now, per_minute)
    remaining = max(int((MINUTE_US - full_in) * per_minute / MINUTE_US), 0)
    return TakeResult(ok, per_minute, remaining, full_in / 1e6, retry_in)
