"""The model's signature: its inputs and output in machine-readable form."""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.ml.bundle import Bundle
from workers.ml.trainer import Trained

NUMERIC_TYPES = {"INTEGER": "number", "FLOAT": "number", "BOOLEAN": "number"}


def signature(bundle: Bundle, trained: Trained) -> dict[str, Any]:
    """Return {inputs: [{name, kind, type, nullable}], output}. Kind `number` includes booleans as 0 or 1; missing values of both kinds are null,
    which the model takes where the input is `nullable`.

    An input that the dataset does not have as such has `from`. {column, part}: it is the year, month, day, weekday (1 is Monday), hour, minute
    and so on of that column; {column, cast}: the column in another type; {column, clean}: the column as `clean_text` with these
    parameters makes it; {column, embedding}: number `dimension` of the embedding of that text by `model`, whose weights have this `sha256`;
    {column}: the column under another name; {formula, columns}: what the formula gives; {content}: what the step of this key reads from the contents
    of an item. `derived`, {name, from}, lists all computations in order, those of columns which only others are computed from included, and those from
    contents not: `contents` has {modalities, steps, columns}, the steps in order, and the names of the columns that each
    makes, and `files` where the items are files: the columns that name them.
    """
    derivations = bundle.derivations_of(trained.features)
    sources = {derivation.name: derivation.document for derivation in derivations}
    schema = bundle.frame.schema
    kinds = {
        name: "number" if schema[name].is_numeric() or bundle.columns[name].type in NUMERIC_TYPES else "text" for name in trained.features
    }
    nullable = trained.predictor.takes_missing(kinds)
    inputs = [
        {
            "name": name,
            "kind": kinds[name],
            "type": bundle.columns[name].type,
            "nullable": name in nullable,
            **({"from": sources[name]} if name in sources else {}),
        }
        for name in trained.features
    ]
    output: dict[str, Any] = {"problem_type": trained.problem, "target": trained.target}
    if trained.problem == "CLASSIFICATION":
        output["classes"] = np.asarray(trained.pipeline.classes_).tolist()
    elif trained.problem == "CLUSTERING":
        output["clusters"] = _cluster_count(trained.estimator)
    derived = [{"name": derivation.name, "from": derivation.document} for derivation in derivations if not derivation.is_from_contents]
    reads_contents = bundle.contents is not None and any(derivation.is_from_contents for derivation in derivations)
    return {
        "inputs": inputs,
        "output": output,
        **({"derived": derived} if derived else {}),
        **({"contents": bundle.contents.document()} if bundle.contents is not None and reads_contents else {}),
    }


def _cluster_count(estimator: Any) -> int:
    for name in ("n_clusters", "n_components"):
        if hasattr(estimator, name):
            return int(getattr(estimator, name))
    return len(estimator.classes_)  # of DBSCAN's core points
