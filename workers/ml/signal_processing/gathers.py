"""Gathers of seismic traces, traces × samples: gain, and which traces are dead."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Gather = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DEAD_LEVEL: Final = 1e-3
"""Traces of less than this share of the median RMS are dead."""


def automatic_gain(values: Gather, window: int) -> Gather:
    """Divide each sample by the RMS of the window around it, which is cut at the ends of the trace (AGC). Silence stays 0."""
    samples = values.shape[-1]
    squares = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values**2, axis=-1)], axis=-1)
    centres = np.arange(samples)
    first, last = np.maximum(0, centres - window // 2), np.minimum(samples, centres - window // 2 + window)
    # A sum that is the difference of two rounded ones may be a little below 0.
    level = np.sqrt(np.maximum(squares[..., last] - squares[..., first], 0) / (last - first))
    # What rounding leaves of a silent window is noise, and is not to be raised to the level of a signal.
    silent = level <= 1e-7 * np.abs(values).max(axis=-1, keepdims=True, initial=0)
    return np.divide(values, level, out=np.zeros_like(values), where=~silent)


def time_gain(values: Gather, rate: float, power: float) -> Gather:
    """Multiply by the time in seconds to a power, which makes up for the spreading of the wave front."""
    return values * (np.arange(1, values.shape[-1] + 1) / rate) ** power


def random_traces(traces: int, share: float, seed: int) -> Mask:
    """True for a random share of the traces, rounded, but never for all."""
    killed = min(round(traces * share), traces - 1)
    mask = np.zeros(traces, dtype=np.bool_)
    mask[np.random.default_rng(seed).permutation(traces)[:killed]] = True
    return mask


def dead_traces(values: Gather, level: float = DEAD_LEVEL) -> Mask:
    """True for traces with a sample that is no finite number, and for those whose RMS is below `level` times the median of the others that are not 0."""
    broken: Any = ~np.isfinite(values).all(axis=-1, keepdims=True)  # Any: NumPy's types think that it might be one value
    rms = np.sqrt(np.mean(np.where(broken, 0.0, values) ** 2, axis=-1))
    live = rms[rms > 0]
    return broken[..., 0] | (rms <= (level * float(np.median(live)) if len(live) else 0.0))


def loud_traces(values: Gather, level: float) -> Mask:
    """True for traces whose RMS is above `level` times the median of those that are not 0."""
    rms = np.sqrt(np.mean(values**2, axis=-1))
    live = rms[rms > 0]
    return rms > (level * float(np.median(live)) if len(live) else np.inf)
