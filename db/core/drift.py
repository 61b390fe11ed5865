"""How much the distribution of a column differs between two profiles.

The measure is the Jensen-Shannon distance, the square root of the Jensen-Shannon divergence in bits (Lin, "Divergence measures based on the Shannon
entropy", 1991; that its square root is a metric: Endres and Schindelin, 2003). Of the shares p and q of each value, with m = (p + q) / 2,

    distance = sqrt((sum p log2(p / m) + sum q log2(q / m)) / 2)

which is 0 for equal distributions and 1 for those that have no value in common. Unlike the population stability index it needs no correction for a
share of 0. Missing values are left out: their share is told beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from math import log2, nextafter, sqrt
from typing import Any

import orjson

Shares = Mapping[Hashable, float]
_OTHERS, _INFINITE = object(), object()


def column_drift(before: Mapping[str, Any], after: Mapping[str, Any], rows: tuple[int, int]) -> float | None:
    """Return the distance of the present values of a column in two reports of profiles, of so many rows; None if it cannot be told.

    Where both reports list all values, it is exact. Else numbers are compared by their histograms, each bin taken as evenly filled, and other values
    by the most frequent ones, with all that is not listed in one of the reports together as one value: then the distance is at least this.
    """
    present = [count - report["missing_count"] for report, count in zip((before, after), rows, strict=True)]
    if min(present) <= 0:
        return None
    tops = [{_key(entry["value"]): entry["count"] for entry in report.get("top_values") or ()} for report in (before, after)]
    complete = [sum(top.values()) >= count for top, count in zip(tops, present, strict=True)]
    if not all(complete) and all(report.get("histogram") for report in (before, after)):
        shares = _of_histograms(before, after, present)
    else:
        shares = _of_values(tops, complete, present)
    return None if shares is None else distance(*shares)


def distance(p: Shares, q: Shares) -> float:
    """The Jensen-Shannon distance of two distributions."""
    divergence = 0.0
    for key in p.keys() | q.keys():
        a, b = p.get(key, 0.0), q.get(key, 0.0)
        middle = (a + b) / 2
        divergence += sum(share * log2(share / middle) for share in (a, b) if share > 0) / 2
    return sqrt(min(max(divergence, 0.0), 1.0))


def _key(value: Any) -> Hashable:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if isinstance(value, dict | list) else value


def _of_values(tops: Sequence[Mapping[Hashable, int]], complete: Sequence[bool], present: Sequence[int]) -> tuple[Shares, Shares] | None:
    """The shares of the values whose number is known in both reports, and of all others together; None if none is."""
    known = [
        key
        for key in dict.fromkeys((*tops[0], *tops[1]))
        if all(key in top or is_complete for top, is_complete in zip(tops, complete, strict=True))
    ]
    if not known:
        return None
    first, second = (_with_others({key: top.get(key, 0) / count for key in known}) for top, count in zip(tops, present, strict=True))
    return first, second


def _with_others(shares: dict[Hashable, float]) -> Shares:
    return {**shares, _OTHERS: max(1.0 - sum(shares.values()), 0.0)}


def _of_histograms(before: Mapping[str, Any], after: Mapping[str, Any], present: Sequence[int]) -> tuple[Shares, Shares]:
    """The shares of the intervals between the bounds of all bins."""
    reports = (before, after)
    bins = [list(_bins(report["histogram"])) for report in reports]
    edges = sorted({edge for histogram in bins for lower, upper, _ in histogram for edge in (lower, upper)})
    shares = [_spread(histogram, edges, count) for histogram, count in zip(bins, present, strict=True)]
    for part, report, count in zip(shares, reports, present, strict=True):
        part[_INFINITE] = (report.get("infinite_count") or 0) / count
    return shares[0], shares[1]


def _bins(histogram: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, float, int]]:
    for entry in histogram:
        lower, upper = float(entry["lower"]), float(entry["upper"])
        yield lower, max(upper, nextafter(lower, float("inf"))), entry["count"]


def _spread(histogram: Sequence[tuple[float, float, int]], edges: Sequence[float], present: int) -> dict[Hashable, float]:
    shares: dict[Hashable, float] = {}
    position = 0
    for lower, upper, count in histogram:  # both are in order
        while edges[position] < lower:
            position += 1
        width = upper / 2 - lower / 2  # halved, as the whole range of doubles is wider than the largest one
        while position + 1 < len(edges) and edges[position] < upper:
            part = (edges[position + 1] / 2 - edges[position] / 2) / width if width else 1.0
            shares[edges[position]] = shares.get(edges[position], 0.0) + count * part / present
            position += 1
    return shares
