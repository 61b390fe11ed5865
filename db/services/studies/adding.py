"""Adding trials to a study, up to what its budget and the credits of its account allow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import Insert, Integer, Row, Table, Uuid, any_, bindparam, func, insert, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Work
from db.services import credits, jobs
from db.services.studies.state import State
from db.tables import Dataset, DatasetVersion, Experiment, Pipeline, PipelineSnapshot, Run, Trial
from db.tables.jobs import JobKind
from db.tables.studies import StudyReason, StudyStatus

KIND = JobKind.TRAIN
STUDY_PARAMETER = "study"  # of the jobs of trials

# The datasets that trials read, locked against deletion in the order in which others lock several; those that were deleted are missing.
_BASE = (
    select(
        DatasetVersion.id.label("version_id"),
        Dataset.id,
        Dataset.modality,
        Pipeline.name.label("pipeline_name"),
        Pipeline.version.label("pipeline_version"),
    )
    .select_from(DatasetVersion)
    .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    .join(PipelineSnapshot, PipelineSnapshot.id == bindparam("p_snapshot_id", type_=Uuid()))
    .join(Pipeline, Pipeline.id == PipelineSnapshot.pipeline_id)
    .where(DatasetVersion.id == any_(bindparam("p_version_ids", type_=ARRAY(Uuid))), Dataset.deleted_at.is_(None))
    .order_by(Dataset.id)
    .with_for_update(read=True, key_share=True, of=Dataset)
)
_OF_STUDY = ("owner_id", "experiment_id", "seed", "config", "dataset_id", "dataset_version_id", "pipeline_id", "study_id")


@cache
def _insert_statement() -> Insert:
    """Insert a trial with its run for each job, numbered in the order of the jobs."""
    count, first = bindparam("p_count", type_=Integer()), bindparam("p_first_number", type_=Integer())
    job_ids = func.unnest(bindparam("p_job_ids", type_=ARRAY(Uuid))).table_valued("id", with_ordinality="position", name="job")
    job = job_ids.render_derived()
    of_study = {name: bindparam(f"p_{name}", type_=Run.__table__.c[name].type) for name in _OF_STUDY}
    counted = (
        update(Experiment)
        .where(Experiment.id == of_study["experiment_id"])
        .values(last_number=Experiment.last_number + count)
        .returning(Experiment.last_number)
        .cte("experiment")
    )
    runs = (
        insert(cast("Table", Run.__table__))
        .from_select(
            [*_OF_STUDY, "number", "job_id"],
            select(*of_study.values(), counted.c.last_number - count + job.c.position, job.c.id).select_from(counted).join(job, true()),
        )
        .returning(Run.id, Run.job_id)
        .cte("new_runs")
    )
    trials = select(of_study["study_id"], first + job.c.position - 1, job.c.id, runs.c.id, func.clock_timestamp())
    statement = insert(Trial).from_select(
        ["study_id", "number", "job_id", "run_id", "created_at"], trials.select_from(job).join(runs, runs.c.job_id == job.c.id)
    )
    return statement.returning(Trial.id, Trial.number)


def _room(state: State, open_trials: Sequence[Row[Any]], cost: int) -> int:
    """How many trials may be added now."""
    row, last = state.row, state.get("last_number")
    count = min(row.max_parallel - state.get("open_trials"), row.trials_total - last)
    if row.is_reproducible and open_trials:
        # Trial n looks at all trials up to n - max_parallel, so these must have ended.
        count = min(count, open_trials[0].number + row.max_parallel - 1 - last)
    if row.max_credits is not None and cost:
        left = row.max_credits - state.get("credits_held") - state.get("credits_charged")
        count = min(count, left // cost)
    return max(0, count)


async def top_up(work: Work, state: State, open_trials: Sequence[Row[Any]], most: int | None) -> int:
    """Add as many trials as there is room for, at `most` so many, and return how many; end or pause the study if it cannot pay for any."""
    cost = credits.price(KIND)
    wanted = _room(state, open_trials, cost)
    if wanted == 0:
        if state.get("open_trials") == 0:  # its budget pays for none, and nothing that it holds will be released
            ends_as = StudyStatus.COMPLETED if state.has_results else StudyStatus.FAILED
            state.set(ends_as=ends_as, reason=StudyReason.CREDITS)
        return 0
    if most == 0:
        state.stop_clock()
        state.set(status=StudyStatus.PAUSED, reason=StudyReason.CREDITS)
        return 0
    base = await _load_base(work, state.row)
    if base is None:
        state.set(ends_as=StudyStatus.FAILED, reason=StudyReason.FAILURES)
        return 0
    count = wanted if most is None else min(wanted, most)
    await _add_trials(work, state, base, count)
    state.add("open_trials", count)
    state.add("credits_held", count * cost)
    return count


async def _load_base(work: Work, row: Row[Any]) -> Row[Any] | None:
    """What all trials have in common; None if a dataset that they read was deleted. Locks these against deletion."""
    version_ids = {row.dataset_version_id, *row.input_version_ids}
    rows = await work.all(_BASE, {"p_snapshot_id": row.snapshot_id, "p_version_ids": list(version_ids)})
    return next((each for each in rows if each.version_id == row.dataset_version_id), None) if len(rows) == len(version_ids) else None


async def _add_trials(work: Work, state: State, base: Row[Any], count: int) -> None:
    """Insert trials with their jobs and runs. Their parameters are drawn by their bodies."""
    row, first = state.row, state.get("last_number") + 1
    new_job = jobs.NewJob(
        owner_id=row.owner_id,
        created_by_id=row.created_by_id,
        kind=KIND,
        queue=jobs.queue_for(KIND, base.modality),
        parameters={"seed": row.seed, "parameters": {}, STUDY_PARAMETER: str(row.id)},
        dataset_id=base.id,
        dataset_version_id=row.dataset_version_id,
        pipeline_id=row.pipeline_id,
        snapshot_id=row.snapshot_id,
        inputs=list(row.input_version_ids),
        extras=row.extras,
    )
    job_ids = [(await jobs.submit(work, new_job)).id for _ in range(count)]
    parameters: dict[str, Any] = {
        "owner_id": row.owner_id,
        "experiment_id": row.experiment_id,
        "seed": row.seed,
        "config": {"pipeline": base.pipeline_name, "pipelineVersion": base.pipeline_version, "parameters": {}},
        "dataset_id": base.id,
        "dataset_version_id": row.dataset_version_id,
        "pipeline_id": row.pipeline_id,
        "study_id": row.id,
        "job_ids": job_ids,
        "count": count,
        "first_number": first,
    }
    trials = await work.all(_insert_statement(), {f"p_{name}": value for name, value in parameters.items()})
    state.values["last_number"] = first + count - 1
    state.events += [trial.id for trial in sorted(trials, key=lambda trial: trial.number)]
