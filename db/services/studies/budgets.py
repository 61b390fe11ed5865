"""The budget of a study: how many trials it may make, how many at once, how many may fail, how long it may take and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from db.core.checks import Checks
from db.core.prices import MAX_CREDITS

MAX_TRIALS, MAX_PARALLEL, MAX_SECONDS, MAX_STEPS = 100_000, 100, 366 * 86_400, 1_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget; None is no limit. The study ends when more than `max_failed` trials have failed. The last three are of HYPERBAND alone, see `halving`."""

    max_trials: int = 20
    max_parallel: int = 2
    max_failed: int = 5
    max_seconds: int | None = None
    max_credits: int | None = None
    min_steps: int | None = None
    max_steps: int | None = None
    reduction_factor: int | None = None

    @classmethod
    def of(cls, row: Any) -> Budget:
        return cls(**{field.name: getattr(row, field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """The limits that are given; None leaves one as it is."""

    max_trials: int | None = None
    max_parallel: int | None = None
    max_failed: int | None = None
    max_seconds: int | None = None
    max_credits: int | None = None
    min_steps: int | None = None
    max_steps: int | None = None
    reduction_factor: int | None = None


_LIMITS = {
    "max_trials": ("maxTrials", 1, MAX_TRIALS, "trials"),
    "max_parallel": ("maxParallel", 1, MAX_PARALLEL, "trials at once"),
    "max_failed": ("maxFailed", 0, MAX_TRIALS, "failed trials"),
    "max_seconds": ("maxSeconds", 1, MAX_SECONDS, "seconds"),
    "max_credits": ("maxCredits", 0, MAX_CREDITS, "credits"),
    "min_steps": ("minSteps", 1, MAX_STEPS, "steps"),
    "max_steps": ("maxSteps", 2, MAX_STEPS, "steps"),
    "reduction_factor": ("reductionFactor", 2, 10, "parts of which one goes on"),
}


def check(checks: Checks, present: Budget, change: BudgetChange) -> Budget:
    """Return the changed budget; add an issue for each limit out of its bounds."""
    changes: dict[str, int] = {}
    for name, (field, least, most, noun) in _LIMITS.items():
        value = getattr(change, name)
        if value is None:
            continue
        changes[name] = value
        if not least <= value <= most:
            checks.add("budget", field, message=f"{value:,} {noun}: a budget has from {least} to {most:,} of them.")
    return replace(present, **changes)
