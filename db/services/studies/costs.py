"""What a study would cost, and how long it would take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from uuid import UUID

from db.core.viewer import Viewer
from db.core.work import Database
from db.queries import pipelines, studies
from db.services import credits
from db.services.studies.adding import KIND


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The credits of all trials, the seconds that they take with `max_parallel` at once, and the earlier trainings that tell so."""

    credits: int
    seconds: float | None
    based_on: int
    basis: str


async def estimate(database: Database, viewer: Viewer, pipeline_id: UUID, max_trials: int, max_parallel: int) -> CostEstimate | None:
    """Estimate a study of a pipeline; None if the viewer may not see it."""
    if not await pipelines.live_by_id(database, viewer, [pipeline_id]):
        return None
    basis = "The newest trainings of this pipeline that completed."
    found = await studies.duration_of_trainings(database, viewer, pipeline_id)
    if found.median_seconds is None:
        basis = "No training of this pipeline has completed, so the time is not known."
    rounds = math.ceil(max_trials / max_parallel)
    seconds = None if found.median_seconds is None else found.median_seconds * rounds
    return CostEstimate(credits.price(KIND) * max_trials, seconds, found.jobs, basis)
