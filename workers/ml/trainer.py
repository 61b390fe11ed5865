"""How an estimator is trained: the rows it is given, how its progress is reported, and the model that comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from workers.ml.reporting import Reporter
from workers.ml.training_checkpoints import CheckpointManager

if TYPE_CHECKING:
    import numpy as np

# One thread: sums taken in another order end in other last digits, and the same seed is to give the same model.
THREADS = 1
TRAINING_START_PERCENT, TRAINING_END_PERCENT = 20.0, 75.0


@dataclass
class TrainingMonitor:
    """Points of the curves of one training, its share of the job's progress, and its checkpoints."""

    reporter: Reporter
    label: str
    checkpoints: CheckpointManager
    last_steps: dict[str, int] = field(default_factory=dict)

    def add_point(self, key: str, step: int, value: float) -> None:
        self.last_steps[key] = step
        self.reporter.metric(key, step, float(value))

    def add_final_point(self, key: str, value: float) -> None:
        """A value measured once, at the end: at step 0, or after the points of a curve of the same name."""
        self.add_point(key, self.last_steps.get(key, -1) + 1, value)

    def progress(self, done: int, total: int) -> None:
        percent = TRAINING_START_PERCENT + (TRAINING_END_PERCENT - TRAINING_START_PERCENT) * min(1.0, done / max(1, total))
        self.reporter.progress(percent, f"{self.label}: {done} of {total}")


@dataclass(frozen=True)
class TrainingRows:
    """Transformed features and the target as it stands in the dataset. Validation rows are there when the pipeline holds some out,
    without those of a class that the training rows lack."""

    train: np.ndarray
    train_target: np.ndarray
    validation: np.ndarray | None = None
    validation_target: np.ndarray | None = None


@dataclass(frozen=True)
class Trainer:
    """How a training step makes its estimator and fits it. `fit` gives the estimator back fitted exactly as `parameters` say,
    reporting while it works; `takes_missing` tells of estimators that work on missing values."""

    framework: Literal["scikit-learn", "lightgbm"]
    build: Callable[[Any, str, int], Any]
    fit: Callable[[Any, TrainingRows, TrainingMonitor], Any]
    takes_missing: bool = False


@dataclass
class Trained:
    """A model and what it was made of. `pipeline` takes a frame of the raw `features`."""

    pipeline: Any
    estimator: Any
    template: Any
    node_key: str
    framework: str
    problem: str
    features: list[str]
    target: str | None
    hyperparameters: dict[str, Any]
    monitor: TrainingMonitor
