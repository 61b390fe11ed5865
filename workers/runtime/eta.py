"""How long a job will still take, from how fast its progress moves."""

from __future__ import annotations

from collections import deque

MIN_SECONDS = 3.0  # with less to go by, nothing is said
MIN_PERCENT = 5.0
JUMP_PERCENT, JUMP_SECONDS = 10.0, 1.0  # so much progress in so little time was not made but found: work that an earlier attempt had done
RECENT_SHARE = 0.3  # share of the time so far whose speed counts as the present one
MAX_SAMPLES = 200


class EtaEstimator:
    """Told of progress in percent of the whole, weighted by expected cost, and of the time, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)
        self._start: tuple[float, float] | None = None
        self._min_spacing = 0.0

    def update(self, now: float, percent: float) -> None:
        """It stands at `percent` now. Falling progress is not listened to."""
        last = self._samples[-1] if self._samples else None
        if last is not None and percent <= last[1]:
            return
        if self._start is None or (last is not None and percent - last[1] > JUMP_PERCENT and now - last[0] < JUMP_SECONDS):
            self._samples.clear()
            self._start = (now, percent)
        elif len(self._samples) > 1 and now - self._samples[-2][0] < self._min_spacing:
            self._samples.pop()  # the newest is always kept, those before it at some distance
        elif len(self._samples) == MAX_SAMPLES:
            self._min_spacing = (now - self._start[0]) / MAX_SAMPLES * 2
            thinned = list(self._samples)[::2]
            self._samples.clear()
            self._samples.extend(thinned)
        self._samples.append((now, percent))

    def seconds_left(self, now: float) -> float | None:
        """Seconds; None while there is too little to go by.

        The speed is the mean of that of all the time and that of the last part of it: steps differ, and no step is all of the future.
        """
        if self._start is None:
            return None
        started_at, start_percent = self._start
        percent = self._samples[-1][1]
        elapsed, gained = now - started_at, percent - start_percent
        if elapsed < MIN_SECONDS or gained < MIN_PERCENT:
            return None
        recent_since = now - RECENT_SHARE * elapsed
        sample_time, sample_percent = next((point for point in reversed(self._samples) if point[0] <= recent_since), self._start)
        speed = (gained / elapsed + (percent - sample_percent) / (now - sample_time)) / 2
        return (100.0 - percent) / speed
