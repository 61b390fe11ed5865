"""Measuring a model: on rows held out, and by cross-validation."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.step import Node, Parameters, Step

if TYPE_CHECKING:
    import numpy as np

    from workers.ml.bundle import Bundle
    from workers.ml.steps.trainer import Trained


class EvaluateParameters(Parameters):
    part: Literal["test", "validation", "train"] = Field(
        default="test", title="Rows", description="The rows to measure on. Metrics of other rows than the test's carry their name in front."
    )


class CrossValidateParameters(Parameters):
    folds: int = Field(
        default=5,
        ge=2,
        le=20,
        title="Folds",
        description="In how many parts the rows are divided; each is predicted once, by a model of the others.",
    )


def evaluate(bundle: Bundle, node: Node) -> dict[str, Any]:
    part = node.parameters.part
    if not len(bundle.part(part)) and not (part == "test" and bundle.problem == "CLUSTERING"):
        raise BadInput(
            "NO_ROWS",
            f"Step '{node.key}' measures on the {part} rows, and there are none. Set {part}_fraction in a split step.",
            path=node.path("part"),
        )
    return {"rows": len(bundle.part(part)), "metrics": measure(bundle, part)}


def measure(bundle: Bundle, part: Literal["test", "validation", "train"]) -> dict[str, float]:
    """Metrics of the finished Pipeline on raw rows, reported as points and kept in the bundle; once for each part."""
    trained = bundle.trained
    assert trained is not None
    prefix = "" if part == "test" else f"{part}_"
    if f"{prefix}{PRINCIPAL[trained.problem]}" in bundle.metrics:
        return {name: value for name, value in bundle.metrics.items() if name in _names(prefix)}
    found = {f"{prefix}{name}": value for name, value in _scores(bundle, trained, bundle.part(part)).items()}
    if trained.problem == "CLUSTERING":
        bundle.metrics["inertia"] = float(trained.estimator.inertia_)
    for name, value in found.items():
        trained.curve.final(name, value)
    bundle.metrics.update(found)
    return {**found, **({"inertia": bundle.metrics["inertia"]} if "inertia" in bundle.metrics else {})}


PRINCIPAL = {"CLASSIFICATION": "accuracy", "REGRESSION": "rmse", "CLUSTERING": "silhouette"}


def _names(prefix: str) -> set[str]:
    from workers.ml.scoring import METRICS

    return {f"{prefix}{name}" for name in METRICS} | {"inertia"}


def _scores(bundle: Bundle, trained: Trained, rows: np.ndarray) -> dict[str, float]:
    from workers.ml import scoring  # numpy; the API imports the registry for its schemas alone
    from workers.ml.steps.train import matrix, target_values

    if trained.problem == "CLUSTERING":
        rows = rows if len(rows) else bundle.part("train")
        points = matrix(trained.pipeline["features"], bundle, trained.features, rows)
        return scoring.clustering_scores(points, trained.estimator.predict(points), bundle.random_state)
    frame, truth = bundle.features(trained.features, rows), target_values(bundle, rows)
    predicted = trained.pipeline.predict(frame)
    if trained.problem == "REGRESSION":
        return scoring.regression_scores(truth, predicted)
    return scoring.classification_scores(truth, predicted, trained.pipeline.predict_proba(frame), trained.pipeline.classes_)


def cross_validate(bundle: Bundle, node: Node) -> dict[str, Any]:
    """Fits transforms and estimator anew in each fold, on its training rows alone; the test rows take no part."""
    import numpy as np  # see _scores
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import Pipeline

    from workers.ml import scoring
    from workers.ml.steps.train import target_values

    trained = bundle.trained
    assert trained is not None
    if trained.problem == "CLUSTERING":
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' compares predictions with a target, and clustering has none. Remove the step.",
            path=node.path(),
        )
    rows = np.concatenate([bundle.part("train"), bundle.part("validation")])
    truth = target_values(bundle, rows)
    frame = bundle.features(trained.features, rows)
    folds, strategy = _folds(bundle, node, truth)
    per_fold: list[dict[str, float]] = []
    for number, (learn, held) in enumerate(folds):
        model = Pipeline([("features", bundle.transformer(trained.features)), ("model", clone(trained.template))])
        with warnings.catch_warnings():
            # The training step has logged it, and says what to do.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(frame[learn], truth[learn])
        predicted = model.predict(frame[held])
        found = (
            scoring.regression_scores(truth[held], predicted)
            if trained.problem == "REGRESSION"
            else scoring.classification_scores(truth[held], predicted, model.predict_proba(frame[held]), model.classes_)
        )
        per_fold.append(found)
        for name, value in found.items():
            trained.curve.point(f"cv_{name}", number, value)
        bundle.report.node(node.key, "running", round(100 * (number + 1) / len(folds)))
        bundle.report.progress(75 + 10 * (number + 1) / len(folds), f"{node.step.title}: {number + 1} of {len(folds)}")
    # A metric that some fold lacks has no mean over the folds.
    for name in [name for name in per_fold[0] if all(name in found for found in per_fold)]:
        values = np.array([found[name] for found in per_fold])
        for key, value in ((f"cv_{name}_mean", values.mean()), (f"cv_{name}_std", values.std())):
            bundle.metrics[key] = float(value)
            trained.curve.final(key, float(value))
    summary = {name: value for name, value in bundle.metrics.items() if name.startswith("cv_")}
    return {"rows": len(rows), "folds": len(folds), "strategy": strategy, "metrics": summary}


def _folds(bundle: Bundle, node: Node, truth: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    import numpy as np  # see _scores
    from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit

    count, division = node.parameters.folds, bundle.division
    assert division is not None
    empty = np.zeros(len(truth))
    most = len(truth) // 2
    if division.strategy == "time":
        # Rows stand in order of time here; each fold is predicted from those before it.
        chosen, strategy = TimeSeriesSplit(count), "time"
    elif bundle.problem == "CLASSIFICATION":
        most = int(np.unique(truth, return_counts=True)[1].min())
        chosen, strategy = StratifiedKFold(count, shuffle=True, random_state=bundle.random_state), "stratified"
    else:
        chosen, strategy = KFold(count, shuffle=True, random_state=bundle.random_state), "random"
    if most < count:
        what = f"the rarest class has {most} rows" if strategy == "stratified" else f"there are {len(truth)} rows"
        message = f"Step '{node.key}' divides the rows into {count} folds, and {what}. Choose at most {most} folds, or filter rare classes."
        raise BadInput("TOO_FEW_ROWS", message, path=node.path("folds"))
    folds = list(chosen.split(empty, truth))
    if bundle.problem == "CLASSIFICATION" and any(len(np.unique(truth[learn])) < 2 for learn, _ in folds):
        raise BadInput(
            "ONE_CLASS",
            f"Step '{node.key}' has a fold whose training rows are all of one class. Choose fewer folds.",
            path=node.path("folds"),
        )
    return folds, strategy


EVALUATE = Step(
    key="evaluate",
    type="EVALUATE",
    title="Evaluate",
    description="Measures the model on rows held out. A pipeline that trains always measures on its test rows; this step shows it, or measures on other rows.",
    parameters=EvaluateParameters,
    place="after",
    run=evaluate,
)
CROSS_VALIDATE = Step(
    key="cross_validate",
    type="EVALUATE",
    title="Cross-validate",
    description="Trains and measures again on folds of the training and validation rows, transforms included, and reports each fold. It follows a training step.",
    parameters=CrossValidateParameters,
    place="after",
    run=cross_validate,
)
