"""What a neural network is made of, and how large it is, in closed form.

The inputs and the outputs follow from the data, so a definition does not have them: the same definition has the same hash on any data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypedDict

from pydantic.config import JsonDict

FLOAT64_BYTES = 8
ARCHITECTURE: JsonDict = {"x-architecture": True}
"""Marks a parameter of a training step that the architecture depends on: a study of architectures searches at least one."""


class ArchitectureDocument(TypedDict):
    """As it is stored with a run; the names are those of the API."""

    definition: Mapping[str, Any]
    hash: str
    parameterCount: int
    flops: int
    sizeBytes: int


@dataclass(frozen=True)
class Architecture:
    """`text` is for people. `definition` is normalised: equal networks have equal ones, however their parameters say it.

    `flops` are two for each multiplication with its addition, of one row; biases and activations are not counted. `size_bytes` is the size
    of the parameters in memory.
    """

    text: str
    definition: Mapping[str, Any]
    parameter_count: int
    flops: int
    size_bytes: int

    def document(self) -> ArchitectureDocument:
        return {
            "definition": self.definition,
            "hash": digest(self.definition),
            "parameterCount": self.parameter_count,
            "flops": self.flops,
            "sizeBytes": self.size_bytes,
        }


def digest(definition: Mapping[str, Any]) -> str:
    """The SHA-256 of a definition as JSON without spaces, its keys in order."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def perceptron_definition(hidden: Sequence[int], activation: str) -> dict[str, Any]:
    return {"type": "perceptron", "hidden": list(hidden), "activation": activation}


def perceptron(units: Sequence[int], activation: str) -> Architecture:
    """A multilayer perceptron of these units of each layer, inputs and outputs included, which computes with 64 bits."""
    parameters = sum((inputs + 1) * outputs for inputs, outputs in pairwise(units))
    return Architecture(
        f"{'-'.join(map(str, units))} {activation}",
        perceptron_definition(units[1:-1], activation),
        parameters,
        2 * sum(inputs * outputs for inputs, outputs in pairwise(units)),
        parameters * FLOAT64_BYTES,
    )
