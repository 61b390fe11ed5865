"""Filters and spectra of signals, against formulas and SciPy's other ways to compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.lazy_module import LazyModule
from workers.ml.signal_processing import filters, spectra
from workers.ml.signal_processing.errors import Unsuitable

SIGNAL: Any = LazyModule("scipy.signal")
RATE = 1_000.0
TIMES = np.arange(4_000) / RATE


def sine(frequency: float, times: Any = TIMES) -> Any:
    return np.sin(2 * np.pi * frequency * times)


def noise(*shape: int) -> Any:
    return np.random.default_rng(7).normal(size=shape)


def test_a_trend_is_the_mean_or_the_best_line() -> None:
    samples = noise(2, 501) + np.array([[3.0], [-1.0]]) + np.array([[0.02], [0.0]]) * np.arange(501)
    assert filters.detrend(samples, "constant") == pytest.approx(samples - samples.mean(axis=1, keepdims=True), abs=1e-12)
    lines = np.stack([np.polyval(np.polyfit(np.arange(501), channel, 1), np.arange(501)) for channel in samples])
    assert filters.detrend(samples, "linear") == pytest.approx(samples - lines, abs=1e-9)


@pytest.mark.parametrize(("band", "order"), [((40.0, 80.0), 4), ((None, 60.0), 3), ((60.0, None), 5)])
def test_a_filter_has_the_gain_of_butterworths_formula_and_shifts_nothing(band: filters.Band, order: int) -> None:
    low, high = band
    warped: Any = [None if limit is None else np.tan(np.pi * limit / RATE) for limit in band]
    for frequency in (20.0, 40.0, 57.0, 60.0, 80.0, 150.0):
        here = np.tan(np.pi * frequency / RATE)
        if low is not None and high is not None:
            ratio = (here**2 - warped[0] * warped[1]) / (here * (warped[1] - warped[0]))
        else:
            ratio = here / warped[1] if low is None else warped[0] / here
        gain = 1 / (1 + ratio ** (2 * order))  # squared by the second pass, so that it is the amplitude's
        filtered = filters.bandpass(sine(frequency), RATE, band, order)[1_000:-1_000]
        assert filtered == pytest.approx(gain * sine(frequency)[1_000:-1_000], abs=2e-3)


def test_a_band_that_the_rate_cannot_hold_is_refused() -> None:
    for band, length, words in (
        ((10.0, 500.0), 100, "its frequencies end at 500 Hz; the limit 500 Hz must be below"),
        ((80.0, 40.0), 100, "from 80 to 40 Hz, which is no band"),
        ((None, None), 100, "without a limit"),
        ((10.0, 100.0), 27, "has 27 samples, and a filter of order 4 needs 28"),
    ):
        with pytest.raises(Unsuitable, match=words):
            filters.bandpass(np.zeros(length), RATE, band, 4)
    assert filters.bandpass(noise(28), RATE, (10.0, 100.0), 4).shape == (28,)


def test_a_resampled_signal_is_what_the_new_rate_would_have_measured() -> None:
    for new_rate in (400.0, 1_000.0, 1_600.0, 44_100.0):
        resampled = filters.resample(sine(30) + 5, RATE, new_rate)
        times = np.arange(len(resampled)) / new_rate
        assert len(resampled) == round(4 * new_rate)
        inner = (times > 0.3) & (times < 3.7)
        assert resampled[inner] == pytest.approx(sine(30, times[inner]) + 5, abs=5e-3)
        assert np.abs(resampled - 5).max() < 1.2, "the offset does not ring at the ends"
    assert np.abs(filters.resample(sine(300), RATE, 400.0)[50:-50]).max() < 0.01, "what is beyond the new rate is not folded into it"
    for new_rate, length, words in ((20_000 * RATE, 4_000, "in no ratio of whole numbers"), (1.0, 900, "fewer than two would be left")):
        with pytest.raises(Unsuitable, match=words):
            filters.resample(np.zeros(length), RATE, new_rate)


@pytest.mark.parametrize("length", [1_000, 1_001])
def test_an_envelope_is_the_magnitude_of_the_analytic_signal(length: int) -> None:
    angles = 2 * np.pi * np.arange(length) / length
    samples = np.stack([2 * np.cos(5 * angles), np.cos(7 * angles) + 0.5 * np.cos(9 * angles)])
    analytic = np.stack([2 * np.exp(5j * angles), np.exp(7j * angles) + 0.5 * np.exp(9j * angles)])
    assert filters.envelope(samples) == pytest.approx(np.abs(analytic), abs=1e-12)


def test_an_envelope_in_a_band_shows_what_modulates_it() -> None:
    loudness = 1 + 0.5 * sine(7)
    found = filters.envelope(loudness * sine(200) + 3 * sine(20), RATE, (150.0, 250.0))
    assert found[500:-500] == pytest.approx(loudness[500:-500], abs=0.01)
    with pytest.raises(Unsuitable, match="has no sampling rate"):
        filters.envelope(sine(20), None, (1.0, 2.0))


def test_windows_follow_each_other_by_the_stride_and_the_rest_is_dropped_or_padded() -> None:
    samples = np.arange(20.0).reshape(2, 10)
    found = filters.windows(samples, 4, 3, "drop")
    assert found.tolist() == [samples[:, start : start + 4].tolist() for start in (0, 3, 6)]
    padded = filters.windows(samples, 4, 4, "pad")
    assert padded[:, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]
    assert filters.windows(samples, 5, 5, "pad").tolist() == filters.windows(samples, 5, 5, "drop").tolist()
    assert filters.windows(samples, 11, 1, "drop").shape == (0, 2, 11)
    assert filters.windows(samples, 12, 12, "pad").tolist() == [[[*row, 0, 0] for row in samples.tolist()]]


def test_values_that_are_no_numbers_are_interpolated_before_a_filter_spreads_them() -> None:
    samples = np.array([[np.nan, 1.0, 2.0, np.inf, 4.0], [np.nan] * 5, [1.0] * 5])
    assert filters.fill_gaps(samples).tolist() == [[1, 1, 2, 3, 4], [0] * 5, [1] * 5]


@pytest.mark.parametrize("segment", [256, 255])
def test_the_powers_of_a_segment_add_up_to_its_variance_under_the_window(segment: int) -> None:
    samples = noise(3_000) + 4 + sine(100, np.arange(3_000) / RATE)
    power = spectra.power_spectra(samples, segment)
    window = np.sin(np.pi * np.arange(segment) / segment) ** 2
    parts = [samples[start : start + segment] for start in range(0, 3_000 - segment + 1, segment // 2)]
    expected = [((part - part.mean()) ** 2 @ window**2) / (window @ window) for part in parts]  # Parseval
    assert power.sum(axis=1) == pytest.approx(expected)
    assert power.shape == (len(parts), segment // 2 + 1)
    assert power.mean(axis=0).argmax() == round(100 * segment / RATE)


def test_bands_have_their_share_of_the_power() -> None:
    shares = spectra.band_shares(2 * sine(60) + sine(310), 5)  # bands of 100 Hz
    assert shares == pytest.approx([0.8, 0, 0, 0.2, 0], abs=1e-3)
    assert spectra.band_shares(np.ones(4_000), 4) == [0, 0, 0, 0]


def test_the_statistics_of_a_spectrogram_tell_a_steady_sound_from_a_changing_one() -> None:
    steady = spectra.spectrogram_features(sine(60), 200, 5)
    _, _, power = SIGNAL.spectrogram(sine(60), RATE, window="hann", nperseg=200, noverlap=100, detrend="constant", scaling="density")
    decibels = 10 * np.log10(power[:20].sum(axis=0) * RATE / 200)
    assert steady["band_1_mean"] == pytest.approx(decibels.mean(), abs=1e-6)
    assert steady["band_1_mean"] == pytest.approx(10 * np.log10(0.5), abs=0.01), "the power of a sine of amplitude 1"
    assert (steady["band_1_std"], steady["flux"]) == pytest.approx((0, 0), abs=1e-3)
    changing = spectra.spectrogram_features(np.where(TIMES % 1 < 0.5, sine(60), sine(310)), 200, 5)
    assert changing["band_4_std"] > 30
    assert changing["flux"] > 0.2
    assert changing["entropy"] == pytest.approx(np.log(2) / np.log(5), abs=0.03)
    silence = spectra.spectrogram_features(np.zeros(400), 200, 2)
    assert silence == {"band_1_mean": -120, "band_1_std": 0, "band_2_mean": -120, "band_2_std": 0, "flux": 0, "entropy": 0}
