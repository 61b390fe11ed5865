"""A gather in patches that overlap, in which curved events are nearly straight lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Gather = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of `size` (traces, samples) that overlap by half; a gather smaller than one is one patch of its own size."""

    starts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    size: tuple[int, int]
    shape: tuple[int, int]

    @classmethod
    def of(cls, shape: tuple[int, int], size: tuple[int, int]) -> Patches:
        used = min(size[0], shape[0]), min(size[1], shape[1])
        return cls((_starts(shape[0], used[0]), _starts(shape[1], used[1])), used, shape)

    def cut(self, values: Gather) -> Gather:
        """The patches, patches × traces × samples."""
        views = np.lib.stride_tricks.sliding_window_view(values, self.size)
        return views[np.ix_(*self.starts)].reshape(-1, *self.size)

    def join(self, parts: Gather) -> Gather:
        """The gather of patches; where they overlap, the mean, in which a sample counts for less the nearer it is to the border of its patch."""
        taper = np.outer(_taper(self.size[0]), _taper(self.size[1]))
        total, weights = np.zeros(self.shape), np.zeros(self.shape)
        numbers = np.ndindex(len(self.starts[0]), len(self.starts[1]))
        for (row, column), part in zip(numbers, parts, strict=True):
            first, start = int(self.starts[0][row]), int(self.starts[1][column])
            place = np.s_[first : first + self.size[0], start : start + self.size[1]]
            total[place] += taper * part
            weights[place] += taper
        return total / weights


def _starts(length: int, size: int) -> npt.NDArray[np.int64]:
    """Evenly spread, so that the last patch ends with the gather."""
    count = 1 + -(-(length - size) // max(1, size // 2))
    return np.linspace(0, length - size, count).round().astype(np.int64)


def _taper(size: int) -> npt.NDArray[np.float64]:
    return np.sin(np.pi * (np.arange(size) + 0.5) / size)
