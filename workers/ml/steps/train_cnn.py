"""Training step: convolutional network on pixels or samples."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

from pydantic import Field

from workers.ml.architectures import ARCHITECTURE, Architecture
from workers.ml.convolution.layers import Layout, convolutional, definition_of, layout_of
from workers.ml.early_stopping import KeptParameters
from workers.ml.errors import BadInput
from workers.ml.steps.step import PipelineNode, Step
from workers.ml.steps.train import run
from workers.ml.steps.train_linear import measures
from workers.ml.steps.training_parameters import STEPS, ClassifierOrRegressorParameters, EarlyStoppingParameters
from workers.ml.trainer import ArchitectureOfParameters, Trainer, TrainingMonitor, TrainingRows

EXTRA = "deep"
MAX_PARAMETERS = 10_000_000
MAX_VALUES = 200_000_000
ESTIMATOR_PARAMETERS = (
    "dimensions",
    "channels",
    "height",
    "depth",
    "width",
    "growth",
    "kernel",
    "pool",
    "activation",
    "head",
    "learning_rate",
    "batch_size",
    "weight_decay",
    "max_epochs",
)


class CnnParameters(EarlyStoppingParameters, ClassifierOrRegressorParameters):
    dimensions: Literal[1, 2] = Field(
        default=2,
        title="Dimensions",
        description="2: the columns are the pixels of an image, as image_pixels reads them; 1: the samples of a signal, as signal_samples does.",
    )
    channels: int | None = Field(
        default=None,
        ge=1,
        le=64,
        title="Channels",
        description="Values of each pixel or sample, which lie beside each other. By default 1 of a signal, and 1 or 3 of an image, whichever fits.",
    )
    height: int | None = Field(
        default=None, ge=1, le=4_096, title="Height", description="Rows of pixels of an image; by default its sides are equal."
    )
    depth: int = Field(
        default=2,
        ge=1,
        le=8,
        title="Depth",
        description="Number of blocks: a convolution, the activation, and the maximum of neighbours.",
        json_schema_extra=ARCHITECTURE,
    )
    width: int = Field(
        default=16, ge=1, le=512, title="Width", description="Channels that the first block makes.", json_schema_extra=ARCHITECTURE
    )
    growth: Literal[1, 2] = Field(
        default=2,
        title="Growth",
        description="How many times as many channels each block makes as the one before.",
        json_schema_extra=ARCHITECTURE,
    )
    kernel: int = Field(
        default=3,
        ge=1,
        le=64,
        title="Kernel",
        description="Samples, or pixels of each side, that a convolution looks at.",
        json_schema_extra=ARCHITECTURE,
    )
    pool: int = Field(
        default=2,
        ge=1,
        le=8,
        title="Pool",
        description="Of so many samples, or pixels of each side, the maximum is kept after each block.",
        json_schema_extra=ARCHITECTURE,
    )
    activation: Literal["relu", "tanh"] = Field(
        default="relu", title="Activation", description="The function of each unit.", json_schema_extra=ARCHITECTURE
    )
    head: Literal["flatten", "average"] = Field(
        default="flatten",
        title="Head",
        description="What the last layer looks at: `flatten`: all values of the last block, so that it matters where something is; `average`: the mean of each"
        " of its channels, so that it does not.",
        json_schema_extra=ARCHITECTURE,
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=1, title="Learning rate", description="Initial step size of the optimizer (AdamW).")
    batch_size: int = Field(
        default=32, ge=1, le=10_000, title="Batch size", description="Number of rows from which each step of the optimizer is computed."
    )
    weight_decay: float = Field(
        default=1e-4, ge=0, le=10, title="Weight decay", description="How strongly AdamW draws weights towards 0; biases are left alone."
    )
    max_epochs: int = Field(
        default=20,
        ge=1,
        le=2_000,
        title="Epochs",
        description="Maximum number of passes over the training rows.",
        json_schema_extra=STEPS,
    )


def build(parameters: CnnParameters, problem: str, seed: int) -> Any:
    from workers.ml.convolution.estimators import (  # the API imports the registry only for its schemas
        ConvolutionalClassifier,
        ConvolutionalRegressor,
    )

    estimator_class: Any = ConvolutionalClassifier if problem == "CLASSIFICATION" else ConvolutionalRegressor
    return estimator_class(**{name: getattr(parameters, name) for name in ESTIMATOR_PARAMETERS}, random_state=seed)


def fit(estimator: Any, rows: TrainingRows, monitor: TrainingMonitor) -> Any:
    """Fit epoch by epoch, reporting its measures after each. Raises BadInput (DIVERGED)."""
    from workers.ml.convolution.fitting import Training  # torch, which takes seconds to import

    training, total = Training(estimator, rows.train, rows.train_target), estimator.max_epochs
    early_stopping, kept = monitor.early_stopping, KeptParameters(monitor.checkpoint_every)
    epoch = 0
    if (restored := monitor.checkpoints.restore("epoch", training.read)) is not None:
        kept.models, epoch = restored.model, restored.done
        early_stopping.restore(restored.notes["early_stopping"])
    monitor.begin_steps(epoch)
    while epoch < total and not early_stopping.has_stopped:
        training.run_epoch()
        measured = measures(estimator, rows)
        if not math.isfinite(measured["train_loss"]):
            message = (
                f"The training has diverged: after {epoch + 1} epochs, the loss is {measured['train_loss']}. Set a lower learning_rate."
            )
            raise BadInput("DIVERGED", message)
        monitor.add_step(epoch, total, measured, estimator.learning_rate)
        early_stopping.update(epoch, measured)
        kept.add(epoch, early_stopping, estimator.weights_)
        epoch += 1
        monitor.progress(epoch, total)
        if epoch < total and not early_stopping.has_stopped and monitor.checkpoints.is_due:
            notes = {"early_stopping": early_stopping.notes}
            monitor.checkpoints.save(epoch, total, partial(training.write, kept=kept.models), **notes)
    training.finish()
    monitor.kept = {step: _with_weights(estimator, kept.models[step]) for step in monitor.checkpoint_steps(epoch)}
    return estimator if early_stopping.patience is None else _with_weights(estimator, kept.models[early_stopping.best_step])


def _with_weights(estimator: Any, weights: list[Any]) -> Any:
    from copy import copy

    result = copy(estimator)
    result.weights_ = weights
    return result


def architecture(parameters: CnnParameters, inputs: int, outputs: int) -> Architecture:
    layout = _layout(parameters, inputs)
    assert layout is not None, "checked before"
    return convolutional(definition_of(parameters), layout, outputs)


def _layout(parameters: CnnParameters, columns: int) -> Layout | None:
    return layout_of(columns, parameters.dimensions, parameters.channels, parameters.height)


def check(node: PipelineNode, _target: str | None, rows: TrainingRows) -> None:
    """Raises BadInput: BAD_PARAMETER for columns that are no image or signal, TOO_LARGE for a network of too many parameters."""
    parameters: Any = node.parameters
    columns = rows.train.shape[1]
    if _layout(parameters, columns) is None:
        what = "images" if parameters.dimensions == 2 else "signals"
        counted = (
            "1 or 3 channels" if parameters.channels is None else f"{parameters.channels} channel{'' if parameters.channels == 1 else 's'}"
        )
        sides = "" if parameters.dimensions == 1 else " and equal sides" if parameters.height is None else f" and {parameters.height} rows"
        raise BadInput(
            "BAD_PARAMETER",
            f"Step '{node.key}' has {columns:,} columns, which are no {what} of {counted}{sides}. Set channels{' and height' if what == 'images' else ''} to"
            " what the step that reads them makes, and exclude columns that are not of them.",
            path=node.path("channels"),
        )
    count = architecture(parameters, columns, 1).parameter_count
    if count > MAX_PARAMETERS:
        raise BadInput(
            "TOO_LARGE",
            f"Step '{node.key}' would train a network of {count:,} parameters; the maximum is {MAX_PARAMETERS:,}. Lower depth, width or kernel, set head to"
            " average, or make the images smaller.",
            path=node.path("width"),
        )


CNN = Step(
    key="train_cnn",
    type="TRAIN",
    title="Train convolutional network",
    description="Convolutional neural network on the pixels of images or the samples of signals, trained by AdamW. Every column is a pixel or a sample: read them"
    " by image_pixels or signal_samples. Reports loss and accuracy or R² after each epoch. Needs the extra `deep`; its models do not.",
    parameters=CnnParameters,
    place="train",
    takes=("number",),
    run=run,
    trainer=Trainer(
        "torch",
        build,
        fit,
        max_values=MAX_VALUES,
        check=check,
        requires="torch",
        steps_parameter="max_epochs",
        architecture=ArchitectureOfParameters(definition_of, architecture),
    ),
    requires_target=True,
    problem_types=("CLASSIFICATION", "REGRESSION"),
    extra=EXTRA,
)
