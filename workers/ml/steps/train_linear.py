"""Training steps: linear models."""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.training_parameters import SupervisedParameters
from workers.ml.trainer import Trainer, TrainingMonitor, TrainingRows

MAX_DOUBLINGS = 4
# A hundredth of scikit-learn's default, so that restarting the solver does not affect the fourth digit of a probability.
TOLERANCE = 1e-6


class LogisticParameters(SupervisedParameters):
    C: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        title="C",
        description="Inverse of the strength of the L2 penalty: smaller values mean stronger regularization.",
    )
    max_iter: int = Field(
        default=500,
        ge=10,
        le=10_000,
        title="Maximum iterations",
        description="Maximum number of iterations of the solver (lbfgs).",
    )
    class_weight: Literal["balanced"] | None = Field(
        default=None, title="Class weight", description="`balanced` weights classes inversely to their frequency."
    )


class LinearParameters(SupervisedParameters):
    fit_intercept: bool = Field(default=True, title="Fit intercept", description="Whether the model has a constant term.")


class RidgeParameters(LinearParameters):
    alpha: float = Field(default=1.0, ge=0, le=1e9, title="Alpha", description="Strength of the L2 penalty.")


class ElasticNetParameters(LinearParameters):
    alpha: float = Field(default=1.0, gt=0, le=1e9, title="Alpha", description="Strength of both penalties.")
    l1_ratio: float = Field(
        default=0.5,
        ge=0.01,
        le=1,
        title="L1 share",
        description="Share of the L1 penalty, which sets coefficients to 0; the rest is an L2 penalty. 1 is the lasso.",
    )
    max_iter: int = Field(default=1_000, ge=10, le=100_000, title="Maximum iterations", description="Maximum passes over the coefficients.")


def build_logistic(parameters: LogisticParameters, _problem: str, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression  # the API imports the registry only for its schemas

    return LogisticRegression(
        C=parameters.C, max_iter=parameters.max_iter, class_weight=parameters.class_weight, tol=TOLERANCE, random_state=seed
    )


def fit_logistic(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit in epochs of 1, 2, 4, ... 16, 16, ... iterations, each continuing from the coefficients of the one before; the loss falls most at first.

    The loss is convex, so restarting the solver does not change the optimum. It has converged when an epoch uses fewer iterations than allowed.
    """
    from sklearn.exceptions import ConvergenceWarning

    max_iter = estimator.max_iter
    max_epochs = MAX_DOUBLINGS + -(-max_iter // 2**MAX_DOUBLINGS)
    estimator.set_params(warm_start=True)
    monitor.begin_steps()
    done = epoch = 0
    converged = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        while done < max_iter and not converged:
            epoch_iterations = min(2 ** min(epoch, MAX_DOUBLINGS), max_iter - done)
            estimator.set_params(max_iter=epoch_iterations).fit(rows.train, rows.train_target)
            iterations = int(estimator.n_iter_.max())
            converged = iterations < epoch_iterations
            done += iterations
            monitor.add_step(epoch, max_epochs, measures(estimator, rows))
            monitor.progress(done, max_iter)
            epoch += 1
    if not converged:
        monitor.reporter.log(f"The solver had not converged after {max_iter} iterations. Scale the features, or raise max_iter.")
    return estimator.set_params(max_iter=max_iter, warm_start=False)


def build_linear(parameters: LinearParameters, _problem: str, _seed: int) -> Any:
    from sklearn.linear_model import LinearRegression  # see build_logistic

    return LinearRegression(fit_intercept=parameters.fit_intercept)


def build_ridge(parameters: RidgeParameters, _problem: str, seed: int) -> Any:
    from sklearn.linear_model import Ridge  # see build_logistic

    return Ridge(alpha=parameters.alpha, fit_intercept=parameters.fit_intercept, random_state=seed)


def build_elastic_net(parameters: ElasticNetParameters, _problem: str, seed: int) -> Any:
    from sklearn.linear_model import ElasticNet  # see build_logistic

    return ElasticNet(
        alpha=parameters.alpha,
        l1_ratio=parameters.l1_ratio,
        max_iter=parameters.max_iter,
        fit_intercept=parameters.fit_intercept,
        random_state=seed,
    )


def fit_elastic_net(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        estimator.fit(rows.train, rows.train_target)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        monitor.reporter.log(f"The solver had not converged after {estimator.max_iter} iterations. Scale the features, or raise max_iter.")
    record_losses(estimator, rows, monitor)
    return estimator


def fit_closed_form(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit a model without iterations; its loss is a single point."""
    estimator.fit(rows.train, rows.train_target)
    record_losses(estimator, rows, monitor)
    return estimator


def record_losses(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> None:
    """Report the losses of a model that is fitted in one step, as single points."""
    for key, value in measures(estimator, rows).items():
        if key.endswith("_loss"):
            monitor.add_point(key, 0, value)


def measures(estimator: Any, rows: TrainingRows) -> dict[str, float]:
    """Loss and accuracy or R² on the training rows, and on validation rows if there are any."""
    from workers.ml.scoring import training_measures  # numpy; see build_logistic

    values = {f"train_{name}": value for name, value in training_measures(estimator, rows.train, rows.train_target).items()}
    if rows.validation is not None and rows.validation_target is not None:
        of_validation = training_measures(estimator, rows.validation, rows.validation_target)
        values |= {f"validation_{name}": value for name, value in of_validation.items()}
    return values


LOGISTIC_REGRESSION = Step(
    key="train_logistic_regression",
    type="TRAIN",
    title="Train logistic regression",
    description="Linear classifier with an L2 penalty. Features should be scaled. Reports loss and accuracy every few iterations.",
    parameters=LogisticParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_logistic, fit_logistic),
    requires_target=True,
    problem_types=("CLASSIFICATION",),
)
LINEAR_REGRESSION = Step(
    key="train_linear_regression",
    type="TRAIN",
    title="Train linear regression",
    description="Least squares without a penalty.",
    parameters=LinearParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_linear, fit_closed_form),
    requires_target=True,
    problem_types=("REGRESSION",),
)
RIDGE_REGRESSION = Step(
    key="train_ridge_regression",
    type="TRAIN",
    title="Train ridge regression",
    description="Least squares with an L2 penalty. Features should be scaled.",
    parameters=RidgeParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_ridge, fit_closed_form),
    requires_target=True,
    problem_types=("REGRESSION",),
)
ELASTIC_NET = Step(
    key="train_elastic_net",
    type="TRAIN",
    title="Train elastic net",
    description="Least squares with an L1 and an L2 penalty, which leaves out features that add little. Features should be scaled.",
    parameters=ElasticNetParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build_elastic_net, fit_elastic_net),
    requires_target=True,
    problem_types=("REGRESSION",),
)
