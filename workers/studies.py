"""Trials of studies: TRAIN jobs whose parameters are drawn first, and whose model is kept until it is registered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, select

from db.core.viewer import SYSTEM
from db.core.work import Work
from db.services import outputs, quota
from db.services.jobs import Failure
from db.services.outputs import StoredFile
from db.services.studies import drawing, importances, pruning
from db.services.studies.adding import STUDY_PARAMETER
from db.tables import Job
from workers.ml.studies import halving
from workers.runtime.attempt import Attempt
from workers.runtime.failures import BodyFailed
from workers.runtime.reports import Superseded

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BODY = "workers.ml.studies.body:draw_point"
RANKING_BODY = "workers.ml.studies.body:rank_parameters"
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
    while not await _draw(attempt, trial):
        pass  # each time, another trial has taken an architecture more
    (attempt.job,) = await attempt.database.rows(select(*Job.__table__.c).where(Job.id == job.id))
    return trial


async def _draw(attempt: Attempt, trial: Row[Any]) -> bool:
    """Draw and write the parameters; return whether that is done, or another trial has been given the same architecture meanwhile."""
    spec = await drawing.drawing_spec(attempt.database, trial)
    drawn = await attempt.run_body(BODY, spec, span=(0, 1), is_shared=True, is_last=False)
    point = drawing.DrawnPoint(drawn["parameters"], drawn["suggested_from"], drawn.get("architecture_hash"))
    try:
        async with attempt.database.work(SYSTEM) as work:
            if not await drawing.record_draw(work, attempt.claim, trial, point):
                raise Superseded
    except drawing.ArchitectureTaken:
        return False
    return True


def halving_options(attempt: Attempt, trial: Row[Any]) -> dict[str, Any]:
    """Return what a body is told of the rungs of its trial, and answer at them from now on; nothing for a trial that is not ended early."""
    if trial.min_steps is None:
        return {}

    async def answer(reached: dict[str, Any]) -> halving.Standing:
        async with attempt.database.work(SYSTEM) as work:
            standing = await pruning.reach(work, attempt.claim, trial, reached["rung"], reached["value"])
            if standing is None:
                raise Superseded
            decision = standing.pruning
            if decision is not None:  # told to an earlier attempt
                return {"rank": decision["rank"], "of": decision["of"], "goes_on": reached["rung"] < decision["rung"]}
            goes_on = halving.goes_on(standing.rank, standing.of, trial.reduction_factor)
            if not goes_on:
                await pruning.prune(work, trial, {**reached, "rank": standing.rank, "of": standing.of})
            return {"rank": standing.rank, "of": standing.of, "goes_on": goes_on}

    attempt.answer(halving.RUNG_QUESTION, answer)
    rungs = halving.rungs_of_trial(trial.number, trial.min_steps, trial.max_steps, trial.reduction_factor)
    return {"halving": {"metric": trial.metric, "rungs": rungs}}


async def rank_parameters(attempt: Attempt, trial: Row[Any], run_id: UUID) -> None:
    """Rank the parameters of the study with what this trial has found, and store that. The trial does not depend on it."""
    await attempt.reports.flush_points()
    async with attempt.database.work(SYSTEM) as work:
        value = await drawing.objective(work, run_id, trial.metric)
    if value is None:
        return
    spec = await importances.ranking_spec(attempt.database, trial, value)
    try:
        ranked = await attempt.run_body(RANKING_BODY, spec, span=(99, 99))
    except BodyFailed:
        log.warning("parameters_not_ranked", study=str(trial.study_id), exc_info=True)
    else:
        await importances.store(attempt.database, trial, ranked["importances"], len(spec["trials"]))


async def keep_result(
    work: Work, settled: Row[Any], trial: Row[Any], run: Row[Any], result: dict[str, Any], files: Sequence[StoredFile]
) -> list[str]:
    """Write what a trial found, and keep the files of its model. Raises `BodyFailed` if it has no value of the study's metric."""
    value = await drawing.objective(work, run.id, trial.metric)
    if value is None:
        message = (
            f"Trial {trial.number} has no finite value of the study's metric {trial.metric!r}: its training does not report it, or it diverged."
            " A metric of validation rows needs a split that has some."
        )
        raise BodyFailed(Failure("NO_OBJECTIVE", message, retryable=False))
    await drawing.record_result(work, settled, run.id, value, {name: result[name] for name in KEPT})
    duplicate_keys: list[str] = []
    await outputs.add_artifacts(work, settled, files, duplicate_keys, attempt=settled.attempt, run_id=run.id)
    quota.check_before_commit(work, settled.owner_id)
    return duplicate_keys
