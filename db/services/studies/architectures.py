"""Studies of architectures (kind NAS): what must hold of one so that each of its trials can have another architecture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from db.core.checks import Checks
from db.core.search_space import SearchParameter
from db.services.pipelines.suitability import Training
from db.services.studies.budgets import Budget
from db.tables.studies import StudyMethod


def check(
    checks: Checks, method: StudyMethod, budget: Budget, training: Training, space: Sequence[SearchParameter], *, is_reproducible: bool
) -> None:
    """Add an issue where the pipeline trains no neural network, the space has no architectures or too few, or a trial could not be drawn again."""
    schemas = training.step.parameter_schema.get("properties", {})
    names = [name for name, schema in schemas.items() if schema.get("x-architecture")]
    if not names:
        message = f"Step {training.key!r} ({training.step.title}) declares no architecture that could be searched. "
        checks.add("kind", message=message + "Choose a pipeline that trains a neural network, such as with train_mlp, or the kind HPO.")
        return
    if method is StudyMethod.GRID:
        message = "A grid has its points, some with the same architecture, and none can be drawn again. Choose RANDOM or another method, or the kind HPO."
        checks.add("method", message=message)
    if is_reproducible and budget.max_parallel != 1:
        message = (
            "Which architectures a trial may have depends on all before it, so a reproducible study of architectures makes one at a time. "
        )
        checks.add("budget", "maxParallel", message=message + "Set it to 1, or leave `reproducible` out.")
    searched = [parameter for parameter in space if parameter.node == training.key and parameter.name in names]
    if not searched:
        message = (
            f"None of these parameters changes the architecture. Search some of {', '.join(sorted(names))} of the node {training.key!r}."
        )
        checks.add("space", message=message)
        return
    # Where the condition of a parameter does not hold, the pipeline's own value does.
    most = math.prod(parameter.count + (parameter.condition is not None) for parameter in searched)
    if most < budget.max_trials:
        message = (
            f"The space has at most {int(most):,} architectures, and the budget {budget.max_trials:,} trials, each of which needs another. "
        )
        checks.add("budget", "maxTrials", message=message + "Lower it, or widen the space.")
