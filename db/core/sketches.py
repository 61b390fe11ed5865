"""Sketches of durations, from which percentiles are read: mergeable, and within one percent of the exact values.

A sketch counts values in buckets whose bounds grow by a constant factor, so adding the counts of two sketches gives exactly the sketch of all
their values. Masson, Rim and Lee, "DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019,
https://www.vldb.org/pvldb/vol12/p2195-masson.pdf, sections 2.1 and 2.2. Stored are the counts by index; the factor must never change.
"""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.01
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_INDEXES_PER_E = 1 / math.log(_GAMMA)
_LEAST_SECONDS = 1e-6  # shorter ones count as this, so that there are some 1,300 buckets up to a day


def index_of(seconds: float) -> int:
    """Return the index of the bucket that counts this duration."""
    return math.ceil(math.log(max(seconds, _LEAST_SECONDS)) * _INDEXES_PER_E)


def value_of(index: int) -> float:
    """Return the duration, in seconds, that is at most `RELATIVE_ERROR` away from all in the bucket."""
    return 2 * _GAMMA**index / (_GAMMA + 1)
