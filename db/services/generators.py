"""The generators of synthetic data: what they are called and which parameters they take. Their code is in `workers.ml.generating`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from db.tables.datasets import Modality, ProblemType

MAX_CELLS = 20_000_000


@dataclass(frozen=True, slots=True)
class Generator:
    """A generator of data. `parameter_schema` is a JSON Schema with a default for each parameter."""

    key: str
    title: str
    description: str
    parameter_schema: dict[str, Any]
    modality: Modality = Modality.TABULAR
    problem_type: ProblemType | None = None
    target_column: str | None = None

    def with_defaults(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return all parameters: those given, and the defaults of the others."""
        defaults = {name: schema["default"] for name, schema in self.parameter_schema["properties"].items()}
        complete = {**defaults, **parameters}
        if "informative" in complete and "informative" not in parameters:
            complete["informative"] = min(complete["informative"], complete["features"])
        return complete

    def faults(self, parameters: Mapping[str, Any]) -> Mapping[str, str]:
        """Return what is wrong with complete parameters together, by parameter."""
        faults: dict[str, str] = {}
        cells = parameters["rows"] * parameters["features"]
        if cells > MAX_CELLS:
            faults["rows"] = f"Rows times features are {cells:,} cells; at most {MAX_CELLS:,} are generated. Ask for less of either."
        informative = parameters.get("informative", 0)
        if informative > parameters["features"]:
            faults["informative"] = f"Of {parameters['features']} features, {informative} cannot be informative."
        if self.key == "classification" and parameters["classes"] > 2**informative:
            faults["classes"] = (
                f"{informative} informative features have corners for {2**informative} classes at most; ask for more of them."
            )
        return faults


def _integer(default: int, low: int, high: int, description: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high, "default": default, "description": description}


def _number(default: float, low: float, high: float, description: str) -> dict[str, Any]:
    return {"type": "number", "minimum": low, "maximum": high, "default": default, "description": description}


def _schema(**properties: dict[str, Any]) -> dict[str, Any]:
    rows = _integer(1_000, 10, 1_000_000, "How many rows.")
    missing = _number(0.0, 0.0, 0.9, "The share of the cells of features that are left empty, at random.")
    return {"type": "object", "additionalProperties": False, "properties": {"rows": rows, **properties, "missing": missing}}


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
        problem_type=ProblemType.CLUSTERING,
    ),
)
