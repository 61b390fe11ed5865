"""Trials of studies: TRAIN jobs whose parameters are drawn first, and whose model is kept until it is registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from db.core.viewer import SYSTEM
from db.core.work import Work
from db.services import outputs, quota
from db.services.jobs import Failure
from db.services.outputs import StoredFile
from db.services.studies import drawing
from db.services.studies.scheduling import STUDY_PARAMETER
from db.tables import Job
from workers.runtime.attempt import Attempt
from workers.runtime.failures import BodyFailed
from workers.runtime.reports import Superseded

BODY = "workers.ml.studies.body:draw_point"
KEPT = ("algorithm", "framework", "architecture", "network", "best_step", "config", "problem_type", "hyperparameters", "versions")
"""What of the result of a training a model version is made of, besides its files and metrics."""


async def begin_trial(attempt: Attempt) -> Row[Any] | None:
    """Draw the parameters of a trial, unless an earlier attempt did; None for a job of no study.

    Afterwards the snapshot of the attempt's job is that with the parameters.
    """
    job = attempt.job
    if STUDY_PARAMETER not in job.parameters:
        return None
    trial = await drawing.load_trial(attempt.database, job.id)
    if trial.parameters is not None:
        return trial
    attempt.progress(0, "Draw the parameters")
    spec = await drawing.drawing_spec(attempt.database, trial)
    drawn = await attempt.run_body(BODY, spec, span=(0, 1), is_shared=True, is_last=False)
    point = drawing.DrawnPoint(drawn["parameters"], drawn["suggested_from"])
    async with attempt.database.work(SYSTEM) as work:
        if not await drawing.record_draw(work, attempt.claim, trial, point):
            raise Superseded
    (attempt.job,) = await attempt.database.rows(select(*Job.__table__.c).where(Job.id == job.id))
    return trial


async def keep_result(
    work: Work, settled: Row[Any], trial: Row[Any], run: Row[Any], result: dict[str, Any], files: Sequence[StoredFile]
) -> list[str]:
    """Write what a trial found, and keep the files of its model. Raises `BodyFailed` if it has no value of the study's metric."""
    value = await drawing.objective(work, run.id, trial.metric)
    if value is None:
        message = f"Trial {trial.number} has no finite value of the study's metric {trial.metric!r}: its training does not report it, or it diverged."
        raise BodyFailed(Failure("NO_OBJECTIVE", message, retryable=False))
    await drawing.record_result(work, settled, run.id, value, {name: result[name] for name in KEPT})
    duplicate_keys: list[str] = []
    await outputs.add_artifacts(work, settled, files, duplicate_keys, attempt=settled.attempt, run_id=run.id)
    quota.check_before_commit(work, settled.owner_id)
    return duplicate_keys
