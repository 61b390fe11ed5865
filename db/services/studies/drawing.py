"""The parameters of a trial: what they are drawn from, and writing them once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, select, update

from db.core.base import finite_or_none
from db.core.unique import translate_unique_violation
from db.core.work import Database, Work
from db.errors import StateError
from db.services import models
from db.services.jobs import Claim, events
from db.services.pipelines import definitions, running
from db.services.studies.scheduling import schedule_after_commit
from db.tables import Job, PipelineSnapshot, Run, RunMetric, StepDefinition, Study, Trial
from db.tables.jobs import JobEventType
from db.tables.pipelines import StepType
from db.tables.studies import StudyKind, StudyMethod

USES_TRIALS = frozenset({StudyMethod.BAYESIAN, StudyMethod.EVOLUTION})
"""The methods that draw from what other trials found; only for these are they read."""

_TRIAL = (
    select(
        Trial.id,
        Trial.study_id,
        Trial.number,
        Trial.parameters,
        Study.kind,
        Study.method,
        Study.metric,
        Study.goal,
        Study.space,
        Study.seed,
        Study.is_reproducible,
        Study.max_parallel,
        Study.trials_total,
        Study.min_steps,
        Study.max_steps,
        Study.reduction_factor,
        Study.snapshot_id,
    )
    .join(Study, Study.id == Trial.study_id)
    .where(Trial.job_id == bindparam("p_job_id"))
)


class ArchitectureTaken(StateError):
    """Of two trials that were drawn at once, both have the same architecture, and the other one was written first."""


@dataclass(frozen=True, slots=True)
class DrawnPoint:
    """The parameters of a trial, {"node.name": value}, and the highest number of the trials that they were drawn from; in a study of architectures,
    the hash of that which they make."""

    parameters: Mapping[str, Any]
    suggested_from: int | None
    architecture_hash: str | None = None


async def load_trial(database: Database, job_id: UUID) -> Row[Any]:
    """Load the trial that the job does, with what its study says of drawing."""
    (row,) = await database.rows(_TRIAL, {"p_job_id": job_id})
    return row


async def drawing_spec(database: Database, trial: Row[Any]) -> dict[str, Any]:
    """What a body draws from, as JSON: the trials by number, in one snapshot, of a reproducible study only those that had to end before."""
    trials: list[dict[str, Any]] = []
    if trial.method in USES_TRIALS:
        last = trial.number - (trial.max_parallel if trial.is_reproducible else 1)
        columns = (Trial.number, Trial.status, Trial.parameters, Trial.value)
        statement = select(*columns).where(Trial.study_id == trial.study_id, Trial.number <= last).order_by(Trial.number)
        trials = [
            {"number": row.number, "status": row.status.value, "parameters": row.parameters, "value": row.value, "points": {}}
            for row in await database.rows(statement)
        ]
    spec: dict[str, Any] = {}
    if trial.kind is StudyKind.NAS:
        (snapshot,) = await database.rows(select(PipelineSnapshot.definition).where(PipelineSnapshot.id == trial.snapshot_id))
        is_taken = (Trial.study_id == trial.study_id) & Trial.architecture_hash.is_not(None)
        taken = [row.architecture_hash for row in await database.rows(select(Trial.architecture_hash).where(is_taken))]
        spec["architectures"] = {"definition": snapshot.definition, "taken": taken}
    return spec | {
        "method": trial.method.value,
        "space": trial.space,
        "seed": trial.seed,
        "number": trial.number,
        "trials": trials,
        "goal": trial.goal.value,
    }


async def record_draw(work: Work, claim: Claim, trial: Row[Any], point: DrawnPoint) -> bool:
    """Write the parameters of a trial, the snapshot of the pipeline with them, and the event that tells them. False if the claim is lost.

    The event locks the job if the attempt still holds it, so of several attempts one writes, and the later ones find what it wrote.
    Raises `ArchitectureTaken` if another trial of the study has been given the same architecture meanwhile.
    """
    data = {"parameters": dict(point.parameters), "trial": trial.number}
    if await events.append(work, claim, JobEventType.PROGRESS, message=f"Trial {trial.number} has its parameters.", data=data) is None:
        return False
    values = {
        "parameters": dict(point.parameters),
        "suggested_from": point.suggested_from,
        "architecture_hash": point.architecture_hash,
    }
    with translate_unique_violation("uq_trials_study_id_architecture_hash", ArchitectureTaken()):
        written = await work.run(update(Trial).where(Trial.id == trial.id, Trial.parameters.is_(None)).values(values))
    if not written:
        raise RuntimeError(f"Trial {trial.number} of study {trial.study_id} has parameters already.")
    columns = (
        PipelineSnapshot.pipeline_id,
        PipelineSnapshot.owner_id,
        PipelineSnapshot.definition,
        Run.id.label("run_id"),
        Run.config,
        Job.parameters,
    )
    statement = select(*columns)
    statement = statement.select_from(Job).join(PipelineSnapshot, PipelineSnapshot.id == Job.snapshot_id).join(Run, Run.job_id == Job.id)
    base = await work.one(statement.where(Job.id == claim.job_id))
    overrides = nested(point.parameters)
    definition, _ = definitions.apply_parameters(base.definition, overrides)
    snapshot_id = await running.ensure_snapshot(work, base.pipeline_id, base.owner_id, definition)
    parameters = {**base.parameters, "parameters": overrides}
    await work.run(update(Job).where(Job.id == claim.job_id).values(snapshot_id=snapshot_id, parameters=parameters))
    training = await _training_node(work, definition)
    config = {**base.config, "step": training["step"], "parameters": overrides}
    await work.run(update(Run).where(Run.id == base.run_id).values(hyperparameters=training["parameters"], config=config))
    schedule_after_commit(work, trial.study_id)  # counts the trial as running
    return True


async def _training_node(work: Work, definition: definitions.Definition) -> dict[str, Any]:
    keys = [node["step"] for node in definition["nodes"]]
    steps = select(StepDefinition.key).where(StepDefinition.key.in_(keys), StepDefinition.type == StepType.TRAIN)
    training = {row.key for row in await work.all(steps)}
    return next(node for node in definition["nodes"] if node["step"] in training)


def nested(parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{"node.name": value} as {node: {name: value}}; names of parameters have no dots, those of nodes may."""
    overrides: dict[str, dict[str, Any]] = {}
    for key, value in parameters.items():
        node, _, name = key.rpartition(".")
        overrides.setdefault(node, {})[name] = value
    return overrides


async def objective(work: Work, run_id: UUID, metric: str) -> float | None:
    """The last value of a metric of a run; None if it has none or that is not finite. All points of the run must be written before."""
    return finite_or_none(await work.scalar(select(RunMetric.last).where(RunMetric.run_id == run_id, RunMetric.key == metric)))


async def record_result(work: Work, job: Row[Any], run_id: UUID, value: float, result: Mapping[str, Any]) -> None:
    """Write what the trial found, in the transaction that settles its job. `result` is what a model version is made of."""
    await models.record_training(work, run_id, result)
    network = result["network"]
    values = {"value": value, "result": dict(result), "parameter_count": None if network is None else network["parameterCount"]}
    await work.run(update(Trial).where(Trial.job_id == job.id).values(values))
