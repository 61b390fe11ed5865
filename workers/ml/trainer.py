"""Training of an estimator: its rows, its monitor and the resulting model."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Literal

from workers.ml.architectures import Architecture
from workers.ml.early_stopping import EarlyStopping, checkpoint_steps
from workers.ml.reporting import Reporter
from workers.ml.training_checkpoints import CheckpointManager

if TYPE_CHECKING:
    import numpy as np
    from threadpoolctl import ThreadpoolController

    from workers.ml.prediction.predictor import PipelinePredictor, Predictions
    from workers.ml.studies.halving import RungWatch

# One thread: with several, the order of sums and thus the last digits vary, but the same seed must give the same model.
THREADS = 1
TRAINING_START_PERCENT, TRAINING_END_PERCENT = 20.0, 75.0
MAX_TIMED_STEPS = 200
"""Of a training with more steps, the durations of several are averaged: they are for seeing whether it slows down, not for each of 10,000 rounds."""


def thread_pools() -> ThreadpoolController:
    """The thread pools of the numerical libraries that are loaded, to be limited to `THREADS`: those of scikit-learn once it is imported."""
    return _thread_pools("sklearn" in sys.modules)


@cache
def _thread_pools(_has_sklearn: bool) -> ThreadpoolController:
    """Cached, since finding them takes 12 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@dataclass
class TrainingMonitor:
    """Reports the curves and progress of one training, and holds its checkpoint manager and what decides when it stops.

    `kept` are the models after earlier steps that become checkpoint files. `rung_watch` may end the training of a trial early.
    """

    reporter: Reporter
    label: str
    node_key: str
    checkpoints: CheckpointManager
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    checkpoint_every: int | None = None
    kept: dict[int, Any] = field(default_factory=dict[int, Any])
    rung_watch: RungWatch | None = None
    last_steps: dict[str, int] = field(default_factory=dict)
    node_percent: int = 0
    _timed_step: int = -1
    _timed_at: float = field(default_factory=time.monotonic)

    def add_point(self, key: str, step: int, value: float) -> None:
        self.last_steps[key] = step
        self.reporter.metric(key, step, float(value))

    def add_final_point(self, key: str, value: float) -> None:
        """Add a value measured once at the end: at step 0, or at the step after the last point of a curve with the same name."""
        self.add_point(key, self.last_steps.get(key, -1) + 1, value)

    def begin_steps(self, done: int = 0) -> None:
        """Start the clock of a training that iterates, after `done` steps of an earlier attempt."""
        self._timed_step, self._timed_at = done - 1, time.monotonic()
        if self.rung_watch is not None:
            self.rung_watch.begin(done)

    def add_step(self, step: int, total: int, measures: Mapping[str, float], learning_rate: float | None = None) -> None:
        """Report a step of at most `total`: its measures, and `step_seconds`, the mean duration of the steps since the point before, with the learning
        rate beside it. Raises `Pruned` if the training is a trial that is not good enough."""
        for key, value in measures.items():
            self.add_point(key, step, value)
        self._time_step(step, total, learning_rate)
        if self.rung_watch is not None:
            self.rung_watch.check(step, measures)

    def _time_step(self, step: int, total: int, learning_rate: float | None) -> None:
        stride = -(-total // MAX_TIMED_STEPS)
        # By absolute positions, so that a training that was interrupted has the same points.
        if (step + 1) // stride == (self._timed_step + 1) // stride:
            return
        now = time.monotonic()
        self.add_point("step_seconds", step, (now - self._timed_at) / (step - self._timed_step))
        self._timed_step, self._timed_at = step, now
        if learning_rate is not None:
            self.add_point("learning_rate", step, learning_rate)

    def checkpoint_steps(self, done: int) -> list[int]:
        """The steps of a training of `done` steps of which it keeps the model."""
        return checkpoint_steps(self.checkpoint_every, done)

    def progress(self, done: int, total: int) -> None:
        """Report the share of the training that is done, for the body and for the training's node."""
        share = min(1.0, done / max(1, total))
        percent = TRAINING_START_PERCENT + (TRAINING_END_PERCENT - TRAINING_START_PERCENT) * share
        self.reporter.progress(percent, f"{self.label}: {done:,} of {total:,}")
        node_percent = min(99, int(100 * share))  # 100 is for a completed node
        if node_percent > self.node_percent:
            self.node_percent = node_percent
            self.reporter.node(self.node_key, "running", node_percent)


@dataclass(frozen=True)
class TrainingRows:
    """Transformed features (float64, rows by features) and untransformed targets. Validation rows of classes that the training rows lack are
    omitted; the validation arrays are None if no rows are held out."""

    train: np.ndarray
    train_target: np.ndarray
    validation: np.ndarray | None = None
    validation_target: np.ndarray | None = None


@dataclass(frozen=True)
class ArchitectureOfParameters:
    """How a neural network is made of the parameters of its step: the `definition` before any data are read, and the whole with the numbers of
    inputs and outputs, `sized(parameters, inputs, outputs)`."""

    definition: Callable[[Any], dict[str, Any]]
    sized: Callable[[Any, int, int], Architecture]


@dataclass(frozen=True)
class Trainer:
    """How a training step builds and fits its estimator. `fit` returns the estimator fitted as its parameters specify and reports meanwhile;
    `takes_missing` marks estimators that accept missing values.

    `max_rows` and `max_values` (rows times features) bound the training of an estimator whose time or file grows with them.
    `check` is called with the node, the target and the training rows; it raises BadInput if the estimator cannot learn from them.
    `algorithm` names it where its class does not, by problem type; `requires` is a package that not every worker has. `steps_parameter` is the
    estimator's number of steps. `architecture` tells how a neural network is made of its parameters.
    """

    framework: Literal["scikit-learn", "lightgbm", "xgboost", "torch"]
    build: Callable[[Any, str, int], Any]
    fit: Callable[[Any, TrainingRows, TrainingMonitor], Any]
    takes_missing: bool = False
    max_rows: int | None = None
    max_values: int | None = None
    check: Callable[[Any, str | None, TrainingRows], None] | None = None
    algorithm: Mapping[str, str] = field(default_factory=dict[str, str])
    requires: str | None = None
    steps_parameter: str = "n_estimators"
    architecture: ArchitectureOfParameters | None = None


@dataclass
class Trained:
    """A fitted model and how it was made. `pipeline` takes a frame of the raw `features`; `template` is the unfitted estimator."""

    pipeline: Any
    estimator: Any
    template: Any
    node_key: str
    framework: str
    algorithm: str
    problem: str
    features: list[str]
    target: str | None
    hyperparameters: dict[str, Any]
    monitor: TrainingMonitor
    config: dict[str, Any]
    """The step with all its parameters but `exclude`, and what it learned from."""
    architecture: Architecture | None = None
    best_step: int | None = None
    """The step that the model is of, after early stopping."""
    checkpoints: dict[int, Any] = field(default_factory=dict[int, Any])
    """Fitted Pipelines of earlier steps."""
    note: str | None = None
    """What to know of this training besides its parameters; None if nothing."""
    predictions: dict[str, Predictions] = field(default_factory=dict[str, "Predictions"])
    """What the model predicts for the rows of a subset, of few rows; see `evaluate.predict_rows`."""

    @cached_property
    def predictor(self) -> PipelinePredictor:
        from workers.ml.prediction.predictor import PipelinePredictor  # the API imports the steps only for their schemas

        return PipelinePredictor(self.pipeline, self.problem)
