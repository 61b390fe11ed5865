"""How near an estimate comes to the truth."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np


class Quality(TypedDict):
    """`snr` and `psnr` in decibels, None without any error; `mse` in squares of the samples' unit."""

    snr: float | None
    psnr: float | None
    mse: float


def quality(truth: Any, estimate: Any) -> Quality:
    """The mean squared error; the signal-to-noise ratio, which is 0 dB for an estimate of zeros; the peak signal-to-noise ratio, to the
    greatest absolute value of the truth.
    """
    error = float(np.mean((truth - estimate) ** 2))
    power, peak = float(np.mean(truth**2)), float(np.abs(truth).max())
    if not error or not power:
        return {"snr": None, "psnr": None, "mse": error}
    return {"snr": float(10 * np.log10(power / error)), "psnr": float(10 * np.log10(peak**2 / error)), "mse": error}
