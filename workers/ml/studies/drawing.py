"""Draws the parameters of a trial: a function of the study's space and seed, the trial's number, and the trials that it may look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from workers.ml.studies.evolution import evolved_point
from workers.ml.studies.grid import grid_point
from workers.ml.studies.observed import observed
from workers.ml.studies.random_points import generator, random_point
from workers.ml.studies.space import Space, Values


class Drawn(TypedDict):
    """`parameters` are by "node.name", those that are active alone. `suggested_from` is the highest number of an ended trial that the point was drawn
    from; None if it was drawn from none. `architecture_hash` is there in studies of architectures."""

    parameters: Values
    suggested_from: int | None
    architecture_hash: NotRequired[str]


def draw(
    method: str,
    space: Sequence[Mapping[str, Any]],
    seed: int,
    number: int,
    trials: Sequence[Mapping[str, Any]],
    goal: str,
    attempt: int = 0,
) -> Drawn:
    """Draw the point of trial `number` by `method`: "grid", "random", "bayesian", "hyperband" or "evolution".

    The same arguments give the same point, also after `trials` were JSON and in whatever order. A further `attempt` draws another point for the same
    trial, where the first one cannot be used; of a grid, each number has one. `goal` is "maximize" or "minimize".
    """
    parameters = Space(space)
    if method == "grid":
        return {"parameters": grid_point(parameters, number), "suggested_from": None}
    rng = generator(seed, number, attempt)
    if method in ("random", "hyperband"):
        # Successive halving decides which trials end early, not where they are: a point depends on no trial, and brackets share one sequence.
        return {"parameters": random_point(parameters, rng), "suggested_from": None}
    rows = observed(trials)
    ended = [row.number for row in rows if row.has_ended]
    if method == "evolution":
        point, parent = evolved_point(parameters, rng, rows, goal)
        return {"parameters": point, "suggested_from": None if parent is None else ended[-1]}
    if method != "bayesian":
        raise ValueError(f"There is no method {method!r}.")
    from workers.ml.studies.bayesian import RANDOM_TRIALS, estimated_point

    if len(ended) < RANDOM_TRIALS:
        return {"parameters": random_point(parameters, rng), "suggested_from": None}
    return {"parameters": estimated_point(parameters, seed, number, rows, goal, attempt), "suggested_from": ended[-1]}
