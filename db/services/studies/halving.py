"""Studies by HYPERBAND: how many steps their trials have, after which of them they are compared, and whether the pipeline can be ended between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from db.core.checks import Checks
from db.core.search_space import SearchParameter
from db.services.pipelines import definitions
from db.services.pipelines.suitability import Training
from db.services.studies.budgets import Budget
from db.services.studies.objectives import curve_metrics
from db.tables.studies import StudyMethod

HALVING_FIELDS = {"min_steps": "minSteps", "max_steps": "maxSteps", "reduction_factor": "reductionFactor"}
FACTOR = 3
_RUNGS = 2  # by default: after a 27th of the training, the rank says little but which trials learn fast


def apply(
    checks: Checks,
    method: StudyMethod,
    budget: Budget,
    definition: definitions.Definition,
    training: Training,
    space: Sequence[SearchParameter],
    metric: str,
) -> tuple[Budget, definitions.Definition]:
    """Return the budget with the defaults of HYPERBAND, and the definition whose training has that many steps; of other methods, as they are.

    By default the steps are those of the pipeline, with rungs after the 9th and the 3rd part of them.
    """
    if method is not StudyMethod.HYPERBAND:
        for name, field in HALVING_FIELDS.items():
            if getattr(budget, name) is not None:
                checks.add(
                    "budget", field, message="Only HYPERBAND ends trials before their last step. Leave this out, or use that method."
                )
        return budget, definition
    properties = training.step.parameter_schema.get("properties", {})
    steps_name = next((name for name, schema in properties.items() if schema.get("x-steps")), None)
    if steps_name is None:
        message = f"Step {training.key!r} ({training.step.title}) does not train step by step, so HYPERBAND could end no trial early. "
        checks.add("method", message=message + "Choose a pipeline that boosts, grows a forest or trains a network, or another method.")
        return budget, definition
    for index, parameter in enumerate(space):
        if (parameter.node, parameter.name) == (training.key, steps_name):
            message = f"HYPERBAND itself says how many steps a trial has: at most `maxSteps` of the budget. Leave {parameter.key} out."
            checks.add("space", index, "name", message=message)
    curves = curve_metrics(training)
    if metric not in curves:
        message = (
            f"HYPERBAND compares trials during their training, and {metric[:100]!r} is measured after it. Use one of {', '.join(curves)}."
        )
        checks.add("objective", "metric", message=message)
    own = training.parameters.get(steps_name, properties[steps_name].get("default"))
    max_steps = own if budget.max_steps is None else budget.max_steps
    refusals = definitions.parameter_issues(training.step, {**training.parameters, steps_name: max_steps})
    if refusals:
        checks.add("budget", "maxSteps", message=f"{training.key}.{steps_name} does not take {max_steps}: {refusals[0].message}")
    factor = budget.reduction_factor or FACTOR
    min_steps = budget.min_steps or max(1, max_steps // factor**_RUNGS)
    if min_steps >= max_steps:
        message = f"Trials are first compared after {min_steps:,} steps, and end after {max_steps:,}. Give fewer, or raise `maxSteps`."
        checks.add("budget", "minSteps", message=message)
    nodes = [
        {**node, "parameters": {**node["parameters"], steps_name: max_steps}} if node["key"] == training.key else node
        for node in definition["nodes"]
    ]
    return replace(budget, min_steps=min_steps, max_steps=max_steps, reduction_factor=factor), {**definition, "nodes": nodes}
