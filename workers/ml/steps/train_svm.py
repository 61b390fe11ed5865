"""Training step: support vector machine with a kernel."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.steps.step import PipelineNode, Step
from workers.ml.steps.train import run
from workers.ml.steps.train_linear import record_losses
from workers.ml.steps.training_parameters import ClassifierOrRegressorParameters
from workers.ml.trainer import Trainer, TrainingMonitor, TrainingRows

# A kernel machine takes time quadratic in its rows: a minute for these on one core.
MAX_ROWS = 20_000
CALIBRATION_FOLDS = 5
CACHE_MIB = 200


class SvmParameters(ClassifierOrRegressorParameters):
    C: float = Field(
        default=1.0, gt=0, le=1e6, title="C", description="Inverse of the strength of the penalty: smaller values smooth more."
    )
    kernel: Literal["rbf", "linear", "poly", "sigmoid"] = Field(
        default="rbf", title="Kernel", description="`rbf` for curved boundaries, `linear` for straight ones."
    )
    degree: int = Field(default=3, ge=1, le=10, title="Degree", description="With the kernel `poly`: the degree of the polynomial.")
    gamma: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        title="Gamma",
        description="How near a training row must be to have influence, greater values mean nearer; if unset, 1 / (features x variance).",
    )
    epsilon: float = Field(
        default=0.1,
        ge=0,
        le=1e9,
        title="Epsilon",
        description="In regression: errors up to this, in units of the target, are not penalized.",
    )
    max_iter: int = Field(
        default=100_000, ge=100, le=1_000_000, title="Maximum iterations", description="Maximum number of iterations of the solver."
    )
    class_weight: Literal["balanced"] | None = Field(
        default=None, title="Class weight", description="`balanced` weights classes inversely to their frequency."
    )


def build(parameters: SvmParameters, problem: str, _seed: int) -> Any:
    from sklearn.calibration import CalibratedClassifierCV  # the API imports the registry only for its schemas
    from sklearn.svm import SVC, SVR

    options: dict[str, Any] = {
        "C": parameters.C,
        "kernel": parameters.kernel,
        "degree": parameters.degree,
        "gamma": "scale" if parameters.gamma is None else parameters.gamma,
        "max_iter": parameters.max_iter,
        "cache_size": CACHE_MIB,
    }
    if problem == "REGRESSION":
        return SVR(**options, epsilon=parameters.epsilon)
    # Probabilities by Platt's method: a sigmoid over decision values that cross-validation makes.
    calibration: dict[str, Any] = {"method": "sigmoid", "cv": 2, "ensemble": False}
    return CalibratedClassifierCV(SVC(**options, class_weight=parameters.class_weight), **calibration)


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    import numpy as np
    from sklearn.base import is_classifier
    from sklearn.exceptions import ConvergenceWarning

    if is_classifier(estimator):
        estimator.set_params(cv=min(CALIBRATION_FOLDS, int(np.unique(rows.train_target, return_counts=True)[1].min())))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(rows.train, rows.train_target)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        monitor.reporter.log("The solver stopped at max_iter before it converged. Scale the features, or raise max_iter.")
    record_losses(estimator, rows, monitor)
    return estimator


def check(node: PipelineNode, target: str | None, rows: TrainingRows) -> None:
    """Raises BadInput (RARE_CLASS)."""
    import numpy as np  # see build

    if rows.train_target.dtype.kind == "f" and node.parameters.problem_type != "classification":
        return
    classes, counts = np.unique(rows.train_target, return_counts=True)
    # Of numbers that are all different it may be a regression.
    are_labels = rows.train_target.dtype.kind not in "iu" or node.parameters.problem_type == "classification"
    if counts.min() < 2 and (are_labels or counts.max() >= 2):
        rare = classes[counts.argmin()].item()
        raise BadInput(
            "RARE_CLASS",
            f"The class {rare!r} of the target '{target}' has one training row, and step '{node.key}' needs two of each to estimate probabilities. "
            "Remove the rows of that class with a filter_rows step, or choose another step.",
            column=target,
            path=node.path("target"),
        )


SVM = Step(
    key="train_svm",
    type="TRAIN",
    title="Train support vector machine",
    description="Separates classes, or fits numbers, by a kernel. Features should be scaled. For at most 20,000 training rows.",
    parameters=SvmParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build, fit, max_rows=MAX_ROWS, check=check, algorithm={"CLASSIFICATION": "SVC", "REGRESSION": "SVR"}),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
