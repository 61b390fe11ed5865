"""The metrics that the trials of a study report, and which of their values are better."""

from __future__ import annotations

from collections.abc import Sequence

from db.core.checks import Checks
from db.core.search_space import SearchParameter
from db.queries.goals import Goal, goal_of
from db.services.pipelines.definitions import Definition, Steps, may_hold_out_validation_rows
from db.services.pipelines.suitability import Training
from db.tables.datasets import ProblemType
from db.tables.pipelines import StepType

MAX_METRIC = 200  # characters

# What is measured at the end, and during a training that iterates, by problem type: see `workers.ml.scoring`.
_SCORES = {
    ProblemType.CLASSIFICATION: ("accuracy", "f1_macro", "precision_macro", "recall_macro", "roc_auc", "log_loss"),
    ProblemType.REGRESSION: ("rmse", "mae", "r2"),
    ProblemType.CLUSTERING: ("silhouette", "noise_share", "inertia", "log_likelihood"),
    ProblemType.OTHER: ("outlier_share",),
}
_CURVES = {ProblemType.CLASSIFICATION: ("loss", "accuracy"), ProblemType.REGRESSION: ("loss", "r2")}


_VALIDATION = "validation_"


def reported_metrics(definition: Definition, steps: Steps, training: Training, space: Sequence[SearchParameter]) -> list[str]:
    """The metrics that runs of the definition report: of the test rows, of its evaluations, and of trainings that iterate.

    Those of validation rows are reported where some are held out, be it by a parameter of the space.
    """
    types = _problem_types(training)
    scores = [name for type_ in types for name in _SCORES.get(type_, ())]
    names = list(scores)
    for node in definition["nodes"]:
        step = steps.get(node["step"])
        if step is None or step.type is not StepType.EVALUATE:
            continue
        if step.key == "cross_validate":
            names += [f"cv_{name}_{statistic}" for name in scores for statistic in ("mean", "std")]
        elif (part := node["parameters"].get("part", "test")) != "test":
            names += [f"{part}_{name}" for name in scores]
    names += curve_metrics(training)
    if not may_hold_out_validation_rows(definition, steps, {(parameter.node, parameter.name) for parameter in space}):
        names = [name for name in names if not name.startswith(_VALIDATION)]
    return list(dict.fromkeys(names))


def curve_metrics(training: Training) -> list[str]:
    """The metrics that are measured during a training that iterates, of the validation rows and of the training rows."""
    names = dict.fromkeys(name for type_ in _problem_types(training) for name in _CURVES.get(type_, ()))
    return [f"{rows}_{name}" for rows in ("validation", "train") for name in names]


def _problem_types(training: Training) -> list[ProblemType]:
    return [ProblemType.CLASSIFICATION, ProblemType.REGRESSION] if training.problem_type is None else [training.problem_type]


def check_objective(checks: Checks, metric: str, goal: Goal | None, reported: list[str]) -> Goal:
    """Return the goal of the metric; add an issue if no run reports it, or if its goal is not known and not told."""
    if metric not in reported:
        message = f"The runs of this pipeline do not report {metric[:MAX_METRIC]!r}. They report: {', '.join(reported)}."
        if metric.startswith(_VALIDATION) and not any(name.startswith(_VALIDATION) for name in reported):
            message += " Set validation_fraction in a split step: no rows are held out for validation."
        elif not any(name.startswith("cv_") for name in reported):
            message += " Add a node cross_validate, or evaluate with the validation rows, for metrics of other rows."
        checks.add("objective", "metric", message=message)
    known = goal or goal_of(metric)
    if known is None:
        message = f"Whether greater or smaller values of {metric[:MAX_METRIC]!r} are better is not known. Say MAXIMIZE or MINIMIZE."
        checks.add("objective", "goal", message=message)
    return known or Goal.MAXIMIZE
