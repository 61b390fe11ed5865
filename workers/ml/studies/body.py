"""The bodies of studies: they draw the point of a trial, and rank the parameters of a study."""

from __future__ import annotations

from typing import Any, TypedDict

from workers.ml.reporting import Reporter
from workers.ml.studies.drawing import Drawn, draw


class DrawingSpec(TypedDict):
    """See `draw`."""

    method: str
    space: list[dict[str, Any]]
    seed: int
    number: int
    trials: list[dict[str, Any]]
    goal: str


class RankingSpec(TypedDict):
    """See `importances`."""

    space: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    goal: str


def draw_point(spec: DrawingSpec, _reporter: Reporter) -> Drawn:
    """Draw the parameters of a trial."""
    return draw(spec["method"], spec["space"], spec["seed"], spec["number"], spec["trials"], spec["goal"])


def rank_parameters(spec: RankingSpec, _reporter: Reporter) -> dict[str, Any]:
    """Return `importances`: how much each parameter matters, with the most important first."""
    from workers.ml.studies.bayesian import importances  # imports Optuna, of which a point that is drawn without it knows nothing

    return {"importances": importances(spec["space"], spec["trials"], spec["goal"])}
