"""Trend, frequency filters, sampling rate and envelope of signals."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from workers.ml.signal_processing.errors import Unsuitable

Samples = npt.NDArray[np.float64]
Band = tuple[float | None, float | None]

MAX_RATIO_TERM: Final = 10_000
"""The ratio of two sampling rates is one of whole numbers up to this; the filter of the resampling is 20 times as long."""
_RATE_TOLERANCE: Final = 1e-6


def fill_gaps(samples: Samples) -> Samples:
    """Replace values that are not finite by interpolation over time, per channel: a filter would spread one over the whole signal.

    A channel without any finite value is 0.
    """
    usable = np.isfinite(samples)
    if usable.all():
        return samples
    filled = np.zeros_like(samples)
    times = np.arange(samples.shape[-1])
    for index in np.ndindex(samples.shape[:-1]):
        known = usable[index]
        if known.any():
            filled[index] = np.interp(times, times[known], samples[index][known])
    return filled


def detrend(samples: Samples, kind: Literal["constant", "linear"]) -> Samples:
    """Subtract the mean, or the line that fits best by least squares."""
    from scipy import signal  # 0.3 s of an import

    return np.asarray(signal.detrend(samples, axis=-1, type=kind), dtype=np.float64)


def bandpass(samples: Samples, rate: float, band: Band, order: int) -> Samples:
    """Keep the frequencies of a band in Hz; without a lower or an upper limit it is a low-pass or a high-pass.

    A Butterworth filter that runs forwards and backwards: no phase is shifted, and the power at a limit falls to a quarter. Raises `Unsuitable`.
    """
    from scipy.signal import butter, sosfiltfilt  # see detrend

    low, high = check_band(band, rate)
    if low is not None and high is not None:
        kind, limits = "bandpass", [low, high]
    else:
        kind, limits = ("highpass", low) if low is not None else ("lowpass", high)
    sections: Any = butter(order, limits, kind, output="sos", fs=rate)
    shortest = 3 * (2 * len(sections) + 1) + 1
    if samples.shape[-1] < shortest:
        raise Unsuitable(f"has {samples.shape[-1]:,} samples, and a filter of order {order} needs {shortest}")
    return np.asarray(sosfiltfilt(sections, samples, axis=-1), dtype=np.float64)


def check_band(band: Band, rate: float) -> Band:
    """Return the band. Raises `Unsuitable` for one that the sampling rate cannot hold."""
    low, high = band
    nyquist = rate / 2
    for limit in (low, high):
        if limit is not None and not 0 < limit < nyquist:
            raise Unsuitable(
                f"has {rate:,.6g} samples per second, so its frequencies end at {nyquist:,.6g} Hz; the limit {limit:,.6g} Hz must be below"
            )
    if low is not None and high is not None and low >= high:
        raise Unsuitable(f"would be filtered from {low:,.6g} to {high:,.6g} Hz, which is no band")
    if low is None and high is None:
        raise Unsuitable("would be filtered without a limit")
    return band


def resample(samples: Samples, rate: float, new_rate: float) -> Samples:
    """The signal at another sampling rate, by a polyphase filter that removes what the lower of both rates cannot hold.

    The ends are continued along the line through them, so that an offset does not ring. Raises `Unsuitable`.
    """
    from scipy.signal import resample_poly  # see detrend

    ratio = Fraction(new_rate / rate).limit_denominator(MAX_RATIO_TERM)
    if ratio == 1:
        return samples
    if ratio.numerator == 0 or ratio.numerator > MAX_RATIO_TERM or abs(rate * float(ratio) / new_rate - 1) > _RATE_TOLERANCE:
        raise Unsuitable(
            f"has {rate:,.9g} samples per second, and {new_rate:,.9g} are in no ratio of whole numbers up to {MAX_RATIO_TERM:,} to that"
        )
    if round(samples.shape[-1] * float(ratio)) < 2:
        raise Unsuitable(f"has {samples.shape[-1]:,} samples, of which fewer than two would be left at {new_rate:,.6g} per second")
    resampled: Any = resample_poly(samples, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    return np.asarray(resampled, dtype=np.float64)


def envelope(samples: Samples, rate: float | None = None, band: Band | None = None, order: int = 4) -> Samples:
    """The magnitude of the analytic signal (D. Gabor, 1946), within a band if one is given. Raises `Unsuitable`."""
    from scipy.signal import hilbert  # see detrend

    if band is not None:
        if rate is None:
            raise Unsuitable("has no sampling rate, which a band needs")
        samples = bandpass(samples, rate, band, order)
    return np.abs(hilbert(samples, axis=-1))


def windows(samples: Samples, length: int, stride: int, rest: Literal["drop", "pad"]) -> Samples:
    """The windows of a signal, windows × channels × length, each `stride` samples after the one before.

    The rest that fills no window is dropped, or padded with zeros to one more. A signal shorter than a window has none, or one.
    """
    size = samples.shape[-1]
    count = max(0, (size - length) // stride + 1)
    if rest == "pad" and (count == 0 or (count - 1) * stride + length < size):
        count += 1
        samples = np.concatenate([samples, np.zeros((*samples.shape[:-1], (count - 1) * stride + length - size))], axis=-1)
    if count == 0:
        return np.empty((0, *samples.shape[:-1], length))
    views = np.lib.stride_tricks.sliding_window_view(samples, length, axis=-1)[..., : (count - 1) * stride + 1 : stride, :]
    return np.moveaxis(views, -2, 0)
