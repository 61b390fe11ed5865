"""Gain, reconstruction and noise of seismic gathers, against independent computations and known truths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from workers.ml.signal_processing import denoising, gathers, reconstruction
from workers.ml.signal_processing.errors import Unsuitable
from workers.ml.signal_processing.patches import Patches
from workers.ml.signal_processing.quality import quality

NDIMAGE: Any = LazyModule("scipy.ndimage")
TIMES = np.arange(250) * 0.004


def events(*arrivals: Any) -> Any:
    """Traces with Ricker wavelets of 25 Hz at these times."""
    phase = (np.pi * 25 * (TIMES - np.stack(arrivals)[..., None])) ** 2
    return ((1 - 2 * phase) * np.exp(-phase)).sum(axis=0)


def hyperbolas(traces: int = 48) -> Any:
    offsets = 10.0 * np.arange(1, traces + 1)
    return events(*(np.sqrt(zero**2 + (offsets / velocity) ** 2) for zero, velocity in ((0.2, 1_800), (0.45, 2_200), (0.7, 2_600))))


def noise(shape: Any, power: float, seed: int = 3) -> Any:
    return np.random.default_rng(seed).normal(scale=np.sqrt(power), size=shape)


@pytest.mark.parametrize("window", [25, 26, 1_000])
def test_automatic_gain_divides_by_the_level_around(window: int) -> None:
    values = hyperbolas(5) * np.exp(-3 * TIMES) + noise((5, 250), 1e-3)
    sums, counts = (NDIMAGE.uniform_filter1d(each, window, axis=1, mode="constant") for each in (values**2, np.ones_like(values)))
    if window < 250:
        assert gathers.automatic_gain(values, window) == pytest.approx(values / np.sqrt(sums / counts))
    levelled = gathers.automatic_gain(values, window)
    assert np.sqrt((levelled**2).mean()) == pytest.approx(1, abs=0.05)
    assert gathers.automatic_gain(np.zeros((2, 250)), window).any() == np.False_
    burst = np.zeros((1, 250))
    burst[0, :5] = 1e6
    assert np.abs(gathers.automatic_gain(burst, 20)[0, 30:]).max() == 0, "what rounding leaves is not raised"


def test_time_gain_grows_with_the_time() -> None:
    assert gathers.time_gain(np.ones((2, 4)), 2.0, 2.0).tolist() == [[0.25, 1, 2.25, 4]] * 2


def test_traces_are_killed_at_random_and_dead_ones_are_found() -> None:
    mask = gathers.random_traces(40, 0.5, 5)
    assert mask.sum() == 20
    assert mask.tolist() == gathers.random_traces(40, 0.5, 5).tolist() != gathers.random_traces(40, 0.5, 6).tolist()
    assert gathers.random_traces(3, 1.0, 5).sum() == 2, "one is left"
    values = hyperbolas(20)
    values[3], values[4, 5], values[7] = 0, np.nan, values[7] * 1e-4
    assert np.flatnonzero(gathers.dead_traces(values)).tolist() == [3, 4, 7]
    assert gathers.dead_traces(np.zeros((2, 5))).all()
    values = hyperbolas(20)
    values[[2, 9]] *= [[4], [20]]
    assert np.flatnonzero(gathers.loud_traces(values, 10)).tolist() == [9]
    assert not gathers.loud_traces(np.zeros((2, 5)), 10).any()


def test_traces_are_interpolated_from_their_nearest_neighbours() -> None:
    values = noise((12, 30), 1.0)
    missing = np.zeros(12, dtype=np.bool_)
    missing[[0, 3, 4, 5, 9, 11]] = True
    known = np.flatnonzero(~missing)
    expected = np.stack([np.interp(np.arange(12), known, values[known, sample]) for sample in range(30)], axis=1)
    assert reconstruction.interpolate_linearly(values, missing) == pytest.approx(expected)
    cubic = reconstruction.interpolate_pchip(values, missing)
    assert cubic[~missing].tolist() == values[~missing].tolist()
    low, high = np.minimum(values[2], values[6]), np.maximum(values[2], values[6])
    assert ((cubic[3:6] >= low - 1e-12) & (cubic[3:6] <= high + 1e-12)).all(), "it does not overshoot"
    assert cubic[[0, 11]] == pytest.approx(values[[1, 10]])
    lines = np.outer(np.arange(12), np.ones(30))
    assert reconstruction.interpolate_pchip(lines, missing)[3:6] == pytest.approx(lines[3:6])
    for function in (reconstruction.interpolate_linearly, reconstruction.interpolate_pchip):
        alone = function(values, np.arange(12) != 4)
        assert alone.tolist() == [values[4].tolist()] * 12
        with pytest.raises(Unsuitable, match="no trace to reconstruct others from"):
            function(values, np.ones(12, dtype=np.bool_))


@pytest.mark.parametrize("seed", [1, exhaustive(2), exhaustive(3), exhaustive(4), exhaustive(5)])
def test_half_of_the_traces_are_reconstructed_by_pocs(seed: int) -> None:
    clean = hyperbolas()
    noisy = clean + noise(clean.shape, (clean**2).mean() / 10, seed)
    missing = gathers.random_traces(len(clean), 0.5, seed)
    assert quality(noisy[missing], 0 * noisy[missing])["snr"] == pytest.approx(0), "zeros in their place are 0 dB"
    found = reconstruction.pocs(np.where(missing[:, None], np.nan, noisy), missing, 40, 0.1)
    assert found[~missing].tolist() == noisy[~missing].tolist()
    by_line = quality(noisy[missing], reconstruction.interpolate_linearly(noisy, missing)[missing])["snr"] or 0
    by_pocs = quality(noisy[missing], found[missing])["snr"] or 0
    assert by_pocs >= max(6, by_line + 0.5)
    assert (quality(clean[missing], found[missing])["snr"] or 0) >= 8


def test_straight_events_are_reconstructed_nearly_exactly() -> None:
    clean = events(0.2 + 0.004 * np.arange(32), 0.7 - 0.003 * np.arange(32))
    missing = gathers.random_traces(32, 0.4, 1)
    assert (quality(clean[missing], reconstruction.pocs(clean, missing, 100, 0.01)[missing])["snr"] or 0) >= 12


def test_noise_is_removed_by_the_rank_of_straight_events() -> None:
    clean = events(0.2 + 0.004 * np.arange(40), 0.7 - 0.003 * np.arange(40))
    noisy = clean + noise(clean.shape, (clean**2).mean())
    found = denoising.reduce_rank(noisy, 2)
    assert (quality(clean, found)["snr"] or 0) >= 6 + (quality(clean, noisy)["snr"] or 0)
    assert denoising.reduce_rank(noisy, 16) == pytest.approx(noisy), "of full rank, nothing is removed"


def test_a_reduced_rank_is_that_of_the_hankel_matrix() -> None:
    values = noise((9, 16), 1.0)
    spectra = np.fft.rfft(values, 32, axis=1)
    expected = np.zeros_like(spectra)
    for frequency in range(17):
        hankel = np.array([[spectra[row + column, frequency] for column in range(5)] for row in range(5)])
        left, singular, right = np.linalg.svd(hankel)
        singular[2:] = 0
        matrix = left @ np.diag(singular) @ right
        for trace in range(9):
            expected[trace, frequency] = np.mean([matrix[row, trace - row] for row in range(5) if 0 <= trace - row < 5])
    assert denoising.reduce_rank(values, 2) == pytest.approx(np.fft.irfft(expected, 32, axis=1)[:, :16])


@pytest.mark.parametrize("shape", [(48, 250), (10, 20), (33, 65), (32, 64), (1, 3)])
def test_patches_that_overlap_make_the_whole(shape: tuple[int, int]) -> None:
    values = noise(shape, 1.0)
    patches = Patches.of(shape, (32, 64))
    parts = patches.cut(values)
    assert parts.shape[1:] == (min(32, shape[0]), min(64, shape[1]))
    assert patches.join(parts) == pytest.approx(values)


def test_the_quality_of_an_estimate() -> None:
    truth = np.array([3.0, -4.0])
    assert quality(truth, truth + 0.5) == pytest.approx({"mse": 0.25, "snr": 10 * np.log10(12.5 / 0.25), "psnr": 10 * np.log10(16 / 0.25)})
    assert quality(truth, truth) == {"mse": 0, "snr": None, "psnr": None}
