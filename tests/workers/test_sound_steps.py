"""What steps make of the contents of recordings, each against an independent computation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import recording_of, zip_of
from tests.lazy_module import LazyModule
from tests.workers.item_files import ingested, predict_items
from tests.workers.pipeline_runner import chain, pipeline_error, run
from workers.ml.contents import sounds
from workers.ml.contents.content import Content, ContentOperation
from workers.ml.steps.contents import columns_name, content_step
from workers.ml.steps.registry import STEPS
from workers.ml.steps.step import Parameters

FFT: Any = LazyModule("scipy.fft")
SIGNAL: Any = LazyModule("scipy.signal")


def sound(samples: Any, rate: int = 8_000) -> Content:
    values = np.asarray(samples, dtype=np.float64)
    return Content("audio", values[:, None] if values.ndim == 1 else values, float(rate))


def tone(frequency: float, rate: int, seconds: float = 1.0) -> Any:
    return np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


def test_a_resampled_tone_is_the_tone_and_one_that_does_not_fit_is_gone() -> None:
    content = sounds.resample(sound(tone(440, 44_100) + tone(7_000, 44_100), 44_100), rate=8_000)
    assert (content.rate, len(content.values)) == (8_000, 8_000)
    middle = slice(500, 7_500)  # the filter rings at the ends
    np.testing.assert_allclose(content.values[middle, 0], tone(440, 8_000)[middle], atol=2e-3)
    assert sounds.resample(content, rate=8_000) is content


def test_silence_is_cut_off_at_both_ends_and_channels_are_averaged() -> None:
    quiet = np.zeros(4_000)
    both = np.stack([np.concatenate([quiet, tone(500, 8_000), quiet]), np.zeros(16_000)], axis=1)
    content = sounds.trim(sound(both), threshold=40, margin=0.1)
    assert (content.start, len(content.values)) == (3_200, 8_000 + 2 * 800)
    np.testing.assert_array_equal(content.values, both[3_200:12_800])
    np.testing.assert_array_equal(sounds.mono(content).values[:, 0], both[3_200:12_800, 0] / 2)
    silent = sound(quiet)
    assert sounds.trim(silent, threshold=40, margin=0) is silent


def test_statistics_of_bands_and_cepstra_are_those_of_scipy() -> None:
    generator = np.random.default_rng(3)
    samples = 0.3 * tone(600, 8_000, 2) + 0.05 * generator.normal(size=16_000)
    found = sounds.features(sound(samples), bands=20, coefficients=13, window=0.032, top=4_000)
    _, _, power = SIGNAL.spectrogram(
        samples, 8_000, window="hann", nperseg=256, noverlap=128, detrend="constant", scaling="spectrum", mode="psd"
    )
    mels = np.linspace(0, 2_595 * np.log10(1 + 4_000 / 700), 22)
    edges = 700 * (10 ** (mels / 2_595) - 1)
    frequencies = np.arange(129) * 8_000 / 256
    filters = np.stack([np.interp(frequencies, edges[band : band + 3], [0, 1, 0], left=0, right=0) for band in range(20)])
    levels = 10 * np.log10(np.maximum(filters @ power, 1e-10))
    cepstra = FFT.dct(levels, axis=0, norm="ortho")[:13]
    expected = {
        f"{name}_{number}_{statistic}": float(getattr(np, statistic)(row))
        for name, rows in (("mel", levels), ("mfcc", cepstra))
        for number, row in enumerate(rows, 1)
        for statistic in ("mean", "std")
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    # Channels of opposite phase do not cancel each other.
    opposite = sounds.features(sound(np.stack([samples, -samples], axis=1)), bands=20, coefficients=13, window=0.032, top=4_000)
    assert opposite == pytest.approx(found, rel=1e-9, abs=1e-9)
    with pytest.raises(sounds.ContentError, match="Choose a shorter window"):
        sounds.features(sound(samples, 192_000), bands=20, coefficients=13, window=0.9, top=4_000)


def test_recordings_of_several_rates_become_one_table(tmp_path: Path) -> None:
    files = {f"a/{rate}.wav": recording_of(0.5 * tone(1_000, rate), "WAV", rate) for rate in (8_000, 16_000)}
    frame, items = ingested(tmp_path / "ingest", zip_of(files), "s.zip", "AUDIO")
    steps = (
        "audio_mono",
        ("resample_audio", {"rate": 8_000}),
        "trim_audio",
        ("audio_features", {"bands": 8, "coefficients": 4, "top": 4_000}),
    )
    result, report = run(tmp_path, frame, chain(*steps), items=items)
    rows = pl.read_parquet(result["parquet"]).select(pl.selectors.starts_with("audio_"))
    assert rows.width == 24 == report.outputs["audio_features"]["added_columns"]
    loudest = rows.select(pl.selectors.matches("^audio_mel_.*_mean$")).to_numpy().argmax(axis=1)
    assert loudest.tolist() == [3, 3]
    np.testing.assert_allclose(rows["audio_mel_4_mean"].to_numpy(), rows["audio_mel_4_mean"][0], atol=0.1)


class _Nothing(Parameters):
    """No parameters."""


class _Level(Parameters):
    name: str = columns_name("level")


def _halves(content: Content) -> Iterator[Content]:
    """Two parts of what is loud enough."""
    if abs(content.values).max() > 0.01:
        middle = len(content.values) // 2
        yield replace(content, values=content.values[:middle])
        yield replace(content, values=content.values[middle:], start=middle)


@pytest.fixture
def dividing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that divide recordings into halves, and read how loud they are."""
    options: Any = {"title": "t", "description": "d", "modalities": ("AUDIO",)}
    halves = content_step("halves", parameters=_Nothing, content=ContentOperation("divide", lambda _: _halves), **options)
    level = content_step(
        "level", parameters=_Level, content=ContentOperation("read", lambda _: lambda each: {"rms": float(each.values.std())}), **options
    )
    monkeypatch.setitem(STEPS, "halves", halves)
    monkeypatch.setitem(STEPS, "level", level)


def _loudness(folder: Path, first: int, count: int) -> Any:
    """Recordings whose second half is louder, the louder the higher their number; and one of silence."""
    files = {
        f"{'ab'[number % 2]}/{number:02}.wav": recording_of(tone(500, 8_000, 0.2) * np.repeat([number / 40, number / 20], 800), "WAV")
        for number in range(first, first + count)
    }
    files["a/00.wav"] = recording_of(np.full(1_600, 1e-4), "WAV")
    return ingested(folder, zip_of(files), "s.zip", "AUDIO")


def test_parts_of_items_are_rows_that_stay_together(tmp_path: Path, dividing: None) -> None:
    frame, items = _loudness(tmp_path / "ingest", 1, 10)
    whole = ("level", {"name": "whole"})
    keep = ("select_columns", {"columns": ["key", "label"]})
    split = ("split", {"strategy": "group", "group_column": "key", "test_fraction": 0.3})
    result, report = run(tmp_path, frame, chain(keep, whole, "halves", "level", ("level", {"name": "again"}), split), items=items)
    rows = pl.read_parquet(result["parquet"])
    assert report.outputs["level2"] == {"rows": 20, "columns": 4, "added_columns": 1, "rows_before": 11}
    assert rows.columns == ["key", "label", "whole_rms", "level_rms", "again_rms", "split"]
    assert rows["key"].to_list() == [key for key in frame["key"] if key != "a/00.wav" for _ in range(2)]
    np.testing.assert_array_equal(rows["level_rms"].to_numpy(), rows["again_rms"].to_numpy())
    number = rows["key"].str.slice(2, 2).cast(pl.Float64).to_numpy() / np.tile([40, 20], 10) / np.sqrt(2)
    np.testing.assert_allclose(rows["level_rms"].to_numpy(), number, rtol=1e-3)
    assert rows.group_by("key").agg(pl.col("split").n_unique())["split"].unique().to_list() == [1]
    error = pipeline_error(tmp_path, frame, chain("halves", "halves", "level"), items=items)
    assert (error.code, error.path) == ("UNSOUND_PIPELINE", ["definition", "nodes", "2", "step"])


def test_predictions_of_parts_are_rows_too(tmp_path: Path, dividing: None) -> None:
    frame, items = _loudness(tmp_path / "ingest", 1, 10)
    split = ("split", {"strategy": "group", "group_column": "key"})
    train = ("train_linear_regression", {"target": "level_rms", "exclude": ["key"]})
    steps = [
        ("select_columns", {"columns": ["key"]}),
        "halves",
        "level",
        ("level", {"name": "again"}),
        split,
        train,
    ]
    result, _ = run(tmp_path, frame, chain(*steps), items=items)
    others, other_items = _loudness(tmp_path / "others", 12, 4)
    predicted = predict_items(tmp_path, result, others, other_items)
    rows = pl.read_parquet(predicted["parquet"])
    assert (predicted["row_count"], predicted["answer"]["rows"], predicted["answer"]["predicted"]) == (8, 8, 8)
    assert rows["key"].to_list() == [key for key in others["key"] if key != "a/00.wav" for _ in range(2)]
    expected = rows["key"].str.slice(2, 2).cast(pl.Float64).to_numpy() / np.tile([40, 20], 4) / np.sqrt(2)
    np.testing.assert_allclose(rows["prediction"].to_numpy(), expected, rtol=1e-3)
