"""Draws points whose architecture no trial of the study has had."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from workers.ml.architectures import digest
from workers.ml.errors import BadInput
from workers.ml.steps.registry import STEPS
from workers.ml.studies.drawing import Drawn
from workers.ml.studies.space import Values

MAX_REDRAWS = 20


def new_architecture(definition: Mapping[str, Any], taken: Collection[str], number: int, draw: Callable[[int], Drawn]) -> Drawn:
    """Return the first of the points `draw(0)`, `draw(1)` and so on whose architecture is not `taken`, with its hash.

    Points that differ only in how they say an architecture, or in parameters besides it, count as one. The same arguments give the same point.
    Raises `BadInput` (NO_NEW_ARCHITECTURE) after so many redraws.
    """
    for redraw in range(MAX_REDRAWS + 1):
        drawn = draw(redraw)
        hash_ = digest(architecture_of(definition, drawn["parameters"]))
        if hash_ not in taken:
            return {**drawn, "architecture_hash": hash_}
    message = (
        f"Each of {MAX_REDRAWS + 1} points that were drawn for trial {number:,} has an architecture that the study has tried already: {len(set(taken)):,} of them."
        " Widen its space in another study, or give this one fewer trials."
    )
    raise BadInput("NO_NEW_ARCHITECTURE", message)


def architecture_of(definition: Mapping[str, Any], parameters: Values) -> dict[str, Any]:
    """Return the definition of the architecture that a pipeline trains with these parameters, {"node.name": value}."""
    for node in definition["nodes"]:
        step = STEPS[node["step"]]
        if step.trainer is not None and step.trainer.architecture is not None:
            prefix = f"{node['key']}."
            own = {key.removeprefix(prefix): value for key, value in parameters.items() if key.rpartition(".")[0] == node["key"]}
            return step.trainer.architecture.definition(step.parameters(**{**node["parameters"], **own}))
    raise ValueError("No step of the pipeline trains a neural network.")
