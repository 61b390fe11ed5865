"""The bodies of studies: they draw the point of a trial, and rank the parameters of a study."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NotRequired, TypedDict

from workers.ml.reporting import Reporter
from workers.ml.studies.drawing import Drawn, draw


class ArchitecturesSpec(TypedDict):
    """The `definition` of the pipeline without the parameters of a trial, and the hashes of the architectures that the study has tried."""

    definition: dict[str, Any]
    taken: Collection[str]


class DrawingSpec(TypedDict):
    """See `draw`; `architectures` in a study of architectures alone."""

    method: str
    space: list[dict[str, Any]]
    seed: int
    number: int
    trials: list[dict[str, Any]]
    goal: str
    architectures: NotRequired[ArchitecturesSpec]


class RankingSpec(TypedDict):
    """See `importances`."""

    space: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    goal: str


def draw_point(spec: DrawingSpec, _reporter: Reporter) -> Drawn:
    """Draw the parameters of a trial. Raises `BadInput` (NO_NEW_ARCHITECTURE)."""

    def drawn(redraw: int) -> Drawn:
        return draw(spec["method"], spec["space"], spec["seed"], spec["number"], spec["trials"], spec["goal"], redraw)

    if "architectures" not in spec:
        return drawn(0)
    from workers.ml.studies.architectures import new_architecture  # imports the steps, of which other studies need none

    return new_architecture(spec["architectures"]["definition"], spec["architectures"]["taken"], spec["number"], drawn)


def rank_parameters(spec: RankingSpec, _reporter: Reporter) -> dict[str, Any]:
    """Return `importances`: how much each parameter matters, with the most important first."""
    from workers.ml.studies.bayesian import importances  # imports Optuna, of which a point that is drawn without it knows nothing

    return {"importances": importances(spec["space"], spec["trials"], spec["goal"])}
