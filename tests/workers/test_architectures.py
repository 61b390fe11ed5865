"""Neural networks: their architecture in closed form is that of the trained arrays, and one definition has one hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.lazy_module import LazyModule
from tests.workers.pipeline_runner import artifact_path, chain, run
from workers.ml import architectures

TRUST: Any = LazyModule("workers.ml.artifacts.trust")
RANDOM = np.random.default_rng(4)
FRAME = pl.DataFrame({name: RANDOM.normal(size=90) for name in "abcd"}).with_columns(
    kind=pl.Series(["one", "two", "three"] * 30), side=pl.Series(["left", "right"] * 45)
)
CASES = [
    ("kind", {"hidden_layers": [7, 3], "activation": "tanh"}, "3-7-3-3 tanh", [7, 3]),
    exhaustive("side", {"width": 6}, "3-6-1 relu", [6]),
    exhaustive("d", {"layers": 2}, "3-100-100-1 relu", [100, 100]),
    exhaustive("d", {"layers": 3, "width": 5, "hidden_layers": [9], "activation": "logistic"}, "3-5-5-5-1 logistic", [5, 5, 5]),
]


@pytest.mark.parametrize(("target", "parameters", "text", "hidden"), CASES)
def test_the_size_of_a_network_is_that_of_its_arrays(
    tmp_path: Path, target: str, parameters: dict[str, Any], text: str, hidden: list[int]
) -> None:
    step = ("train_mlp", {"max_iter": 1, "batch_size": 16, "target": target, **parameters})
    result, _ = run(tmp_path, FRAME.select("a", "b", "c", target), chain(step))
    model = TRUST.load_model(artifact_path(result, "MODEL"))["model"]
    arrays = [*model.coefs_, *model.intercepts_]
    definition = {"type": "perceptron", "hidden": hidden, "activation": parameters.get("activation", "relu")}
    assert result["architecture"] == text
    assert result["network"] == {
        "definition": definition,
        "hash": architectures.digest(definition),
        "parameterCount": sum(each.size for each in arrays),
        "flops": sum(2 * each.size for each in model.coefs_),
        "sizeBytes": sum(each.nbytes for each in arrays),
    }
    assert (model.batch_size, result["hyperparameters"]["batch_size"], result["hyperparameters"]["hidden_layers"]) == (16, 16, hidden)
    assert f"`{text}`" in artifact_path(result, "MODEL_CARD").read_text()


def test_a_hash_is_of_the_definition_whatever_its_keys_order() -> None:
    hashes = {
        architectures.digest(definition)
        for definition in (
            {"type": "perceptron", "hidden": [4, 4], "activation": "relu"},
            {"activation": "relu", "hidden": [4, 4], "type": "perceptron"},
            dict(architectures.perceptron([9, 4, 4, 2], "relu").definition),
        )
    }
    # Of {"activation":"relu","hidden":[4,4],"type":"perceptron"}, by sha256sum.
    assert hashes == {"101cb5e19cce5d6af6e27f1558164743569b1c3596163d046cea25069f08c2d9"}
    assert architectures.digest({"type": "perceptron", "hidden": [4], "activation": "relu"}) not in hashes
