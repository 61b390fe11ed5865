"""Vibration of rolling bearings with faults: a ZIP of WAV files in class folders, and `metadata.csv`.

P. D. McFadden and J. D. Smith, "Model for the vibration produced by a single point defect in a rolling element bearing" (1984): each time a fault is
rolled over, it excites a resonance that dies away. R. B. Randall and J. Antoni, "Rolling element bearing diagnostics - A tutorial" (2011): the
frequencies, and the slip that makes the intervals between impacts random.
"""

from __future__ import annotations

import csv
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

HEALTHY, INNER, OUTER, BALL = "healthy", "inner", "outer", "ball"
CLASSES: Final = (HEALTHY, INNER, OUTER, BALL)
_MILDEST: Final = 0.6  # the amplitude of the impacts of level 1; each level is 1.5 times the one before
_SHAFT: Final = (0.2, 0.1)  # the amplitudes of the rotation and of its second harmonic, as of imbalance and misalignment
_GAINS: Final = (0.5, 2.0)  # between the sensors of two recordings
_BLOCK: Final = 1 << 20  # values of impacts that are in memory at once
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the same seed gives the same bytes
_METADATA: Final = ("file_name", "label", "split", "severity", "recording", "window", "shaft_frequency", "fault_frequency")


@dataclass(frozen=True, slots=True)
class Frequencies:
    """How often a fault is rolled over and how often the load on it rises and falls, both in Hz."""

    fault: float
    load: float


def frequencies(label: str, shaft: float, parameters: dict[str, Any]) -> Frequencies | None:
    """Those of a fault, for a shaft of this frequency in Hz and an outer race at rest; None for a healthy bearing.

    With n balls and r = ball diameter / pitch diameter · cos(contact angle): BPFO = n/2 · shaft · (1 - r), BPFI = n/2 · shaft · (1 + r),
    BSF = shaft / 2 · pitch / ball · (1 - r²), and the cage turns at FTF = shaft / 2 · (1 - r). A fault of a ball meets both races in one turn of the ball.
    """
    ball, pitch = parameters["ball_diameter"], parameters["pitch_diameter"]
    ratio = ball / pitch * np.cos(np.radians(parameters["contact_angle"]))
    half = parameters["balls"] / 2
    if label == OUTER:
        return Frequencies(float(half * shaft * (1 - ratio)), 0.0)
    if label == INNER:
        return Frequencies(float(half * shaft * (1 + ratio)), shaft)
    if label == BALL:
        return Frequencies(float(shaft * pitch / ball * (1 - ratio**2)), float(shaft / 2 * (1 - ratio)))
    return None


def write(parameters: dict[str, Any], seed: int, target: Path, progress: Callable[[float, str], None]) -> dict[str, Any]:
    """Write the archive; return the number of its signals. All windows of a recording are of one split."""
    recordings, windows, samples = parameters["recordings"], parameters["windows"], parameters["samples"]
    rate = parameters["sampling_rate"]
    rows: list[tuple[Any, ...]] = []
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for class_number, label in enumerate(CLASSES):
            generator = np.random.default_rng([seed, class_number])
            tested = round(recordings * parameters["test_fraction"])
            tested = min(max(tested, 1), recordings - 1)
            in_test = set(generator.permutation(recordings)[:tested].tolist())
            for number in range(recordings):
                split = "test" if number in in_test else "train"
                level = number % parameters["severities"] + 1
                shaft = parameters["shaft_speed"] / 60 * (1 + parameters["speed_variation"] * generator.uniform(-1, 1))
                found = frequencies(label, shaft, parameters)
                recorded = _recording(found, shaft, level, windows * samples, parameters, generator)
                severity = "" if found is None else f"level_{level}"
                recording = f"{label}-{number + 1:04}"
                folder = "/".join(filter(None, (split, label, severity)))
                for window, part in enumerate(recorded.reshape(windows, samples), 1):
                    name = f"{folder}/{recording}-{window:03}.wav"
                    archive.writestr(zipfile.ZipInfo(name, _DATE), wav_bytes(part, rate))
                    fault = "" if found is None else repr(found.fault)
                    rows.append((name, label, split, severity, recording, window, repr(shaft), fault))
                progress((class_number * recordings + number + 1) / (len(CLASSES) * recordings), "Record the bearings")
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_METADATA)
        writer.writerows(rows)
        archive.writestr(zipfile.ZipInfo("metadata.csv", _DATE), text.getvalue())
    return {"items": len(rows)}


def _recording(
    found: Frequencies | None, shaft: float, level: int, length: int, parameters: dict[str, Any], generator: np.random.Generator
) -> Samples:
    """Rotation, impacts and noise. The noise has the power of the rest, less the signal-to-noise ratio."""
    rate = parameters["sampling_rate"]
    times = np.arange(length) / rate
    vibration = np.zeros(length)
    for harmonic, amplitude in enumerate(_SHAFT, 1):
        vibration += amplitude * np.sin(2 * np.pi * harmonic * shaft * times + generator.uniform(0, 2 * np.pi))
    if found is not None:
        vibration += _MILDEST * 1.5 ** (level - 1) * _impacts(found, length, parameters, generator)
    power = float(np.mean(vibration**2))
    vibration += generator.normal(scale=np.sqrt(power / 10 ** (parameters["snr_db"] / 10)), size=length)
    low, high = np.log(_GAINS)
    return vibration * np.exp(generator.uniform(low, high))


def _impacts(found: Frequencies, length: int, parameters: dict[str, Any], generator: np.random.Generator) -> Samples:
    """Impacts of amplitude 1, each of which excites the resonance."""
    rate = parameters["sampling_rate"]
    count = int(length / rate * found.fault * 1.5) + 10
    intervals = (1 + parameters["slip"] * np.clip(generator.normal(size=count), -3, 3)) / found.fault
    starts = np.cumsum(intervals) - intervals[0] * generator.uniform()
    starts = starts[starts < length / rate]
    # A fault that turns into and out of the loaded zone is hit more and less hard.
    load = (1 + np.cos(2 * np.pi * found.load * starts + generator.uniform(0, 2 * np.pi))) / 2 if found.load else np.ones(len(starts))
    decay = 2 * np.pi * parameters["damping"] * parameters["resonance"]
    reach = int(np.ceil(7 / decay * rate)) + 1  # exp(-7) is a thousandth
    first = np.ceil(starts * rate).astype(np.int64)
    vibration = np.zeros(length + reach)
    block = max(1, _BLOCK // reach)
    for begin in range(0, len(starts), block):
        some = slice(begin, begin + block)
        places = first[some, None] + np.arange(reach)
        since = places / rate - starts[some, None]  # each start lies between two samples
        values = load[some, None] * np.exp(-decay * since) * np.sin(2 * np.pi * parameters["resonance"] * since)
        base = int(first[begin])
        added = np.bincount((places - base).reshape(-1), values.reshape(-1))
        vibration[base : base + len(added)] += added
    return vibration[:length]


def wav_bytes(samples: Samples, rate: int) -> bytes:
    """One channel of 32-bit floats."""
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 1, rate, 4 * rate, 4, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
