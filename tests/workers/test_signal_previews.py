"""The previews of signals: a waveform in a lane a channel, a gather as an image."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workers.ml.items.signal_preview import gather_preview, signal_preview


def pixels(preview: bytes) -> Any:
    with Image.open(io.BytesIO(preview)) as image:
        assert image.format == "WEBP"
        return np.asarray(image.convert("RGB"), dtype=np.int64)


def drawn(preview: bytes) -> Any:
    return pixels(preview).sum(axis=2) < 600


def test_a_waveform_goes_from_the_least_to_the_greatest_sample_of_each_part_of_the_time() -> None:
    samples = np.zeros(100_000)
    samples[50_000:] = np.tile([1.0, -1.0], 25_000)
    ink = drawn(signal_preview([samples]))
    assert ink.shape == (64, 128)
    assert ink[:, :62].sum(axis=0).max() <= 3, "a line, in the middle"
    assert ink[30:34, :62].any(axis=0).all()
    assert ink[:, 66:].sum(axis=0).min() >= 60, "it fills the height"


def test_a_single_sample_of_a_long_signal_is_seen_and_a_short_signal_is_a_line() -> None:
    samples = np.zeros(1_000_000)
    samples[250_000] = 5
    columns = drawn(signal_preview([samples])).sum(axis=0)
    assert (columns > 50).nonzero()[0].tolist() in ([31, 32], [32], [32, 33])
    rising = drawn(signal_preview([np.array([0.0, 1.0])]))
    assert rising.any(axis=0).all()
    assert rising.argmax(axis=0)[[2, 125]].tolist() == pytest.approx([61, 1], abs=2)


def test_channels_have_lanes_and_samples_that_are_no_numbers_leave_gaps() -> None:
    gap = np.sin(np.arange(1_280) / 9)
    gap[320:640] = np.nan
    ink = drawn(signal_preview([np.full(1_280, 7.0), gap]))
    assert ink[:32].sum(axis=0).max() <= 3, "a constant is a line"
    assert not ink[32:, 34:62].any()
    assert ink[32:, :30].any(axis=0).all()
    for extreme in (np.array([-1.7e308, 1.7e308, 0.0]), np.array([np.inf, 1.0, 2.0]), np.array([np.inf, -np.inf, np.nan, 0.0])):
        assert drawn(signal_preview([extreme])).any()


def test_a_gather_has_a_column_a_trace_with_time_downwards() -> None:
    values = np.zeros((300, 2_000))
    values[:, 480:520] = np.tile([2.0, -1.0], 20)
    values[90:110, 1_480:1_520] = np.tile([-3.0, 2.0], 20)
    image = pixels(gather_preview(values))
    assert image.shape == (128, 128, 3)
    red, green, blue = image[32].mean(axis=0)
    assert red > 140 > max(green, blue), "what is farthest from 0 is positive there"
    red, green, blue = image[96, 43]
    assert blue > 120 > max(red, green)
    assert image[64].min() > 230
    assert pixels(gather_preview(np.zeros((3, 5)))).min() > 250
    assert pixels(gather_preview(np.full((2, 2), np.nan))).min() > 250
    assert pixels(signal_preview(list(values[:5]))).shape == (128, 128, 3), "many channels are drawn as a gather"
