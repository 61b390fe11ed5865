"""What an explanation tells: its attributions, and its data as a JSON object or as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import polars as pl

from workers.ml.explaining.contributions import Contributions
from workers.ml.explaining.occlusion import Occlusion
from workers.ml.explaining.outputs import Outputs
from workers.ml.explaining.partial_dependence import Curve
from workers.ml.explaining.permutation import PermutationImportance
from workers.ml.json_values import json_value

MAX_ATTRIBUTIONS = 500
TEXT_LENGTH = 200  # of a value in the data
LABEL_LENGTH = 1_000_000  # a label is whole


class Attribution(TypedDict):
    feature: str
    meanAbsolute: float
    mean: float | None
    standardDeviation: float | None
    classLabel: str | None


@dataclass(frozen=True)
class Told:
    """`attributions` in order; `document` is JSON, `table` makes the same as rows for a file, if the document is too large."""

    attributions: list[Attribution]
    document: dict[str, Any]
    table: Callable[[], pl.DataFrame]
    error: float | None = None
    rows: int = field(default=0)


def _attribution(feature: str, values: np.ndarray, label: str | None) -> Attribution:
    """Of the values of one feature over rows or repetitions."""
    return {
        "feature": feature,
        "meanAbsolute": float(np.abs(values).mean()),
        "mean": float(values.mean()),
        "standardDeviation": float(values.std()) if len(values) > 1 else None,
        "classLabel": label,
    }


def _in_order(attributions: Sequence[Attribution]) -> list[Attribution]:
    return sorted(attributions, key=lambda each: (-each["meanAbsolute"], each["feature"], each["classLabel"] or ""))[:MAX_ATTRIBUTIONS]


def _shared(rows: int, total: int) -> dict[str, Any]:
    return {"rows": rows, "rowsInAll": total}


def tell_contributions(
    found: Contributions, names: Sequence[str], values: Mapping[str, pl.Series], predictions: np.ndarray | None, total: int
) -> Told:
    """`values` are those of the rows in columns that have one; a date that the model takes in parts has none here. `predictions` are of the target."""
    rows = found.values.shape[1]
    attributions = [
        _attribution(name, found.values[output, :, index], label)
        for output, label in enumerate(found.labels)
        for index, name in enumerate(names)
    ]
    shown = {name: json_value(series.to_list(), TEXT_LENGTH) for name, series in values.items()}
    document: dict[str, Any] = {
        **_shared(rows, total),
        "scale": found.scale,
        "features": list(names),
        "values": shown,
        "outputs": [
            {
                "classLabel": label,
                "baseValue": float(found.base[output]),
                "predictions": found.predictions[output].tolist(),
                "contributions": found.values[output].tolist(),
            }
            for output, label in enumerate(found.labels)
        ],
    }
    if predictions is not None:
        document["predicted"] = json_value(predictions.tolist(), TEXT_LENGTH)
    return Told(_in_order(attributions), document, lambda: pl.concat(list(_contribution_tables(found, names, values))), found.error, rows)


def _contribution_tables(found: Contributions, names: Sequence[str], values: Mapping[str, pl.Series]) -> Iterator[pl.DataFrame]:
    rows = found.values.shape[1]
    for output, label in enumerate(found.labels):
        columns: dict[str, Any] = {
            "row": np.arange(1, rows + 1),
            "class_label": pl.Series([label] * rows, dtype=pl.String),
            "base_value": np.full(rows, found.base[output]),
            "prediction": found.predictions[output],
        }
        columns |= {f"contribution of {name}": found.values[output, :, index] for index, name in enumerate(names)}
        columns |= {f"value of {name}": series for name, series in values.items()}
        yield pl.DataFrame(columns)


def tell_permutation(found: PermutationImportance, names: Sequence[str], rows: int, total: int) -> Told:
    attributions = [_attribution(name, found.losses[index], None) for index, name in enumerate(names)]
    document = {
        **_shared(rows, total),
        "metric": found.metric,
        "score": found.score,
        "features": list(names),
        "losses": found.losses.tolist(),
    }
    return Told(_in_order(attributions), document, lambda: _permutation_table(found, names), None, rows)


def _permutation_table(found: PermutationImportance, names: Sequence[str]) -> pl.DataFrame:
    repeats = found.losses.shape[1]
    return pl.DataFrame(
        {
            "feature": [name for name in names for _ in range(repeats)],
            "repetition": list(range(1, repeats + 1)) * len(names),
            "loss": found.losses.reshape(-1),
        }
    )


def tell_curves(curves: Sequence[Curve], outputs: Outputs, rows: int, total: int) -> Told:
    attributions: list[Attribution] = []
    for curve in curves:
        for output, label in enumerate(outputs.labels):
            mean = curve.mean[output]
            distances = _attribution(curve.feature, mean - mean.mean(), label)
            attributions.append({**distances, "mean": float(mean.mean())})
    document = {
        **_shared(rows, total),
        "quantity": outputs.quantity,
        "curves": [
            {
                "feature": curve.feature,
                "values": json_value(list(curve.values), TEXT_LENGTH),
                "outputs": [
                    {"classLabel": label, "mean": curve.mean[output].tolist(), "individual": curve.individual[output].tolist()}
                    for output, label in enumerate(outputs.labels)
                ],
            }
            for curve in curves
        ],
    }
    return Told(_in_order(attributions), document, lambda: _curve_tables(curves, outputs), None, rows)


def _curve_tables(curves: Sequence[Curve], outputs: Outputs) -> pl.DataFrame:
    return pl.concat([_curve_table(curve, output, label) for curve in curves for output, label in enumerate(outputs.labels)])


def _curve_table(curve: Curve, output: int, label: str | None) -> pl.DataFrame:
    """A row for each point: of the mean without a number of a row, then of each row that is shown."""
    individual = curve.individual[output]
    points, rows = len(curve.values), len(individual)
    texts = [str(value) for value in curve.values]
    return pl.DataFrame(
        {
            "feature": [curve.feature] * (points * (rows + 1)),
            "class_label": pl.Series([label] * (points * (rows + 1)), dtype=pl.String),
            "row": pl.Series([None] * points + [row for row in range(1, rows + 1) for _ in range(points)], dtype=pl.Int64),
            "value": texts * (rows + 1),
            "prediction": np.concatenate([curve.mean[output], individual.reshape(-1)]),
        }
    )


def tell_occlusion(found: Occlusion, quantity: str) -> Told:
    (tops, lefts), is_image = found.bounds, found.content.kind == "image"
    attributions: list[Attribution] = []
    for row, column in np.ndindex(found.effects.shape):
        across = f"{lefts[column]}–{lefts[column + 1] - 1}"
        part = (
            f"x {across}, y {tops[row]}–{tops[row + 1] - 1}"
            if is_image
            else f"{'frames' if found.content.values.ndim > 2 else 'samples'} {across}"
        )
        attributions.append(_attribution(part, found.effects[row, column : column + 1], found.label))
    document: dict[str, Any] = {
        "rows": 1,
        "kind": found.content.kind,
        "quantity": quantity,
        "prediction": found.prediction,
        "classLabel": found.label,
        "x": list(lefts),
        "effects": found.effects.tolist() if is_image else found.effects[0].tolist(),
    }
    if is_image:
        document["y"] = list(tops)
    elif found.content.rate is not None:
        document["sampleRate"] = found.content.rate
    return Told(_in_order(attributions), document, lambda: pl.DataFrame(attributions, infer_schema_length=None), None, 1)
