"""Random noise of a gather, removed by the rank of its frequency slices."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.ml.signal_processing.patches import Patches

Gather = npt.NDArray[np.float64]

PATCH: Final = (32, 64)
"""Traces and samples of a patch."""


def reduce_rank(values: Gather, rank: int) -> Gather:
    """Keep what `rank` straight events could make in each patch: at one frequency, each is an exponential over the traces, so their sum makes a
    Hankel matrix of this rank, and noise one of full rank.

    J. A. Cadzow, "Signal enhancement" (1988); V. Oropeza and M. Sacchi, "Simultaneous seismic data denoising and reconstruction via multichannel singular
    spectrum analysis", Geophysics 76 (2011).
    """
    patches = Patches.of(values.shape, PATCH)
    traces, samples = patches.size
    spectra = np.fft.rfft(
        patches.cut(values), 2 * samples, axis=-1
    )  # zeros behind, so that no event leaves a patch at one end and enters at the other
    slices = np.moveaxis(spectra, 1, -1).reshape(-1, traces)
    reduced = np.moveaxis(_reduced(slices, rank).reshape(len(spectra), -1, traces), -1, 1)
    return patches.join(np.fft.irfft(reduced, 2 * samples, axis=-1)[..., :samples])


def _reduced(slices: npt.NDArray[np.complex128], rank: int) -> npt.NDArray[np.complex128]:
    """Slices × traces, each with its Hankel matrix reduced and averaged over the antidiagonals."""
    traces = slices.shape[1]
    rows = traces // 2 + 1
    columns = traces - rows + 1
    if rank >= min(rows, columns):
        return slices
    hankel = np.lib.stride_tricks.sliding_window_view(slices, columns, axis=1)  # slices × rows × columns
    left, singular, right = np.linalg.svd(hankel, full_matrices=False)
    matrices: Any = (left[:, :, :rank] * singular[:, None, :rank]) @ right[:, :rank]
    result = np.zeros_like(slices)
    for row in range(rows):
        result[:, row : row + columns] += matrices[:, row]
    counts = np.convolve(np.ones(rows), np.ones(columns))
    return result / counts
