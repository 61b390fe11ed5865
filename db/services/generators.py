"""The generators of synthetic data: what they are called and which parameters they take. Their code is in `workers.ml.generating`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from db.tables.datasets import Modality, ProblemType

MAX_CELLS = 20_000_000
MAX_ITEMS = 20_000

Parameters = Mapping[str, Any]
Faults = dict[str, str]


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator of data. `parameter_schema` is a JSON Schema with a default for each parameter.

    `faults` returns what is wrong with complete parameters together, by parameter.
    """

    key: str
    title: str
    description: str
    parameter_schema: dict[str, Any]
    faults: Callable[[Parameters], Faults]
    modality: Modality = Modality.TABULAR
    problem_type: ProblemType | None = None
    target_column: str | None = None
    suffix: str = ".parquet"
    content_type: str = "application/vnd.apache.parquet"

    @property
    def filename(self) -> str:
        """The name of the file that it writes."""
        return self.key + self.suffix

    def with_defaults(self, parameters: Parameters) -> dict[str, Any]:
        """Return all parameters: those given, and the defaults of the others."""
        defaults = {name: schema["default"] for name, schema in self.parameter_schema["properties"].items()}
        complete = {**defaults, **parameters}
        if "informative" in complete and "informative" not in parameters:
            complete["informative"] = min(complete["informative"], complete["features"])
        return complete


def _table_faults(parameters: Parameters) -> Faults:
    cells = parameters["rows"] * parameters["features"]
    if cells > MAX_CELLS:
        return {"rows": f"Rows times features are {cells:,} cells; at most {MAX_CELLS:,} are generated. Ask for less of either."}
    return {}


def _informative_faults(parameters: Parameters) -> Faults:
    faults, informative = _table_faults(parameters), parameters["informative"]
    if informative > parameters["features"]:
        faults["informative"] = f"Of {parameters['features']} features, {informative} cannot be informative."
    return faults


def _classification_faults(parameters: Parameters) -> Faults:
    faults, informative = _informative_faults(parameters), parameters["informative"]
    if parameters["classes"] > 2**informative:
        faults["classes"] = f"{informative} informative features have corners for {2**informative} classes at most; ask for more of them."
    return faults


def _bearing_faults(parameters: Parameters) -> Faults:
    faults: Faults = {}
    items = 4 * parameters["recordings"] * parameters["windows"]
    samples = items * parameters["samples"]
    if items > MAX_ITEMS:
        faults["recordings"] = (
            f"Four classes of this many recordings and windows are {items:,} signals; at most {MAX_ITEMS:,} are generated. Ask for less of either."
        )
    if samples > MAX_CELLS:
        faults["samples"] = (
            f"All signals together have {samples:,} samples; at most {MAX_CELLS:,} are generated. Ask for fewer or shorter signals."
        )
    if parameters["severities"] > parameters["recordings"]:
        faults["severities"] = f"{parameters['recordings']} recordings of a class cannot be of {parameters['severities']} levels."
    if parameters["balls"] * parameters["ball_diameter"] >= math.pi * parameters["pitch_diameter"]:
        faults["balls"] = (
            f"{parameters['balls']} balls of this diameter do not fit on the pitch circle. Ask for fewer, smaller or a larger circle."
        )
    if parameters["resonance"] >= parameters["sampling_rate"] / 2:
        faults["resonance"] = (
            f"At a sampling rate of {parameters['sampling_rate']:,} Hz, signals have frequencies below {parameters['sampling_rate'] / 2:,.0f} Hz."
            " Lower the resonance or raise the rate."
        )
    return faults


def _shot_faults(parameters: Parameters) -> Faults:
    faults: Faults = {}
    samples = parameters["shots"] * parameters["traces"] * parameters["samples"]
    if samples > MAX_CELLS:
        faults["samples"] = (
            f"All traces together have {samples:,} samples; at most {MAX_CELLS:,} are generated. Ask for fewer or shorter traces."
        )
    highest = 500 / parameters["interval"]
    if 2.5 * parameters["frequency"] > highest:  # above it, a Ricker wavelet has less than a hundredth of its amplitude
        faults["frequency"] = (
            f"Samples every {parameters['interval']:g} ms have frequencies below {highest:,.0f} Hz, and wavelets have some of up to 2.5 times their"
            " peak frequency. Lower either."
        )
    return faults


def _integer(default: int, low: int, high: int, description: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "default": default, "description": description}


def _number(default: float, low: float, high: float, description: str) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, "default": default, "description": description}


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    rows = _integer(1_000, 10, 1_000_000, "How many rows.")
    missing = _number(0.0, 0.0, 0.9, "The share of the cells of features that are left empty, at random.")
    return _object(rows=rows, **properties, missing=missing)


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _features(default: int) -> dict[str, Any]:
    return _integer(default, 1, 200, "How many columns `feature_1`, `feature_2` and so on.")


_INFORMATIVE = _integer(5, 1, 200, "How many features carry information on the target; the others are noise.")


def _declared(*generators: Generator) -> Mapping[str, Generator]:
    return {generator.key: generator for generator in generators}


GENERATORS = _declared(
    Generator(
        "classification",
        "Classification",
        "A table with a text column `label`. The rows of a class lie around a corner of a hypercube of the informative features.",
        _schema(
            features=_features(10),
            informative=_INFORMATIVE,
            classes=_integer(2, 2, 50, "How many classes, `class_1` and on, of about equal size."),
            separation=_number(1.0, 0.01, 10.0, "The distance between the classes: the higher, the easier to tell apart."),
            flipped=_number(0.01, 0.0, 1.0, "The share of labels that are replaced at random, which no model can predict."),
        ),
        _classification_faults,
        problem_type=ProblemType.CLASSIFICATION,
        target_column="label",
    ),
    Generator(
        "regression",
        "Regression",
        "A table with a number column `target`, which is a linear function of the informative features, with noise.",
        _schema(
            features=_features(10),
            informative=_INFORMATIVE,
            noise=_number(1.0, 0.0, 1_000.0, "The standard deviation of the noise in the target."),
        ),
        _informative_faults,
        problem_type=ProblemType.REGRESSION,
        target_column="target",
    ),
    Generator(
        "blobs",
        "Blobs",
        "A table of points in normally distributed groups, for clustering. The column `group` has the number of the group, which a clustering is"
        " to find without it.",
        _schema(
            features=_features(2),
            groups=_integer(3, 1, 100, "How many groups, of about equal size."),
            spread=_number(1.0, 0.01, 100.0, "The standard deviation of the points of a group; the centres lie between -10 and 10."),
        ),
        _table_faults,
        problem_type=ProblemType.CLUSTERING,
    ),
    Generator(
        "bearing_vibration",
        "Bearing vibration",
        "An archive of vibration signals of rolling bearings, for the classification of faults: `healthy`, `inner` (race), `outer` (race) and `ball`."
        " Each passage of a fault excites a resonance that dies away; rotation and noise are added. Faults have the severities `level_1` and on, each 1.5"
        " times as strong as the one before. Recordings differ in their shaft speed and in their loudness, and are cut into windows, which are the"
        " signals. All windows of a recording are of one split; the column `group` has the recording, for a split by groups.",
        _object(
            recordings=_integer(12, 2, 5_000, "How many recordings of each class."),
            windows=_integer(4, 1, 1_000, "How many signals each recording is cut into."),
            samples=_integer(6_000, 256, 1_000_000, "How many samples a signal has."),
            sampling_rate=_integer(12_000, 1_000, 200_000, "Samples per second."),
            shaft_speed=_number(1_797.0, 60.0, 30_000.0, "The speed of the shaft in revolutions per minute."),
            speed_variation=_number(0.05, 0.0, 0.5, "By which share the speeds of recordings are lower or higher, at most."),
            balls=_integer(9, 4, 60, "How many balls the bearing has."),
            ball_diameter=_number(7.94, 0.5, 500.0, "The diameter of a ball in millimetres."),
            pitch_diameter=_number(39.04, 2.0, 5_000.0, "The diameter of the circle of the centres of the balls in millimetres."),
            contact_angle=_number(0.0, 0.0, 60.0, "The angle in degrees by which the contact of balls and races is off the radius."),
            severities=_integer(3, 1, 8, "How many levels of severity a fault has."),
            resonance=_number(3_000.0, 200.0, 50_000.0, "The frequency in Hz that an impact excites."),
            damping=_number(0.05, 0.02, 0.5, "The damping ratio of the resonance: the higher, the sooner it has died away."),
            slip=_number(0.01, 0.0, 0.1, "The standard deviation of the intervals between impacts, as a share of them."),
            snr_db=_number(0.0, -30.0, 60.0, "The power of rotation and impacts over that of the noise in dB; at 0 they are equal."),
            test_fraction=_number(0.25, 0.01, 0.9, "The share of the recordings of each class that are filed under `test`, one at least."),
        ),
        _bearing_faults,
        modality=Modality.SIGNAL,
        problem_type=ProblemType.CLASSIFICATION,
        target_column="label",
        suffix=".zip",
        content_type="application/zip",
    ),
    Generator(
        "seismic_shots",
        "Seismic shots",
        "A SEG-Y file of shots over layered ground. Each shot is an item: a gather of traces with the direct wave, hyperbolic reflections that all shots"
        " share, and noise. Wavelets are Ricker's.",
        _object(
            shots=_integer(10, 2, 10_000, "How many shots."),
            traces=_integer(48, 2, 2_000, "How many traces a shot has, on one side of it."),
            samples=_integer(500, 50, 10_000, "How many samples a trace has."),
            interval=_number(4.0, 0.25, 20.0, "The time between samples in milliseconds."),
            trace_spacing=_number(25.0, 1.0, 200.0, "The distance between traces, and between shots, in metres."),
            events=_integer(5, 1, 50, "How many reflections arrive, at random times."),
            velocity=_number(
                2_000.0,
                300.0,
                8_000.0,
                "The velocity of the ground in metres per second; it is half as much again at the end of the trace.",
            ),
            frequency=_number(25.0, 1.0, 500.0, "The peak frequency of the wavelet in Hz."),
            snr_db=_number(10.0, -30.0, 60.0, "The power of the waves over that of the noise in dB; at 0 they are equal."),
        ),
        _shot_faults,
        modality=Modality.SIGNAL,
        suffix=".sgy",
        content_type="application/x-segy",
    ),
)
