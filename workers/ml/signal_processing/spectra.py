"""Power over frequency, and how it changes over time."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

FLOOR_DB: Final = -120.0
"""Decibels of a band without power, relative to the power of a square of 1."""
_SEGMENT: Final = 4_096


def power_spectra(samples: Samples, segment: int) -> Samples:
    """The power of each segment of one channel, segments × frequencies; the powers of a segment add up to its variance under the window.

    P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra" (1967): segments that overlap by half, each without its mean and
    under a Hann window.
    """
    from scipy.signal import spectrogram  # 0.3 s of an import

    length = min(segment, len(samples))
    density = spectrogram(samples, window="hann", nperseg=length, noverlap=length - max(1, length // 2), detrend="constant")[2]
    return np.asarray(density, dtype=np.float64).T / length


def band_shares(samples: Samples, bands: int) -> list[float]:
    """The shares of the power in bands of equal width from 0 to half the sampling rate; 0 for a constant signal."""
    power = power_spectra(samples, _SEGMENT).mean(axis=0)
    sums = _band_sums(power[None], bands)[0]
    total = float(sums.sum())
    return (sums / total if total > 0 else sums).tolist()


def spectrogram_features(samples: Samples, segment: int, bands: int) -> dict[str, float]:
    """Of the power of each band over time in decibels: the mean `band_<n>_mean` and the standard deviation `band_<n>_std`.

    `flux` is the mean change of the shares of the bands from one segment to the next, 0 for a steady sound and 2 at most; `entropy` that of the mean shares,
    from 0 for power in one band alone to 1 for the same in all.
    """
    sums = _band_sums(power_spectra(samples, segment), bands)
    decibels = 10 * np.log10(np.maximum(sums, 10 ** (FLOOR_DB / 10)))
    totals = sums.sum(axis=1, keepdims=True)
    shares = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    mean = shares.mean(axis=0)
    known = mean[mean > 0]
    features: dict[str, float] = {}
    for number, (level, spread) in enumerate(zip(decibels.mean(axis=0), decibels.std(axis=0), strict=True), 1):
        features[f"band_{number}_mean"], features[f"band_{number}_std"] = float(level), float(spread)
    features["flux"] = float(np.abs(np.diff(shares, axis=0)).sum(axis=1).mean()) if len(shares) > 1 else 0.0
    features["entropy"] = float(-(known * np.log(known)).sum() / np.log(bands)) if bands > 1 else 0.0
    return features


def _band_sums(power: Samples, bands: int) -> Samples:
    """The power of each band, segments × bands. A bin on the limit of two belongs to the upper; bands narrower than a bin may have none."""
    bins = power.shape[1]
    of_bin = np.minimum(np.arange(bins) * bands // max(1, bins - 1), bands - 1)
    sums = np.zeros((len(power), bands))
    for band in range(bands):
        sums[:, band] = power[:, of_bin == band].sum(axis=1)
    return sums
