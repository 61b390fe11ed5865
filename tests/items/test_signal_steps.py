"""Signals are filtered, cut into windows and learned from, by the public API."""

from __future__ import annotations

import pytest

from tests.client import Client
from tests.datasets.test_generated_signals import generated
from tests.exhaustive import exhaustive

pytestmark = pytest.mark.exhaustive

INGESTED = [
    "samples", "sample_rate", "duration", "rms", "kurtosis", "skewness", "crest_factor", "peak", "dominant_frequency",
    "envelope_frequency", "envelope_prominence", "envelope_band",
]  # fmt: skip


@pytest.mark.parametrize("recordings", [8, exhaustive(24)])
async def test_faults_of_bearings_are_learned_from_windows_of_recordings(ada: Client, worker: object, recordings: int) -> None:
    parameters = {"recordings": recordings, "windows": 1, "samples": 24_576, "snr_db": 0, "speed_variation": 0.05}
    version = await generated(ada, generator="bearing_vibration", parameters=parameters, seed=5)
    steps = [
        ("data", "dataset", {}),
        ("drop", "drop_columns", {"columns": [*INGESTED, "split", "severity"]}),
        ("detrend", "detrend_signal", {}),
        ("windows", "signal_windows", {"length": 8_192}),
        ("features", "signal_features", {"bands": 0}),
        ("split", "split", {"strategy": "group", "group_column": "group", "test_fraction": 0.3}),
        ("train", "train_random_forest", {"target": "label", "exclude": ["key", "signal_rms", "signal_peak"]}),
    ]
    pipeline = (await ada.create_pipeline("windows", *steps, modality="SIGNAL"))["pipeline"]
    assert pipeline["status"] == "VALIDATED"
    started = await ada.run_pipeline(pipeline["id"], version, seed=3)
    ended = await ada.wait(started["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    outputs = {node["key"]: node["output"] for node in ended["nodes"]}
    rows = 3 * 4 * recordings
    assert outputs["features"] == {"rows": rows, "columns": 12, "added_columns": 9, "rows_before": rows // 3}
    assert outputs["split"]["train_rows"] % 3 == outputs["split"]["test_rows"] % 3 == 0, "no recording is on both sides"
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key last } } }", id=started["run"]["id"])
    assert {metric["key"]: metric["last"] for metric in run["metrics"]}["accuracy"] >= 0.95
