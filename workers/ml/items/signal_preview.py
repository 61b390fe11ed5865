"""Small images of signals: the course over time of a few channels, the traces of a gather side by side."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

Samples = npt.NDArray[np.float64]

_WIDTH, _HEIGHT = 128, 64  # of a waveform, in pixels
_GATHER: Final = 128  # pixels of either side
_MAX_LANES: Final = 4
_CLIPPED: Final = 98.0  # the percentile of the amplitudes that has the full colour: a few bursts would leave the rest pale
_INK: Final = (31, 78, 140)
_NEGATIVE, _POSITIVE = np.array((33.0, 71.0, 158.0)), np.array((178.0, 24.0, 43.0))


def signal_preview(channels: Sequence[Samples]) -> bytes:
    """A WebP image of the first channels, each in a lane of its own with its own scale; more than four are drawn as a gather."""
    if len(channels) > _MAX_LANES:
        return gather_preview(np.stack(channels))
    height = _HEIGHT // len(channels)
    lanes = [_waveform(samples, height) for samples in channels]
    return _webp(np.where(np.concatenate(lanes)[..., None], _INK, 255))


def gather_preview(values: Samples) -> bytes:
    """A WebP image of traces × samples: a trace is a column, time goes down; red is positive and blue negative.

    What would share a pixel is drawn as the sample of it that is farthest from 0: a mean would cancel the oscillations.
    """
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    pixels = _farthest(_farthest(values, axis=1), axis=0).T
    amplitudes = np.abs(pixels)
    scale = float(np.percentile(amplitudes[amplitudes > 0], _CLIPPED)) if amplitudes.any() else 1.0
    strength = np.clip(amplitudes / scale, 0, 1)[..., None]
    colours = np.where(pixels[..., None] < 0, _NEGATIVE, _POSITIVE)
    return _webp(255 + strength * (colours - 255), (_GATHER, _GATHER))


def _waveform(samples: Samples, height: int) -> npt.NDArray[np.bool_]:
    """Which pixels of a lane are drawn: of each column from the least to the greatest sample of its part of the time."""
    usable = np.where(np.isfinite(samples), samples, np.nan)
    peak = np.fmax.reduce(np.abs(usable))
    if np.isnan(peak):
        return np.zeros((height, _WIDTH), dtype=np.bool_)
    usable = usable / peak if peak else usable  # the difference of the two largest floats overflows
    if len(usable) < _WIDTH:
        usable = np.interp(np.linspace(0, len(usable) - 1, _WIDTH), np.arange(len(usable)), usable)
    starts = np.arange(_WIDTH) * len(usable) // _WIDTH
    low, high = np.fmin.reduceat(usable, starts), np.fmax.reduceat(usable, starts)
    # A steep line crosses the border of two columns: they are joined.
    low[1:], high[1:] = np.fmin(low[1:], high[:-1]), np.fmax(high[1:], low[:-1])
    least, greatest = np.nanmin(low), np.nanmax(high)
    span = greatest - least
    margin = 1 if height > _MAX_LANES else 0
    rows = np.arange(height)[:, None]

    def row(values: Samples) -> Samples:
        share: Samples = (values - least) / span if span > 0 else np.full(_WIDTH, 0.5)
        return np.round((height - 1 - margin) - share * (height - 1 - 2 * margin))

    # A comparison with NaN is false: a column without a usable sample stays empty.
    return (rows >= row(high)) & (rows <= row(low))


def _farthest(values: Samples, axis: int) -> Samples:
    """At most as many values as pixels along the axis, each the one farthest from 0 of those that it stands for."""
    length = values.shape[axis]
    if length <= _GATHER:
        return values
    starts = np.arange(_GATHER) * length // _GATHER
    low, high = np.minimum.reduceat(values, starts, axis), np.maximum.reduceat(values, starts, axis)
    return np.where(-low > high, low, high)


def _webp(colours: npt.NDArray[np.float64], size: tuple[int, int] | None = None) -> bytes:
    image = Image.fromarray(colours.astype(np.uint8))
    target = io.BytesIO()
    (image if size is None else image.resize(size, Image.Resampling.NEAREST)).save(target, "WEBP", quality=80)
    return target.getvalue()
