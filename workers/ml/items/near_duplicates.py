"""Images that look alike: pairs whose perceptual hashes differ in few bits."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

MAX_DISTANCE: Final = 3
_BANDS: Final = 4
_BAND_BITS: Final = 16
_MAX_IN_BAND: Final = 200


class HashIndex:
    """Finds an earlier hash within `MAX_DISTANCE` bits.

    Of two hashes that differ in three bits, at least one of four bands is equal (M. Norouzi et al., "Fast search in Hamming space with multi-index
    hashing", 2012). A band that very many share, such as that of blank images, is searched among its first ones alone.
    """

    def __init__(self) -> None:
        self._by_band: defaultdict[tuple[int, int], list[tuple[int, str, str | None]]] = defaultdict(list)

    def find_or_add(self, value: int, key: str, split: str | None) -> tuple[str, str | None] | None:
        """Return key and split of an earlier hash that is near, of another split if there is one; remember this one."""
        near: tuple[str, str | None] | None = None
        bands = [(band, (value >> (band * _BAND_BITS)) & 0xFFFF) for band in range(_BANDS)]
        for band in bands:
            for other, other_key, other_split in self._by_band[band]:
                if (value ^ other).bit_count() <= MAX_DISTANCE:
                    near = near or (other_key, other_split)
                    if other_split != split:
                        near = (other_key, other_split)
                        break
        for band in bands:
            if len(self._by_band[band]) < _MAX_IN_BAND:
                self._by_band[band].append((value, key, split))
        return near
