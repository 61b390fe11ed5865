"""Regularised evolution (Real et al., "Regularized Evolution for Image Classifier Architecture Search", 2019).

The population is the newest trials that have ended, whatever their values: age removes from it, not defeat. Some of it meet in a tournament; its winner
is the parent, and one of its parameters is changed. There is no state: population and tournament are functions of the rows and of the trial's number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from workers.ml.studies.observed import Observed, is_better
from workers.ml.studies.random_points import random_point
from workers.ml.studies.space import Parameter, Space, Values, is_same

POPULATION = 20
TOURNAMENT = 10
MUTATION_SHARE = 0.15  # standard deviation of the change of a number, as a share of its range
MAX_REDRAWS = 20


def evolved_point(space: Space, rng: Random, rows: Sequence[Observed], goal: str) -> tuple[Values, int | None]:
    """Return the point, and the number of its parent: None while the population is incomplete, and points are random.

    A point that a trial has had already is drawn again some times; in a space of few points it may come twice.
    """
    population = [row for row in rows if row.has_ended and not row.is_pruned][-POPULATION:]
    values: Values = {}
    parent: Observed | None = None
    for _ in range(MAX_REDRAWS):
        if len(population) < POPULATION:
            values = random_point(space, rng)
        else:
            parent = _winner(population, rng, goal)
            values = _mutated(space, rng, parent.values)
        if not any(_is_point(values, row.values) for row in rows):
            break
    return values, None if parent is None else parent.number


def _winner(population: Sequence[Observed], rng: Random, goal: str) -> Observed:
    rivals = list(population)
    winner: Observed | None = None
    for _ in range(TOURNAMENT):
        rival = rivals.pop(int(rng.random() * len(rivals)))
        if winner is None or is_better(goal, rival.value or 0.0, winner.value or 0.0):
            winner = rival
    assert winner is not None
    return winner


def _mutated(space: Space, rng: Random, values: Values) -> Values:
    """Change one parameter that has more than one value. What becomes active by it is drawn, what becomes inactive is dropped."""
    fresh = {parameter.key: rng.random() for parameter in space.parameters}
    candidates = [parameter for parameter in space.parameters if parameter.key in values and parameter.count != 1]
    changed = candidates[int(rng.random() * len(candidates))] if candidates else None

    def value_of(parameter: Parameter) -> Any:
        if parameter is changed:
            return _changed(parameter, values[parameter.key], rng)
        return values[parameter.key] if parameter.key in values else parameter.of_share(fresh[parameter.key])

    return space.choose(value_of)


def _changed(parameter: Parameter, value: Any, rng: Random) -> Any:
    """Another category, or a number nearby."""
    if parameter.type == "categorical":
        others = [choice for choice in parameter.choices if not is_same(choice, value)]
        return others[int(rng.random() * len(others))]
    share = parameter.share_of(value)
    for _ in range(MAX_REDRAWS):
        other = parameter.of_share(_folded(share + MUTATION_SHARE * _normal(rng)))
        if other != value:
            return other
    return parameter.of_share(rng.random())


def _normal(rng: Random) -> float:
    """A normally distributed number (Box and Muller), of `random()` alone."""
    return math.sqrt(-2.0 * math.log(1.0 - rng.random())) * math.cos(2.0 * math.pi * rng.random())


def _folded(share: float) -> float:
    """Reflect at the ends of the range, so that these are not drawn more often than others."""
    share = abs(share) % 2.0
    return 2.0 - share if share > 1.0 else share


def _is_point(one: Values, other: Values) -> bool:
    return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
