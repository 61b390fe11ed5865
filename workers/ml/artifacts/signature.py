"""The model's signature: its inputs and output in machine-readable form."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from workers.ml.bundle import Bundle
from workers.ml.trainer import Trained

NUMERIC_TYPES = {"INTEGER": "number", "FLOAT": "number", "BOOLEAN": "number"}


def signature(bundle: Bundle, trained: Trained) -> dict[str, Any]:
    """Return {inputs: [{name, kind, type}], output}. Kind `number` includes booleans as 0 or 1; missing values of both kinds are null.

    An input that the dataset does not have has `from`, {column, part}: it is the year, month, day, weekday (1 is Monday), hour or minute of
    that column of the dataset.
    """
    schema = bundle.frame.schema
    inputs = [
        {
            "name": name,
            "kind": "number" if schema[name].is_numeric() or bundle.columns[name].type in NUMERIC_TYPES else "text",
            "type": bundle.columns[name].type,
            **({"from": asdict(bundle.date_parts[name])} if name in bundle.date_parts else {}),
        }
        for name in trained.features
    ]
    output: dict[str, Any] = {"problem_type": trained.problem, "target": trained.target}
    if trained.problem == "CLASSIFICATION":
        output["classes"] = np.asarray(trained.pipeline.classes_).tolist()
    elif trained.problem == "CLUSTERING":
        output["clusters"] = int(trained.estimator.n_clusters)
    return {"inputs": inputs, "output": output}
