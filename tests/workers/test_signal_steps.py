"""What steps make of signals: filtered, cut into windows and read, item by item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.archives import csv_of, npy_of, vibration, zip_of
from tests.workers.item_files import ingested
from tests.workers.pipeline_runner import chain, pipeline_error, run
from workers.ml.items.signals import channel_features
from workers.ml.signal_processing import filters, spectra
from workers.ml.steps.registry import STEPS

FILES = {f"{'ab'[number % 2]}/{number:02}.csv": vibration(20 + 10 * number, number, length=1_000 + 50 * number) for number in range(8)}
KEEP = ("select_columns", {"columns": ["key", "label"]})


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ingested(tmp_path_factory.mktemp("signals"), zip_of({name: csv_of(each) for name, each in FILES.items()}), "s.zip", "SIGNAL")


def _written(folder: Path, signals: Any, *steps: Any) -> pl.DataFrame:
    frame, items = signals
    return pl.read_parquet(run(folder, frame, chain(KEEP, *steps), items=items)[0]["parquet"])


def test_filtered_signals_are_read_as_what_is_left_of_them(tmp_path: Path, signals: Any) -> None:
    rows = _written(
        tmp_path,
        signals,
        ("signal_features", {"name": "raw", "bands": 0}),
        "detrend_signal",
        ("bandpass_signal", {"low": 30, "high": 60, "order": 3}),
        ("resample_signal", {"rate": 400}),
        ("signal_features", {"bands": 4}),
        ("signal_envelope", {"low": 20, "high": 80}),
        ("signal_spectrogram", {"segment": 64, "bands": 2, "name": "envelope"}),
    )
    for row, samples in zip(rows.iter_rows(named=True), (FILES[name] for name in rows["key"]), strict=True):
        assert row["raw_rms"] == pytest.approx(np.sqrt((samples**2).mean()))
        kept = filters.resample(filters.bandpass(filters.detrend(samples[None], "linear"), 1_000, (30, 60), 3), 1_000, 400)
        expected = channel_features(kept[0], 400)
        assert {name: row[f"signal_{name}"] for name in expected} == pytest.approx(expected)
        assert [row[f"signal_band_{band}"] for band in (1, 2, 3, 4)] == pytest.approx(spectra.band_shares(kept[0], 4))
        statistics = spectra.spectrogram_features(filters.envelope(kept, 400, (20, 80))[0], 64, 2)
        assert {name: row[f"envelope_{name}"] for name in statistics} == pytest.approx(statistics)


def test_samples_are_columns_with_those_of_channels_beside_each_other(tmp_path: Path, signals: Any) -> None:
    rows = _written(tmp_path, signals, ("signal_windows", {"length": 400}), ("signal_samples", {"name": "x"}))
    expected = [FILES[key][start : start + 400] for key in FILES for start in range(0, len(FILES[key]) - 399, 400)]
    np.testing.assert_allclose(rows.select(f"x_{number}" for number in range(1, 401)).to_numpy(), expected)
    two = np.arange(24.0).reshape(12, 2)
    (tmp_path / "two").mkdir()
    frame, items = ingested(tmp_path / "two", zip_of({"a/1.npy": npy_of(two), "b/2.npy": npy_of(-two)}), "t.zip", "SIGNAL")
    (tmp_path / "read").mkdir()
    result, _ = run(tmp_path / "read", frame, chain(KEEP, ("signal_samples", {"name": "x"})), items=items)
    read = pl.read_parquet(result["parquet"]).select(f"x_{number}" for number in range(1, 25))
    assert read.rows() == [tuple(two.ravel()), tuple(-two.ravel())]


def test_windows_are_rows_that_a_split_keeps_together_or_refuses(tmp_path: Path, signals: Any) -> None:
    windows = ("signal_windows", {"length": 400, "stride": 200})
    split = ("split", {"strategy": "group", "group_column": "key", "test_fraction": 0.3})
    rows = _written(tmp_path, signals, windows, "signal_features", split)
    expected = [(key, float(np.sqrt((each[start : start + 400] ** 2).mean()))) for key in FILES for each in [FILES[key]]
                for start in range(0, len(each) - 399, 200)]  # fmt: skip
    assert rows["key"].to_list() == [key for key, _ in expected]
    assert rows["signal_rms"].to_list() == pytest.approx([rms for _, rms in expected])
    assert rows.group_by("key").agg(pl.col("split").n_unique())["split"].unique().to_list() == [1]
    frame, items = signals
    train = ("train_random_forest", {"target": "label", "exclude": ["key"], "n_estimators": 10})
    for steps, path, advice in (
        ([train], ["definition", "nodes", "4"], "Link a split step before it, with the strategy `group` and the group_column `key`."),
        ([("split", {"strategy": "stratified"}), train], [*_path(4), "strategy"], "Set its strategy `group` and the group_column `key`."),
    ):
        error = pipeline_error(tmp_path, frame, chain(KEEP, windows, "signal_features", *steps), items=items)
        assert (error.code, error.path) == ("PARTS_ON_BOTH_SIDES", path)
        assert "'signal_windows' divides items into parts, which are alike" in error.message
        assert error.message.endswith(advice)
    unsupervised = chain(
        KEEP, windows, "signal_features", ("drop_columns", {"columns": ["key", "label"]}), "impute", ("train_k_means", {"n_clusters": 2})
    )
    run(tmp_path, frame, unsupervised, items=items)


def _path(index: int) -> list[str]:
    return ["definition", "nodes", str(index), "parameters"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (("bandpass_signal", {"low": None, "high": 600}), "its frequencies end at 500 Hz; the limit 600 Hz must be below."),
        (("bandpass_signal", {"low": 60, "high": 50}), "would be filtered from 60 to 50 Hz, which is no band."),
        (("signal_spectrogram", {"segment": 4_096}), "has 1,000 samples, and a segment has 4,096. Choose a shorter segment."),
        (("resample_signal", {"rate": 1e9}), "would have more than 268,435,456 samples. Choose a lower rate."),
    ],
)
def test_what_a_signal_cannot_take_names_it(tmp_path: Path, signals: Any, step: Any, words: str) -> None:
    frame, items = signals
    steps = chain(step, "signal_features") if step[0] != "signal_spectrogram" else chain(step)
    error = pipeline_error(tmp_path, frame, steps, items=items)
    assert (error.code, error.path) == ("BAD_CONTENT", _path(1))
    assert error.message == f"Step '{step[0]}' cannot use the item 'a/00.csv': it {_before(words)}{words}"


def _before(words: str) -> str:
    return "has 1,000 samples per second, so " if words.startswith("its frequencies") else ""


def test_signals_without_a_rate_are_filtered_only_where_none_is_needed(tmp_path: Path) -> None:
    two = np.stack([vibration(20, 1), vibration(30, 2)])
    frame, items = ingested(tmp_path / "in", zip_of({"a/1.npy": npy_of(two), "b/2.npy": npy_of(2 * two)}), "s.zip", "SIGNAL")
    error = pipeline_error(tmp_path, frame, chain(("bandpass_signal", {"low": None, "high": 50}), "signal_features"), items=items)
    assert error.message.endswith("it has no sampling rate, so frequencies are not known. Give `sampleRate` with the upload.")
    steps = chain(KEEP, "detrend_signal", "signal_envelope", ("signal_features", {"bands": 2}))
    rows = pl.read_parquet(run(tmp_path, frame, steps, items=items)[0]["parquet"])
    envelope = filters.envelope(filters.detrend(two, "linear"))
    assert rows["signal_rms_2"].to_list() == pytest.approx([each * np.sqrt((envelope[1] ** 2).mean()) for each in (1, 2)])
    assert rows["signal_envelope_frequency"].null_count() == rows["signal_dominant_frequency"].null_count() == 2


def test_a_filter_without_a_limit_is_refused_by_its_schema() -> None:
    from jsonschema import Draft202012Validator

    validator: Any = Draft202012Validator(STEPS["bandpass_signal"].parameter_schema)
    for parameters, valid in (
        ({}, False),
        ({"low": None}, False),
        ({"low": 1}, True),
        ({"low": None, "high": None}, False),
        ({"low": None, "high": 2}, True),
    ):
        assert validator.is_valid(parameters) is valid
