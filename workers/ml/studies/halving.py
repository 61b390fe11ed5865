"""Successive halving that stops (ASHA, Li et al. 2020; Hyperband's brackets, Li et al. 2018): at *rungs*, a trial goes on only if it is among the best.

The rung k is reached after `min_steps` * `reduction_factor`**k steps. What a trial has there is compared with all that the study's trials had at the same
rung: the best of `reduction_factor` parts go on. Nobody waits for others: a trial is compared with those that came before it.

A study has as many brackets as rungs. A trial of bracket b meets the rungs from b on, so that the trials of the last bracket train long before they are
compared: where early values mislead, these find what the others threw away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict

from workers.ml.errors import BadInput

if TYPE_CHECKING:
    from workers.ml.reporting import Reporter

RUNG_QUESTION = "rung"
PRUNED = "pruned"
"""The kind of the result of a training that ended at a rung."""


class Rung(TypedDict):
    """The rung `number`, reached after so many `steps`."""

    number: int
    steps: int


class HalvingSpec(TypedDict):
    """What a trial is compared by, at which rungs, in the order of their steps."""

    metric: str
    rungs: Sequence[Rung]


class Standing(TypedDict):
    """The answer at a rung: the `rank` of the trial's value, from 1 for the best, among `of` values; and whether it `goes_on`."""

    rank: int
    of: int
    goes_on: bool


class PruneDecision(TypedDict):
    """Why a trial ended at a rung. `step` is the one that its metric points have."""

    rung: int
    step: int
    value: float
    rank: int
    of: int


class Pruned(Exception):
    """The trial is not among the best at a rung, and ends."""

    def __init__(self, metric: str, decision: PruneDecision) -> None:
        super().__init__(
            f"Ended after {decision['step'] + 1:,} steps: {metric} {decision['value']:.6g} is number {decision['rank']:,} of {decision['of']:,} trials there."
        )
        self.decision = decision


def rungs(min_steps: int, max_steps: int, reduction_factor: int) -> list[int]:
    """Return the steps after which trials are compared: fewer than `max_steps`, after which they end anyway."""
    found: list[int] = []
    steps = min_steps
    while steps < max_steps:
        found.append(steps)
        steps *= reduction_factor
    return found


def rungs_of_trial(number: int, min_steps: int, max_steps: int, reduction_factor: int) -> list[Rung]:
    """Return the rungs that trial `number` meets, those of its bracket."""
    steps = rungs(min_steps, max_steps, reduction_factor)
    bracket = number % max(1, len(steps))
    return [{"number": index, "steps": each} for index, each in enumerate(steps) if index >= bracket]


def goes_on(rank: int, of: int, reduction_factor: int) -> bool:
    """Whether a trial of this rank among so many is good enough. The first ones have too few to be compared with."""
    return of < reduction_factor or rank <= -(-of // reduction_factor)


class RungWatch:
    """Asks at each rung of a training whether it goes on."""

    def __init__(self, spec: HalvingSpec, reporter: Reporter) -> None:
        self._metric = spec["metric"]
        self._rungs = list(spec["rungs"])
        self._reporter = reporter

    def begin(self, done: int) -> None:
        """Skip the rungs that an earlier attempt has passed, which has stored a checkpoint after so many steps."""
        self._rungs = [rung for rung in self._rungs if rung["steps"] > done]

    def check(self, step: int, measures: Mapping[str, float]) -> None:
        """Raise `Pruned` if the training ends after `step`, counted from 0; `BadInput` (DIVERGED) if there is no finite value to compare."""
        value = measures.get(self._metric)
        if value is None:
            return
        while self._rungs and step + 1 >= self._rungs[0]["steps"]:
            rung = self._rungs.pop(0)
            if not math.isfinite(value):
                message = f"The training has diverged: after {step + 1} steps, {self._metric} is {value}. Narrow the space of the study."
                raise BadInput("DIVERGED", message)
            reached = {"rung": rung["number"], "step": step, "value": float(value)}
            standing: Standing = self._reporter.ask(RUNG_QUESTION, reached)
            if not standing["goes_on"]:
                raise Pruned(
                    self._metric,
                    {"rung": rung["number"], "step": step, "value": float(value), "rank": standing["rank"], "of": standing["of"]},
                )
