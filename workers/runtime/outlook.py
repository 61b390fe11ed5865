"""How long a job will still take, from how fast its progress moves."""

from __future__ import annotations

from collections import deque

SECONDS = 3.0  # with less to go by, nothing is said
PERCENT = 5.0
LEAP, AT_ONCE = 10.0, 1.0  # so much progress in so little time was not made but found: work that an earlier attempt had done
RECENT = 0.3  # share of the time so far whose speed counts as the present one
KEPT = 200


class Outlook:
    """Told of progress in percent of the whole, weighted by expected cost, and of the time, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._past: deque[tuple[float, float]] = deque(maxlen=KEPT)
        self._begun: tuple[float, float] | None = None
        self._every = 0.0

    def progress(self, now: float, percent: float) -> None:
        """It stands at `percent` now. Falling progress is not listened to."""
        before = self._past[-1] if self._past else None
        if before is not None and percent <= before[1]:
            return
        if self._begun is None or (before is not None and percent - before[1] > LEAP and now - before[0] < AT_ONCE):
            self._past.clear()
            self._begun = (now, percent)
        elif len(self._past) > 1 and now - self._past[-2][0] < self._every:
            self._past.pop()  # the newest is always kept, those before it at some distance
        elif len(self._past) == KEPT:
            self._every = (now - self._begun[0]) / KEPT * 2
            thinned = list(self._past)[::2]
            self._past.clear()
            self._past.extend(thinned)
        self._past.append((now, percent))

    def left(self, now: float) -> float | None:
        """Seconds; None while there is too little to go by.

        The speed is the mean of that of all the time and that of the last part of it: steps differ, and no step is all of the future.
        """
        if self._begun is None:
            return None
        since, start = self._begun
        percent = self._past[-1][1]
        taken, made = now - since, percent - start
        if taken < SECONDS or made < PERCENT:
            return None
        recently = now - RECENT * taken
        at, then = next((point for point in reversed(self._past) if point[0] <= recently), self._begun)
        speed = (made / taken + (percent - then) / (now - at)) / 2
        return (100.0 - percent) / speed
