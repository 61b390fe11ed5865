"""What steps make of seismic gathers, and the versions that signals are written to."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import segyio

from tests.archives import csv_of, vibration, zip_of
from tests.exhaustive import exhaustive
from tests.workers.item_files import ingested
from tests.workers.pipeline_runner import chain, pipeline_error, run
from tests.workers.test_gather_processing import hyperbolas, noise
from tests.workers.test_segy import segy
from workers.ml.signal_processing import denoising, filters, gathers, reconstruction
from workers.ml.signal_processing.quality import quality

CLEAN = np.concatenate([hyperbolas(24), 2 * hyperbolas(30)])
TRACES = (CLEAN + noise(CLEAN.shape, 0.002)).astype(np.float32).astype(np.float64)
LINE: dict[str, Any] = {"interval": 4_000, "ensemble": [5] * 24 + [6] * 30}


def _gathers(folder: Path, content: bytes) -> Any:
    return ingested(folder, content, "line.sgy", "SIGNAL")


def _run(folder: Path, signals: Any, *steps: Any) -> tuple[Any, Any, pl.DataFrame]:
    frame, items = signals
    result, report = run(folder, frame, chain(*steps), items=items)
    return result, report, pl.read_parquet(result["parquet"])


def _read(result: Any, folder: Path) -> Any:
    """The traces of a SEG-Y file by an independent reader, and their ensembles."""
    path = folder / "copy.sgy"
    path.write_bytes(Path(result["raw"]["path"]).read_bytes())
    opened: Any = segyio.open(path, strict=False, ignore_geometry=True)
    with opened as file:
        assert file.bin[segyio.BinField.Format] == 5
        return np.array(file.trace.raw[:]), file.attributes(segyio.TraceField.CDP)[:].tolist(), int(file.bin[segyio.BinField.Interval])


def test_traces_are_held_back_reconstructed_compared_and_written(tmp_path: Path) -> None:
    kill = ("kill_traces", {"share": 0.4, "seed": 3})
    result, report, table = _run(
        tmp_path, _gathers(tmp_path / "in", segy(TRACES, **LINE)), kill, "reconstruct_traces", "trace_quality", "write_signals"
    )
    values, ensembles, interval = _read(result, tmp_path)
    assert (ensembles, interval) == (LINE["ensemble"], 4_000)
    changed = ~np.isclose(values, TRACES, atol=1e-6).all(axis=1)
    assert [int(changed[:24].sum()), int(changed[24:].sum())] == [10, 12], "the others are as they were"
    expected = quality(TRACES[changed], values[changed])
    output = report.outputs["write_signals"]
    assert output == {
        "items": 2,
        "bytes": 3_600 + 54 * 1_240,
        "held_back_traces": 22,
        **{name: pytest.approx(expected[name], rel=1e-4) for name in ("snr", "psnr", "mse")},
    }
    assert output["snr"] >= 6
    for part, rows in enumerate((slice(0, 24), slice(24, 54))):
        lost = changed[rows]
        whole = reconstruction.pocs(TRACES[rows], lost, 40, 0.1)
        assert values[rows] == pytest.approx(whole, abs=1e-5)
        found = quality(TRACES[rows][lost], whole[lost])
        assert {name: table[part, name] for name in found} == pytest.approx(found)
        assert {name: table[part, f"traces_{name}"] for name in found} == pytest.approx(found)
        assert table[part, "rms"] == pytest.approx(np.sqrt((whole**2).mean()), rel=1e-4)
    assert result["raw"]["format"] == "SEGY"
    lines = [json.loads(line) for line in Path(result["items"]["file"]).read_text().splitlines()]
    assert [(line["key"], line["info"]["channels"], line["features"]["snr"], line["preview_size"] > 500) for line in lines] == [
        ("cdp/5", 24, table[0, "snr"], True),
        ("cdp/6", 30, table[1, "snr"], True),
    ]
    assert result["items"]["summary"]["signal"]["sample_rate"] == 250


@pytest.mark.parametrize(
    "options",
    [{"code": 3}, exhaustive({"order": "<"}), exhaustive({"order": "<", "code": 2}), exhaustive({"interval": 2_000})],
)
def test_gathers_of_any_format_are_filtered_and_written_with_their_headers(tmp_path: Path, options: dict[str, Any]) -> None:
    traces = np.round(TRACES * 500) if "code" in options else TRACES
    content = segy(traces, **{**LINE, **options})
    signals = _gathers(tmp_path / "in", content)
    rate = 1e6 / {**LINE, **options}["interval"]
    steps = [
        ("bandpass_signal", {"low": 5, "high": 60}),
        ("gain_traces", {"window": 0.2}),
        ("denoise_traces", {"rank": 3}),
        ("resample_signal", {"rate": rate / 2}),
    ]
    result, _, _ = _run(tmp_path, signals, *steps, "write_signals")
    raw = Path(result["raw"]["path"]).read_bytes()
    assert raw[:3_200] == content[:3_200]
    order = options.get("order", ">")
    written = np.frombuffer(raw[3_600:], np.uint8).reshape(54, 240 + 4 * 125)
    assert np.ascontiguousarray(written[:, 20:24]).view(f"{order}i4")[:, 0].tolist() == LINE["ensemble"]
    values = np.ascontiguousarray(written[:, 240:]).view(f"{order}f4")
    for rows in (slice(0, 24), slice(24, 54)):
        filtered = gathers.automatic_gain(filters.bandpass(traces[rows], rate, (5, 60), 4), round(0.2 * rate))
        assert values[rows] == pytest.approx(filters.resample(denoising.reduce_rank(filtered, 3), rate, rate / 2), abs=1e-4)
    assert np.frombuffer(raw[3_216:3_222], f"{order}u2")[[0, 2]].tolist() == [round(2e6 / rate), 125]


def test_dead_traces_are_reconstructed_and_loud_ones_removed(tmp_path: Path) -> None:
    traces = TRACES[:24].copy()
    traces[4], traces[9] = 0, 50 * traces[9]
    signals = _gathers(tmp_path / "in", segy(traces, interval=4_000))
    steps = [("kill_traces", {"method": "loud"}), ("reconstruct_traces", {"method": "pchip"}), "write_signals"]
    result, report, table = _run(tmp_path, signals, *steps)
    assert report.outputs["write_signals"] == {"items": 1, "bytes": 3_600 + 24 * 1_240}
    missing = np.isin(np.arange(24), [4, 9])
    assert _read(result, tmp_path)[0] == pytest.approx(reconstruction.interpolate_pchip(traces, missing), abs=1e-5)
    assert "snr" not in table.columns
    error = pipeline_error(tmp_path, signals[0], chain("trace_quality"), items=signals[1])
    assert "it has no trace that was held back. Link a kill_traces step before this one" in error.message


def test_other_signals_are_written_as_an_archive_of_arrays_with_their_labels(tmp_path: Path) -> None:
    files = {
        f"{split}/{label}/{number}.csv": vibration(20, number + len(label))
        for split in ("train", "test")
        for label in ("good", "bad")
        for number in (1, 2)
    }
    signals = ingested(tmp_path / "in", zip_of({name: csv_of(each) for name, each in files.items()}), "s.zip", "SIGNAL")
    keep = ("filter_rows", {"conditions": [{"column": "label", "operator": "equals", "value": "bad"}]})
    windows = ("signal_windows", {"length": 500})
    result, report, table = _run(tmp_path, signals, keep, "detrend_signal", windows, ("signal_features", {"bands": 0}), "write_signals")
    assert report.outputs["write_signals"]["items"] == 8
    assert result["raw"]["format"] == "ZIP"
    expected = {
        f"{key.removesuffix('.csv')}{'-000000500' if start else ''}.npz": filters.detrend(files[key], "linear")[start : start + 500]
        for key in files if "bad" in key for start in (0, 500)
    }  # fmt: skip
    with zipfile.ZipFile(result["raw"]["path"]) as archive:
        for path, samples in expected.items():
            arrays = np.load(io.BytesIO(archive.read(path)))
            assert (arrays["sampling_rate"], arrays["signal"].tolist()) == (1_000, [samples.tolist()])
    assert dict(zip(table["key"], table["rms"], strict=True)) == pytest.approx(
        {path: float(np.sqrt((samples**2).mean())) for path, samples in expected.items()}
    )
    assert table["signal_rms"].to_list() == pytest.approx(table["rms"].to_list())
    assert (table["label"].unique().to_list(), sorted(table["split"].unique())) == (["bad"], ["test", "train"])


def test_what_has_no_effect_on_written_items_is_refused(tmp_path: Path) -> None:
    signals = _gathers(tmp_path / "in", segy(TRACES[:6], interval=4_000))
    for steps, key in (
        (["write_signals", "signal_features"], "signal_features"),
        (["impute", "write_signals"], "impute"),
        (["write_signals", ("train_k_means", {"n_clusters": 2})], "train_k_means"),
    ):
        error = pipeline_error(tmp_path, signals[0], chain(*steps), items=signals[1])
        assert (error.code, error.message) == (
            "UNSOUND_PIPELINE",
            f"'write_signals' writes items, whose table is read anew, so '{key}' would have no effect. Remove one of them.",
        )
    empty = chain(("filter_rows", {"conditions": [{"column": "traces", "operator": "greater_than", "value": 99}]}), "write_signals")
    assert pipeline_error(tmp_path, signals[0], empty, items=signals[1]).code == "NO_ROWS"
