"""Features of the envelope of a signal, which tell repeated impacts, such as those of a damaged bearing or gear.

R. B. Randall and J. Antoni, "Rolling element bearing diagnostics - A tutorial", Mechanical Systems and Signal Processing 25 (2011): impacts excite a
resonance, so their frequency is in the spectrum of the squared envelope of a band around it, and not in that of the signal. The band is not known;
candidates are halves, quarters and eighths of the spectrum, as in J. Antoni, "Fast computation of the kurtogram", Mechanical Systems and Signal
Processing 21 (2007), and that is taken in which the impacts stand out most.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

FEATURES: Final = ("envelope_frequency", "envelope_prominence", "envelope_band")
MIN_SAMPLES: Final = 256
_SEGMENT: Final = 16_384  # samples that are looked at together
_SEGMENTS: Final = 4  # evenly spread over the signal, so that the time does not grow with its length
_DIVISIONS: Final = (2, 4, 8)
_LOWEST: Final = 3  # periods in a segment
_HARMONICS: Final = 3
_MAX_MULTIPLE: Final = 6
_AS_STRONG: Final = 0.6
_USED: Final = 0.8  # of the width of a band; beyond it, the envelope has too little power to tell


def envelope_features(samples: npt.NDArray[np.float64], rate: float) -> dict[str, float | None]:
    """The frequency of repeated impacts in Hz, how much it stands out, and the middle of the band in Hz that shows it.

    The prominence is the least of the first three harmonics in the spectrum of the squared envelope, as a multiple of what noise has there: about 2 to 3 for
    noise alone. None for a signal that is constant or has fewer than 256 samples.
    """
    nothing: dict[str, float | None] = dict.fromkeys(FEATURES)
    if len(samples) < MIN_SAMPLES:
        return nothing
    length = min(len(samples), _SEGMENT)
    starts = np.linspace(0, len(samples) - length, min(_SEGMENTS, len(samples) // length)).astype(np.int64)
    segments = np.stack([samples[start : start + length] for start in starts])
    spectra = np.fft.rfft(segments - segments.mean(axis=1, keepdims=True))
    best = 0.0
    result = nothing
    for divisions in _DIVISIONS:
        width = spectra.shape[1] // divisions
        for first in range(0, spectra.shape[1] - width + 1, max(1, width // 2)):  # neighbours overlap by half
            found = _strongest(spectra[:, first : first + width])
            if found is not None and found[1] > best:
                best = found[1]
                result = {
                    "envelope_frequency": found[0] * rate / length,
                    "envelope_prominence": best,
                    "envelope_band": (first + width / 2) * rate / length,
                }
    return result


def _strongest(band: npt.NDArray[np.complex128]) -> tuple[int, float] | None:
    """The bin of the frequency that stands out most in the squared envelope of a band, given by its part of the spectrum, and how much."""
    width = band.shape[1]
    last = int(_USED * width)
    count = last // _HARMONICS
    if count <= _LOWEST:
        return None
    # The part alone is the spectrum of the analytic signal; with as many zeros behind it, its square has no aliases.
    envelope = np.abs(np.fft.ifft(band, 2 * width)) ** 2
    envelope -= envelope.mean(axis=1, keepdims=True)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2 * width) / (2 * width))
    power = (np.abs(np.fft.rfft(envelope * window)) ** 2).mean(axis=0)[: last + 2]
    # The squared envelope of white noise has a power that falls linearly to 0 at the width of the band.
    spectrum = np.sqrt(power / (1 - np.arange(len(power)) / width))
    floor = float(np.median(spectrum[_LOWEST:]))
    if not floor > 0:
        return None
    spectrum /= floor
    # A harmonic may lie between two bins.
    near = np.maximum(spectrum, np.maximum(np.roll(spectrum, 1), np.roll(spectrum, -1)))
    bins = np.arange(_LOWEST, count + 1)
    scores = spectrum[bins]
    for harmonic in range(2, _HARMONICS + 1):
        scores = np.minimum(scores, near[harmonic * bins])
    strongest = _fundamental(scores, int(scores.argmax()))
    return int(bins[strongest]), float(scores[strongest])


def _fundamental(scores: npt.NDArray[np.float64], strongest: int) -> int:
    """The strongest, or the lowest that it is a multiple of: short impacts have many harmonics of about the same strength."""
    for divisor in range(_MAX_MULTIPLE, 1, -1):
        middle = round((strongest + _LOWEST) / divisor) - _LOWEST
        low, high = max(0, middle - 1), middle + 2
        if high > low and scores[low:high].max() >= _AS_STRONG * scores[strongest]:
            return low + int(scores[low:high].argmax())
    return strongest
