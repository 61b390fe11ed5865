"""Create experiments and runs; reset and copy the runs of training jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, exists, func, insert, select
from sqlalchemy import update as update_rows
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.annotations import changed_annotations
from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import visible
from db.core.unique import translate_unique_violation
from db.core.work import Work
from db.errors import NameTaken, NotFound, WrongState
from db.tables import Experiment, Job, JobCheckpoint, MetricPoint, Run, RunMetric
from db.tables.experiments import RunSource, RunStatus

DEFAULT = "Default"
NOTES_LENGTH = 100_000
_UNIQUE = "uq_experiments_owner_id_name"


@dataclass(frozen=True, slots=True)
class NewExperiment:
    """An experiment to be created; names are unique per owner, ignoring case."""

    name: str
    description: str | None = None
    notes: str | None = None
    owner_id: UUID | None = None
    """A team, or the viewer if None."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be created together with its job, or without one if it is external: it is RUNNING from the beginning."""

    owner_id: UUID
    experiment_id: UUID
    job_id: UUID | None
    dataset_id: UUID | None
    dataset_version_id: UUID | None
    seed: int
    hyperparameters: dict[str, Any]
    config: dict[str, Any]
    name: str | None = None
    study_id: UUID | None = None
    notes: str | None = None
    source: RunSource = RunSource.JOB
    parent_run_id: UUID | None = None
    original_run_id: UUID | None = None
    started_at: datetime | None = None
    annotations: dict[str, str] | None = None


async def create(work: Work, new: NewExperiment) -> UUID:
    """Raises `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    owner_id = work.viewer.owner_of_new(new.owner_id)
    checks = Checks()
    values = {
        "name": checks.name(new.name, "name"),
        "description": checks.text(new.description, "description"),
        "notes": checks.text(new.notes, "notes", length=NOTES_LENGTH),
    }
    checks.raise_if_invalid()
    with translate_unique_violation(_UNIQUE, NameTaken("experiment", str(values["name"]))):
        experiment_id: UUID = await work.scalar(
            insert(Experiment).values(owner_id=owner_id, created_by_id=work.viewer.maker_id, **values).returning(Experiment.id)
        )
    work.record("create_experiment", "experiment", experiment_id, owner_id, after=values)
    return experiment_id


async def update(work: Work, experiment_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set, None clearing one. Raises `NotFound`, `InvalidInput` or `NameTaken`."""
    work.viewer.require_write()
    is_live = Experiment.deleted_at.is_(None)
    statement = select(*Experiment.__table__.c).where(Experiment.id == experiment_id, is_live, visible(Experiment, work.viewer))
    experiment = await work.first(statement.with_for_update(key_share=True))
    if experiment is None:
        raise NotFound(str(experiment_id))
    checks = Checks()
    values = dict(changes)
    checks.new_name(values, "An experiment")
    checks.text(values.get("description"), "description")
    checks.text(values.get("notes"), "notes", length=NOTES_LENGTH)
    if "annotations" in values:
        values["annotations"] = changed_annotations(checks, experiment.annotations, values["annotations"])
    checks.raise_if_invalid()
    if values:
        with translate_unique_violation(_UNIQUE, NameTaken("experiment", str(values.get("name")))):
            await work.run(update_rows(Experiment).where(Experiment.id == experiment_id).values(values))
        work.record("update_experiment", "experiment", experiment_id, experiment.owner_id, *differences(experiment, values))
    return experiment_id


async def update_run(work: Work, run_id: UUID, changes: dict[str, Any]) -> UUID:
    """`changes` holds the fields to set, None clearing one. Raises `NotFound` or `InvalidInput`."""
    work.viewer.require_write()
    columns = (Run.id, Run.owner_id, Run.name, Run.notes, Run.annotations)
    statement = select(*columns).join(Experiment, Experiment.id == Run.experiment_id)
    statement = statement.where(Run.id == run_id, Experiment.deleted_at.is_(None), Run.deleted_at.is_(None), visible(Run, work.viewer))
    run = await work.first(statement.with_for_update(of=Run, key_share=True))
    if run is None:
        raise NotFound(str(run_id))
    checks = Checks()
    values = dict(changes)
    if values.get("name") is not None:
        values["name"] = checks.name(values["name"], "name")
    checks.text(values.get("notes"), "notes", length=NOTES_LENGTH)
    if "annotations" in values:
        values["annotations"] = changed_annotations(checks, run.annotations, values["annotations"])
    checks.raise_if_invalid()
    if values:
        await work.run(update_rows(Run).where(Run.id == run_id).values(values))
        work.record("update_run", "run", run_id, run.owner_id, *differences(run, values))
    return run_id


async def owned_experiment(work: Work, owner_id: UUID, experiment_id: UUID) -> UUID | None:
    """Return the id of a live experiment that the viewer may see if it belongs to `owner_id`, else None. It is locked against deletion.

    Raises `NotFound`.
    """
    statement = select(Experiment.owner_id).where(
        Experiment.id == experiment_id, Experiment.deleted_at.is_(None), visible(Experiment, work.viewer)
    )
    actual_owner_id = await work.scalar(statement.with_for_update(read=True, key_share=True))
    if actual_owner_id is None:
        raise NotFound(str(experiment_id))
    return experiment_id if actual_owner_id == owner_id else None


async def default_experiment(work: Work, owner_id: UUID) -> UUID:
    """Return the id of the owner's experiment "Default", created where missing and locked against deletion."""
    statement = select(Experiment.id).where(
        Experiment.owner_id == owner_id, func.lower(Experiment.name) == DEFAULT.lower(), Experiment.deleted_at.is_(None)
    )
    statement = statement.with_for_update(read=True, key_share=True)
    experiment_id = await work.scalar(statement)
    if experiment_id is None:
        values = {"name": DEFAULT, "description": "Runs that were started without an experiment."}
        insertion = upsert(Experiment).values(owner_id=owner_id, created_by_id=work.viewer.maker_id, **values)
        experiment_id = await work.scalar(insertion.on_conflict_do_nothing().returning(Experiment.id))
    # If a concurrent transaction created it, the insert waited for its commit and did nothing: read that row.
    return experiment_id if experiment_id is not None else await work.scalar(statement)


async def add_run(work: Work, new: NewRun) -> UUID:
    """Add a run with the experiment's next number; the experiment's row stays locked until the transaction ends. Raises `NotFound` if it is deleted."""
    is_live = (Experiment.id == new.experiment_id, Experiment.deleted_at.is_(None))
    increment = update_rows(Experiment).where(*is_live).values(last_number=Experiment.last_number + 1)
    number = await work.scalar(increment.returning(Experiment.last_number))
    if number is None:
        raise NotFound(str(new.experiment_id))
    insertion = insert(Run).values(
        owner_id=new.owner_id,
        experiment_id=new.experiment_id,
        number=number,
        name=new.name,
        seed=new.seed,
        hyperparameters=new.hyperparameters,
        config=new.config,
        job_id=new.job_id,
        dataset_id=new.dataset_id,
        dataset_version_id=new.dataset_version_id,
        pipeline_id=select(Job.pipeline_id).where(Job.id == new.job_id).scalar_subquery(),
        study_id=new.study_id,
        notes=new.notes,
        source=new.source,
        parent_run_id=new.parent_run_id,
        original_run_id=new.original_run_id,
        annotations=new.annotations or {},
    )
    if new.source is RunSource.EXTERNAL:
        started_at = func.now() if new.started_at is None else new.started_at
        insertion = insertion.values(status=RunStatus.RUNNING, started_at=started_at, last_written_at=func.now())
    return await work.scalar(insertion.returning(Run.id))


async def restart_points(work: Work, job: Row[Any]) -> None:
    """Delete the points of earlier attempts if there is no checkpoint, since this attempt then starts over."""
    if job.attempt == 1:
        return
    has_checkpoint = exists().where(JobCheckpoint.job_id == job.id)
    run_id = select(Run.id).where(Run.job_id == job.id, ~has_checkpoint).scalar_subquery()
    await work.run(delete(MetricPoint).where(MetricPoint.run_id == run_id))
    await work.run(delete(RunMetric).where(RunMetric.run_id == run_id))


async def copy_run(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Add the run of a retried training to the same experiment, with the same seed and configuration. Raises `WrongState` if that is deleted."""
    run = await work.first(select(*Run.__table__.c).where(Run.job_id == old.id))
    if run is None:
        return
    live = select(Experiment.id).where(Experiment.id == run.experiment_id, Experiment.deleted_at.is_(None))
    if await work.scalar(live.with_for_update(read=True, key_share=True)) is None:
        raise WrongState(
            old.status.name, "The experiment of this job's run was deleted, so it cannot be done again. Restore the experiment first."
        )
    await add_run(
        work,
        NewRun(
            owner_id=run.owner_id,
            experiment_id=run.experiment_id,
            job_id=new.id,
            dataset_id=run.dataset_id,
            dataset_version_id=run.dataset_version_id,
            seed=run.seed,
            hyperparameters=run.hyperparameters,
            config=run.config,
            name=run.name,
            original_run_id=run.original_run_id,
        ),
    )
