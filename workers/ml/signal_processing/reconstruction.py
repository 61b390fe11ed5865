"""Traces that are missing in a gather, from those that are there."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from workers.ml.signal_processing.errors import Unsuitable
from workers.ml.signal_processing.patches import Patches

Gather = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PATCH: Final = (32, 128)
"""Traces and samples of a patch of `pocs`."""
_FIRST_THRESHOLD: Final = 0.99


def interpolate_linearly(values: Gather, missing: Mask) -> Gather:
    """Each missing trace on the line between its two nearest neighbours that are there; at the ends as the nearest. Raises `Unsuitable`."""
    known = _known(missing)
    filled = values.copy()
    lost = np.flatnonzero(missing)
    right = np.clip(np.searchsorted(known, lost), 0, len(known) - 1)
    left = np.maximum(right - 1, 0)
    left = np.where(lost > known[-1], right, left)
    gap = known[right] - known[left]
    share = np.where(gap > 0, np.clip((lost - known[left]) / np.maximum(gap, 1), 0, 1), 0.0)
    filled[lost] = (1 - share)[:, None] * values[known[left]] + share[:, None] * values[known[right]]
    return filled


def interpolate_pchip(values: Gather, missing: Mask) -> Gather:
    """Each sample of a missing trace on the monotone cubic (F. N. Fritsch and R. E. Carlson, 1980) over the traces; at the ends as the nearest trace.

    Raises `Unsuitable`.
    """
    from scipy.interpolate import PchipInterpolator  # 0.2 s of an import

    known = _known(missing)
    if len(known) < 2:
        return interpolate_linearly(values, missing)
    filled = values.copy()
    lost = np.clip(np.flatnonzero(missing), known[0], known[-1])
    filled[missing] = PchipInterpolator(known, values[known], axis=0)(lost)
    return filled


def pocs(values: Gather, missing: Mask, iterations: int, final_threshold: float) -> Gather:
    """Projection onto convex sets: in turn, keep the strong coefficients of the Fourier transform, and put back the traces that are there.

    R. Abma and N. Kabir, "3D interpolation of irregular data with a POCS algorithm", Geophysics 71 (2006); the threshold falls exponentially from
    the greatest coefficient of a patch to `final_threshold` of it (J. Gao et al., Geophysics 75, 2010). It works in patches, in which curved events are nearly
    straight. What is below the last threshold, such as noise, is not reconstructed. Raises `Unsuitable`.
    """
    _known(missing)
    # Around a patch, zeros: the transform is periodic, and the last trace would be the neighbour of the first.
    patches = Patches.of(values.shape, PATCH)
    shape = 2 * patches.size[0], 2 * patches.size[1]
    there = patches.cut(np.where(missing[:, None], 0.0, 1.0) * np.ones(values.shape[1]))
    observed = patches.cut(np.where(missing[:, None], 0.0, values))
    greatest = np.abs(np.fft.rfft2(observed, shape)).max(axis=(1, 2), keepdims=True)
    found = observed
    for threshold in np.geomspace(_FIRST_THRESHOLD, final_threshold, iterations):
        spectrum = np.fft.rfft2(found, shape)
        spectrum[np.abs(spectrum) < threshold * greatest] = 0
        found = observed + (1 - there) * np.fft.irfft2(spectrum, shape)[:, : patches.size[0], : patches.size[1]]
    return np.where(missing[:, None], patches.join(found), values)


def _known(missing: Mask) -> npt.NDArray[np.int64]:
    known = np.flatnonzero(~missing)
    if not len(known):
        raise Unsuitable("has no trace to reconstruct others from: all are missing or dead")
    return known
