"""Register the model of a trial as a version of a model. Until then it is kept with the trial's job alone."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import Conflict, NotFound, WrongState, invalid
from db.queries.artifacts import CONFIG, LOG
from db.services import models
from db.tables import Artifact, Job, ModelVersion, Run, Study, Trial
from db.tables.studies import TrialStatus


async def register(work: Work, trial_id: UUID, model_name: str | None) -> UUID:
    """Register the model of a completed trial as the next version of the model of this name, the study's by default; return the version's id.

    Raises `NotFound`, `WrongState` for a trial that has no model or whose model is registered, or `InvalidInput`.
    """
    work.viewer.require_write()
    statement = (
        select(Trial.id, Trial.number, Trial.status, Trial.job_id, Trial.run_id, Trial.result, Study.name, Study.owner_id)
        .join(Study, Study.id == Trial.study_id)
        .where(Trial.id == trial_id, Study.deleted_at.is_(None), visible(Study, work.viewer))
        .with_for_update(of=Trial, key_share=True)
    )
    trial = await work.first(statement)
    if trial is None:
        raise NotFound(str(trial_id))
    if trial.status is not TrialStatus.COMPLETED or trial.result is None:
        message = f"Trial {trial.number} is {trial.status.name}; only the model of a COMPLETED one can be registered."
        raise WrongState(trial.status.name, message)
    checks = Checks()
    name = checks.name(trial.name if model_name is None else model_name, "modelName")
    checks.raise_if_invalid()
    existing = await work.first(select(ModelVersion.id).where(ModelVersion.run_id == trial.run_id))
    if existing is not None:
        message = f"The model of trial {trial.number} is registered already, as {ref('mversion', existing.id)}. Set an alias to that version instead."
        raise WrongState("REGISTERED", message)
    job = await work.one(select(*Job.__table__.c).where(Job.id == trial.job_id))
    run = await work.one(select(*Run.__table__.c).where(Run.id == trial.run_id))
    try:
        version_id = await models.register_version(work, job, run, trial.result, name)
    except Conflict as error:  # a concurrent training was the first of this model
        raise invalid("modelName", message=error.message) from error
    is_file = (Artifact.job_id == trial.job_id) & Artifact.role.not_in((LOG, CONFIG)) & Artifact.model_version_id.is_(None)
    await work.run(update(Artifact).where(is_file).values(model_version_id=version_id, attempt=None))
    after = {"version": ref("mversion", version_id), "model_name": name}
    work.record("register_trial", "trial", trial.id, trial.owner_id, after=after)
    return version_id
