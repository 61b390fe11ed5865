"""Early stopping of a training by a measure of its validation rows, and which steps are kept as checkpoints.

Steps are counted from 0, as the points of the curves are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_CHECKPOINTS = 10
"""How many checkpoints a training leaves, besides that of the best step: the last ones."""


@dataclass
class EarlyStopping:
    """The best step so far by `metric`, and whether `patience` steps have passed without a better one; it never stops without patience.

    A step is better if its value beats the best by more than `min_delta`. A value that is missing or NaN is never better.
    """

    patience: int | None = None
    min_delta: float = 0.0
    metric: str = "validation_loss"
    best: float | None = None
    best_step: int = 0
    has_stopped: bool = False

    @classmethod
    def of(cls, parameters: Any) -> EarlyStopping:
        """That of the parameters of a step; one that never stops for a step without such parameters."""
        patience = getattr(parameters, "early_stopping_rounds", None)
        return cls() if patience is None else cls(patience, parameters.early_stopping_min_delta, parameters.early_stopping_metric)

    def update(self, step: int, measures: Mapping[str, float]) -> bool:
        """Take the measures of a step; return whether the training ends with it."""
        if self.patience is None:
            return False
        value = measures.get(self.metric, math.nan)
        if self._is_better(value):
            self.best, self.best_step = value, step
        self.has_stopped = step - self.best_step >= self.patience
        return self.has_stopped

    def _is_better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        gain = self.best - value if self.metric.endswith("_loss") else value - self.best
        return gain > self.min_delta

    @property
    def notes(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it, as JSON."""
        is_finite = self.best is not None and math.isfinite(self.best)
        return {"best": self.best if is_finite else None, "best_round": self.best_step}

    def restore(self, notes: Mapping[str, Any]) -> None:
        self.best, self.best_step = notes["best"], notes["best_round"]

    def steps_of_model(self, done: int) -> int:
        """How many of `done` steps the model has: those up to the best one."""
        return done if self.patience is None else self.best_step + 1


def checkpoint_steps(every: int | None, done: int) -> list[int]:
    """The steps after which a training of `done` steps keeps its model: every so many, the last `MAX_CHECKPOINTS` of them."""
    return [] if every is None else list(range(every - 1, done, every))[-MAX_CHECKPOINTS:]


class KeptParameters:
    """The parameters of a network after the epochs that are kept: those of the best one, and of each that becomes a checkpoint."""

    def __init__(self, every: int | None) -> None:
        self._every = every
        self.models: dict[int, list[Any]] = {}

    def add(self, epoch: int, early_stopping: EarlyStopping, parameters: list[Any]) -> None:
        wanted = {*checkpoint_steps(self._every, epoch + 1), *([] if early_stopping.patience is None else [early_stopping.best_step])}
        if epoch in wanted:
            self.models[epoch] = [values.copy() for values in parameters]
        self.models = {step: model for step, model in self.models.items() if step in wanted}
