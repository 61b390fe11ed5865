"""Images that look alike: pairs whose perceptual hashes differ in few bits."""

from __future__ import annotations

from array import array
from typing import Final

MAX_DISTANCE: Final = 3
_BANDS: Final = 4
_BAND_BITS: Final = 16
_MAX_IN_BAND: Final = 200


class HashIndex:
    """Finds an earlier hash within `MAX_DISTANCE` bits. It takes 34 bytes a hash.

    Of two hashes that differ in three bits, at least one of four bands is equal (M. Norouzi et al., "Fast search in Hamming space with multi-index
    hashing", 2012). A band that very many share, such as that of blank images, is searched among its first ones alone.
    """

    def __init__(self) -> None:
        self._hashes, self._places, self._splits = array("Q"), array("Q"), array("I")
        self._numbers: dict[str | None, int] = {}  # of splits
        # For each band a list of the hashes that share it: the first and the last, and for each hash the next.
        buckets = _BANDS << _BAND_BITS
        self._first, self._last = array("i", [-1]) * buckets, array("i", [-1]) * buckets
        self._counts = bytearray(buckets)
        self._next = [array("i") for _ in range(_BANDS)]

    def find_or_add(self, value: int, place: int, split: str | None) -> int | None:
        """Return the place of an earlier hash that is near, of another split if there is one; remember this one with its place."""
        near: int | None = None
        number = self._numbers.setdefault(split, len(self._numbers))
        buckets = [band << _BAND_BITS | (value >> (band * _BAND_BITS)) & 0xFFFF for band in range(_BANDS)]
        for band, bucket in enumerate(buckets):
            following, other = self._next[band], self._first[bucket]
            while other >= 0:
                if (value ^ self._hashes[other]).bit_count() <= MAX_DISTANCE:
                    near = self._places[other] if near is None else near
                    if self._splits[other] != number:
                        near = self._places[other]
                        break
                other = following[other]
        self._add(value, place, number, buckets)
        return near

    def _add(self, value: int, place: int, split: int, buckets: list[int]) -> None:
        new = len(self._hashes)
        self._hashes.append(value)
        self._places.append(place)
        self._splits.append(split)
        for band, bucket in enumerate(buckets):
            self._next[band].append(-1)
            if self._counts[bucket] == _MAX_IN_BAND:
                continue
            self._counts[bucket] += 1
            if self._first[bucket] < 0:
                self._first[bucket] = new
            else:
                self._next[band][self._last[bucket]] = new
            self._last[bucket] = new
