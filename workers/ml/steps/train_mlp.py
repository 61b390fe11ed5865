"""Training step: multilayer perceptron."""

from __future__ import annotations

import math
import warnings
from copy import copy
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from workers.ml.architectures import ARCHITECTURE, Architecture, perceptron, perceptron_definition
from workers.ml.early_stopping import KeptParameters
from workers.ml.steps.step import Step
from workers.ml.steps.train import run
from workers.ml.steps.train_linear import measures
from workers.ml.steps.training_parameters import STEPS, ClassifierOrRegressorParameters, EarlyStoppingParameters
from workers.ml.trainer import ArchitectureOfParameters, Trainer, TrainingMonitor, TrainingRows

DEFAULT_WIDTH = 100


class MlpParameters(EarlyStoppingParameters, ClassifierOrRegressorParameters):
    hidden_layers: list[Annotated[int, Field(ge=1, le=1_000)]] = Field(
        default=[100],
        min_length=1,
        max_length=5,
        title="Hidden layers",
        description="Number of units of each hidden layer, from the first. Has no effect if `layers` or `width` is set.",
        json_schema_extra=ARCHITECTURE,
    )
    layers: int | None = Field(
        default=None,
        ge=1,
        le=5,
        title="Layers",
        description="Number of hidden layers of equal `width`, instead of `hidden_layers`; 1 if only `width` is set.",
        json_schema_extra=ARCHITECTURE,
    )
    width: int | None = Field(
        default=None,
        ge=1,
        le=1_000,
        title="Width",
        description="Number of units of each of the `layers`, instead of `hidden_layers`; 100 if only `layers` is set.",
        json_schema_extra=ARCHITECTURE,
    )
    activation: Literal["relu", "tanh", "logistic"] = Field(
        default="relu", title="Activation", description="The function of each hidden unit.", json_schema_extra=ARCHITECTURE
    )
    alpha: float = Field(default=1e-4, ge=0, le=1e6, title="Alpha", description="Strength of the L2 penalty.")
    learning_rate_init: float = Field(
        default=1e-3, gt=0, le=1, title="Learning rate", description="Initial step size of the optimizer (Adam)."
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        title="Batch size",
        description="Number of rows from which each step of the optimizer is computed, at most all; 200 by default.",
    )
    max_iter: int = Field(
        default=200,
        ge=1,
        le=2_000,
        title="Maximum epochs",
        description="Maximum number of passes over the training rows.",
        json_schema_extra=STEPS,
    )
    patience: int = Field(
        default=10,
        ge=1,
        le=2_000,
        title="Patience",
        description="Training ends when the training loss has not fallen by 0.0001 for more than this many epochs.",
    )

    @model_validator(mode="after")
    def _use_equal_layers(self) -> Self:
        """Of the ways to say it, one is read: `hidden_layers`."""
        if self.layers is not None or self.width is not None:
            object.__setattr__(self, "hidden_layers", [self.width or DEFAULT_WIDTH] * (self.layers or 1))  # the class is frozen
        return self


def build(parameters: MlpParameters, problem: str, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor  # the API imports the registry only for its schemas

    estimator_class: Any = MLPClassifier if problem == "CLASSIFICATION" else MLPRegressor
    return estimator_class(
        hidden_layer_sizes=tuple(parameters.hidden_layers),
        activation=parameters.activation,
        alpha=parameters.alpha,
        learning_rate_init=parameters.learning_rate_init,
        batch_size=parameters.batch_size or "auto",
        max_iter=parameters.max_iter,
        n_iter_no_change=parameters.patience,
        random_state=seed,
    )


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit epoch by epoch, reporting its measures after each; the result is that of one fit, which shuffles by one generator for all epochs."""
    import numpy as np
    from sklearn.base import clone

    seed, batch_size, max_iter, patience = (
        getattr(estimator, name) for name in ("random_state", "batch_size", "max_iter", "n_iter_no_change")
    )
    if batch_size != "auto":
        estimator.set_params(batch_size=min(batch_size, len(rows.train)))  # scikit-learn does the same, and warns at each epoch
    classes = {"classes": np.unique(rows.train_target)} if hasattr(estimator, "predict_proba") else {}
    early_stopping, kept = monitor.early_stopping, KeptParameters(monitor.checkpoint_every)
    restored = monitor.checkpoints.restore("epoch", lambda path: _read_state(path, clone(estimator), rows, classes))
    best, epochs_without_progress, epoch = math.inf, 0, 0
    if restored is not None:
        (estimator, kept.models), epoch = restored.model, restored.done
        early_stopping.restore(restored.notes["early_stopping"])
        best, epochs_without_progress = restored.notes["best"], restored.notes["epochs_without_progress"]
        vars(estimator).update(
            t_=epoch * len(rows.train), best_loss_=np.float64(best), _no_improvement_count=epochs_without_progress, loss_curve_=[]
        )
    else:
        estimator.set_params(random_state=np.random.RandomState(seed))
    monitor.begin_steps(epoch)
    while epoch < max_iter and epochs_without_progress <= patience and not early_stopping.has_stopped:
        estimator.partial_fit(rows.train, rows.train_target, **classes)
        loss = float(estimator.loss_curve_[-1])
        epochs_without_progress = epochs_without_progress + 1 if loss > best - estimator.tol else 0
        best = min(best, loss)
        measured = measures(estimator, rows)
        monitor.add_step(epoch, max_iter, measured, estimator.learning_rate_init)
        early_stopping.update(epoch, measured)
        kept.add(epoch, early_stopping, estimator.coefs_ + estimator.intercepts_)
        epoch += 1
        monitor.progress(epoch, max_iter)
        is_over = epoch == max_iter or epochs_without_progress > patience or early_stopping.has_stopped
        if not is_over and monitor.checkpoints.is_due:
            notes = {"best": best, "epochs_without_progress": epochs_without_progress, "early_stopping": early_stopping.notes}
            monitor.checkpoints.save(epoch, max_iter, partial(_write_state, estimator, kept.models), **notes)
    if epoch == max_iter and epochs_without_progress <= patience and early_stopping.patience is None:
        monitor.reporter.log(f"The training loss was still falling after {max_iter} epochs. Scale the features, or raise max_iter.")
    for name in ("_optimizer", "_random_state", "_best_coefs", "_best_intercepts", "loss_curve_"):
        # The state of the training: not used for predictions, but it would be stored in the model file.
        vars(estimator).pop(name, None)
    estimator.set_params(random_state=seed, batch_size=batch_size)
    monitor.kept = {step: _with_parameters(estimator, kept.models[step]) for step in monitor.checkpoint_steps(epoch)}
    return estimator if early_stopping.patience is None else _with_parameters(estimator, kept.models[early_stopping.best_step])


def _with_parameters(estimator: Any, parameters: list[Any]) -> Any:
    result, layers = copy(estimator), len(estimator.coefs_)
    result.coefs_, result.intercepts_ = parameters[:layers], parameters[layers:]
    return result


def _write_state(estimator: Any, kept: dict[int, list[Any]], path: Path) -> None:
    """Write all that the next epoch depends on as plain arrays: parameters, the moments of Adam and the generator that shuffles; and what is kept."""
    import numpy as np

    _, keys, position, *_ = estimator.random_state.get_state()
    optimizer = estimator._optimizer  # noqa: SLF001 - scikit-learn has no other way to go on later
    groups = {"parameter": estimator.coefs_ + estimator.intercepts_, "mean": optimizer.ms, "square": optimizer.vs}
    groups |= {f"kept_{step}": parameters for step, parameters in kept.items()}
    arrays = {f"{name}_{number}": values for name, members in groups.items() for number, values in enumerate(members)}
    with path.open("wb") as file:
        np.savez(file, keys=keys, position=np.array(position), steps=np.array(optimizer.t), kept=np.array(list(kept), np.int64), **arrays)


def _read_state(path: Path, estimator: Any, rows: TrainingRows, classes: dict[str, Any]) -> tuple[Any, dict[int, list[Any]]]:
    """Return a network, made of one that is not fitted, whose next epoch is that after the checkpoint, and the parameters that are kept."""
    import numpy as np

    generator = np.random.RandomState(0)
    estimator.set_params(random_state=generator)
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, Any] = dict(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the batch is larger than one row
        estimator.partial_fit(rows.train[:1], rows.train_target[:1], **classes)  # makes all arrays, in their shapes
    generator.set_state(("MT19937", arrays["keys"], int(arrays["position"]), 0, 0.0))  # it has drawn no normal numbers
    parameters = estimator.coefs_ + estimator.intercepts_
    for number, values in enumerate(parameters):
        values[...] = arrays[f"parameter_{number}"]
    optimizer = estimator._optimizer  # noqa: SLF001 - see _write_state
    optimizer.t = int(arrays["steps"])
    optimizer.ms, optimizer.vs = ([arrays[f"{name}_{number}"] for number in range(len(parameters))] for name in ("mean", "square"))
    kept = {int(step): [arrays[f"kept_{step}_{number}"] for number in range(len(parameters))] for step in arrays["kept"]}
    return estimator, kept


def definition(parameters: MlpParameters) -> dict[str, Any]:
    return perceptron_definition(parameters.hidden_layers, parameters.activation)


def architecture(parameters: MlpParameters, inputs: int, outputs: int) -> Architecture:
    return perceptron([inputs, *parameters.hidden_layers, outputs], parameters.activation)


MLP = Step(
    key="train_mlp",
    type="TRAIN",
    title="Train neural network",
    description="Multilayer perceptron, trained by Adam. Features should be scaled. Reports loss and accuracy or R² after each epoch.",
    parameters=MlpParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer(
        "scikit-learn", build, fit, steps_parameter="max_iter", architecture=ArchitectureOfParameters(definition, architecture)
    ),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
)
