"""Operations on recordings: arrays of samples × channels, from -1 to 1."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from workers.ml.contents.content import Content, ContentError
from workers.ml.items.audio import mel_filters

_FLOOR = 1e-10  # power below which there is silence: -100 dB
_BLOCK = 1 << 20  # values of spectra that are in memory at once
_MAX_WINDOW = 65_536


def mono(content: Content) -> Content:
    """The mean of the channels."""
    return content if content.values.shape[1] == 1 else replace(content, values=content.values.mean(axis=1, keepdims=True))


def resample(content: Content, *, rate: int) -> Content:
    """Change the sampling rate; frequencies above half of the new one are filtered out before, by libsoxr."""
    from soxr import resample as resampled  # takes long to import

    found = _rate(content)
    if found == rate:
        return content
    return replace(content, values=np.asarray(resampled(content.values, found, rate, quality="HQ"), dtype=np.float64), rate=float(rate))


def trim(content: Content, *, threshold: float, margin: float) -> Content:
    """Cut off silence at both ends: blocks of 10 ms whose power is `threshold` dB below that of the loudest block. `margin` seconds of it stay."""
    rate = _rate(content)
    values = content.values
    length = max(1, round(rate / 100))
    count = -(-len(values) // length)
    padded = np.zeros((count * length, values.shape[1]))
    padded[: len(values)] = values
    power = np.square(padded).reshape(count, -1).mean(axis=1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-threshold / 10)) if power.max() > 0 else np.arange(0)
    if not len(loud):
        return content  # nothing but silence
    kept = round(margin * rate)
    start, end = max(0, int(loud[0]) * length - kept), min(len(values), (int(loud[-1]) + 1) * length + kept)
    return replace(content, values=values[start:end], start=content.start + start)


def features(content: Content, *, bands: int, coefficients: int, window: float, top: float) -> dict[str, float | None]:
    """Mean and standard deviation over time of the decibels of mel bands, and of the coefficients of their cosine transform (MFCC).

    Windows overlap by half, under a Hann window; powers are scaled so that a sine of amplitude 1 has 0.5, and averaged over channels. The coefficients
    are those of the orthonormal DCT-II of the decibels (S. Davis and P. Mermelstein, 1980), from the first, which is the mean level.
    """
    rate = _rate(content)
    length = 1 << max(4, round(np.log2(window * rate)))
    if length > _MAX_WINDOW:
        raise ContentError(
            f"has {rate:g} samples a second, so that a window has more than {_MAX_WINDOW:,} samples. Choose a shorter window, or resample before."
        )
    values = content.values
    if len(values) < length:
        values = np.concatenate([values, np.zeros((length - len(values), values.shape[1]))])
    filters = _filters(rate, length, bands, top)
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    segments = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[:: length // 2]  # windows × channels × samples
    step = max(1, _BLOCK // (length * values.shape[1]))
    levels = np.concatenate([_levels(segments[first : first + step], shape, filters) for first in range(0, len(segments), step)])
    cepstra = levels @ _cosines(bands, min(bands, coefficients))
    result: dict[str, float | None] = {}
    for name, numbers in (("mel", levels), ("mfcc", cepstra)):
        for statistic, columns in (("mean", numbers.mean(axis=0)), ("std", numbers.std(axis=0))):
            result |= {f"{name}_{number}_{statistic}": float(value) for number, value in enumerate(columns, 1)}
    return result


def _levels(segments: Any, shape: Any, filters: Any) -> Any:
    spectra = np.fft.rfft((segments - segments.mean(axis=-1, keepdims=True)) * shape)
    power = (spectra.real**2 + spectra.imag**2).mean(axis=1) / shape.sum() ** 2
    power[:, 1 : (len(shape) + 1) // 2] *= 2  # the negative frequencies
    return 10 * np.log10(np.maximum(power @ filters, _FLOOR))


@lru_cache(8)
def _filters(rate: float, length: int, bands: int, top: float) -> Any:
    return mel_filters(rate, length, bands, top)


@lru_cache(8)
def _cosines(bands: int, coefficients: int) -> Any:
    """Bands × coefficients: the orthonormal DCT-II."""
    angles = np.pi * np.outer(2 * np.arange(bands) + 1, np.arange(coefficients)) / (2 * bands)
    scales = np.full(coefficients, np.sqrt(2 / bands))
    scales[0] = np.sqrt(1 / bands)
    return np.cos(angles) * scales


def _rate(content: Content) -> float:
    if content.rate is None:
        raise ContentError("has no sampling rate. Upload it again in a format that tells one.")
    return content.rate
