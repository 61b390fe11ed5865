"""Estimates the remaining time of a job from the speed of its progress."""

from __future__ import annotations

from collections import deque

MIN_SECONDS = 3.0  # no estimate from less than this
MIN_PERCENT = 5.0
JUMP_PERCENT, JUMP_SECONDS = 10.0, 1.0  # a larger jump in less time is work of an earlier attempt, not speed
RECENT_SHARE = 0.3  # share of the elapsed time that gives the current speed
MAX_SAMPLES = 200


class EtaEstimator:
    """Takes progress in percent of the whole, weighted by expected cost, at times in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=MAX_SAMPLES)
        self._start: tuple[float, float] | None = None
        self._min_spacing = 0.0

    def update(self, now: float, percent: float) -> None:
        """Record `percent` at time `now`. Progress that does not rise is ignored."""
        last = self._samples[-1] if self._samples else None
        if last is not None and percent <= last[1]:
            return
        if self._start is None or (last is not None and percent - last[1] > JUMP_PERCENT and now - last[0] < JUMP_SECONDS):
            self._samples.clear()
            self._start = (now, percent)
        elif len(self._samples) > 1 and now - self._samples[-2][0] < self._min_spacing:
            self._samples.pop()  # the newest sample always stays, older ones at `_min_spacing`
        elif len(self._samples) == MAX_SAMPLES:
            self._min_spacing = (now - self._start[0]) / MAX_SAMPLES * 2
            thinned = list(self._samples)[::2]
            self._samples.clear()
            self._samples.extend(thinned)
        self._samples.append((now, percent))

    def seconds_left(self, now: float) -> float | None:
        """Return the remaining seconds; None while there are too few samples.

        The speed is the mean of the overall and the recent speed: steps differ, so neither alone predicts the rest.
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
