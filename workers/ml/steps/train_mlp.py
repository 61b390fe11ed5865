"""Training step: multilayer perceptron."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.train_linear import measures
from workers.ml.steps.training_parameters import ClassifierOrRegressorParameters
from workers.ml.trainer import Trainer, TrainingMonitor, TrainingRows


class MlpParameters(ClassifierOrRegressorParameters):
    hidden_layers: list[Annotated[int, Field(ge=1, le=1_000)]] = Field(
        default=[100],
        min_length=1,
        max_length=5,
        title="Hidden layers",
        description="Number of units of each hidden layer, from the first.",
    )
    activation: Literal["relu", "tanh", "logistic"] = Field(
        default="relu", title="Activation", description="The function of each hidden unit."
    )
    alpha: float = Field(default=1e-4, ge=0, le=1e6, title="Alpha", description="Strength of the L2 penalty.")
    learning_rate_init: float = Field(
        default=1e-3, gt=0, le=1, title="Learning rate", description="Initial step size of the optimizer (Adam)."
    )
    max_iter: int = Field(
        default=200, ge=1, le=2_000, title="Maximum epochs", description="Maximum number of passes over the training rows."
    )
    patience: int = Field(
        default=10,
        ge=1,
        le=2_000,
        title="Patience",
        description="Training ends when the training loss has not fallen by 0.0001 for more than this many epochs.",
    )


def build(parameters: MlpParameters, problem: str, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor  # the API imports the registry only for its schemas

    estimator_class = MLPClassifier if problem == "CLASSIFICATION" else MLPRegressor
    return estimator_class(
        hidden_layer_sizes=tuple(parameters.hidden_layers),
        activation=parameters.activation,
        alpha=parameters.alpha,
        learning_rate_init=parameters.learning_rate_init,
        max_iter=parameters.max_iter,
        n_iter_no_change=parameters.patience,
        random_state=seed,
    )


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit epoch by epoch, reporting its measures after each; the result is that of one fit, which shuffles by one generator for all epochs."""
    import numpy as np

    seed, max_iter, patience = estimator.random_state, estimator.max_iter, estimator.n_iter_no_change
    estimator.set_params(random_state=np.random.RandomState(seed))
    classes = {"classes": np.unique(rows.train_target)} if hasattr(estimator, "predict_proba") else {}
    best, epochs_without_progress, epoch = math.inf, 0, 0
    monitor.begin_steps()
    while epoch < max_iter and epochs_without_progress <= patience:
        estimator.partial_fit(rows.train, rows.train_target, **classes)
        loss = estimator.loss_curve_[-1]
        epochs_without_progress = epochs_without_progress + 1 if loss > best - estimator.tol else 0
        best = min(best, loss)
        monitor.add_step(epoch, max_iter, measures(estimator, rows), estimator.learning_rate_init)
        epoch += 1
        monitor.progress(epoch, max_iter)
    if epoch == max_iter and epochs_without_progress <= patience:
        monitor.reporter.log(f"The training loss was still falling after {max_iter} epochs. Scale the features, or raise max_iter.")
    for name in ("_optimizer", "_random_state", "loss_curve_"):
        # The state of the training: not used for predictions, but it would be stored in the model file.
        vars(estimator).pop(name, None)
    return estimator.set_params(random_state=seed)


def architecture(estimator: Any) -> str:
    """The units of each layer, inputs and outputs included, such as `30-100-1 relu`."""
    units = [len(weights) for weights in estimator.coefs_] + [estimator.coefs_[-1].shape[1]]
    return f"{'-'.join(map(str, units))} {estimator.activation}"


MLP = Step(
    key="train_mlp",
    type="TRAIN",
    title="Train neural network",
    description="Multilayer perceptron, trained by Adam. Features should be scaled. Reports loss and accuracy or R² after each epoch.",
    parameters=MlpParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer("scikit-learn", build, fit, architecture=architecture),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
