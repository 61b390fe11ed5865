"""Scheduling of a study: count the trials that have ended, decide whether it goes on, and add trials up to what its budget allows.

It is one transaction under the lock of the study's row, run after the commits that change a job of a trial, and by a maintenance task for those after
which it was not. It may be run at any time, any number of times. The row counts everything, so only the trials that have not ended are read,
however many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, DateTime, Integer, Row, Text, Uuid, any_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.base import finite_or_none
from db.core.goal import Goal
from db.core.viewer import SYSTEM
from db.core.work import Database, Notice, Work
from db.errors import InsufficientCredits, StateError, WrongState
from db.services import credits, datasets, experiments, jobs
from db.tables import Dataset, DatasetVersion, Experiment, Job, Pipeline, PipelineSnapshot, Run, Study, StudyEvent, Trial
from db.tables.jobs import JobKind
from db.tables.jobstates import TERMINAL, JobStatus
from db.tables.studies import OPEN_TRIAL, STUDY_ENDS, StudyReason, StudyStatus, TrialStatus

KIND = JobKind.TRAIN
STUDY_PARAMETER = "study"  # of the jobs of trials
MAX_ROUNDS = 20

_ENDED_AS = {JobStatus.COMPLETED: TrialStatus.COMPLETED, JobStatus.FAILED: TrialStatus.FAILED, JobStatus.CANCELLED: TrialStatus.CANCELLED}
_COUNTERS = {
    TrialStatus.COMPLETED: "trials_completed",
    TrialStatus.PRUNED: "trials_pruned",
    TrialStatus.FAILED: "trials_failed",
    TrialStatus.CANCELLED: "trials_cancelled",
}

_STUDY_ID = bindparam("p_study_id", type_=Uuid())
# The time is that before the lock was waited for.
_LOCK = select(*Study.__table__.c, func.clock_timestamp().label("now")).where(Study.id == _STUDY_ID).with_for_update(key_share=True)
_OPEN_TRIALS = (
    select(
        Trial.id,
        Trial.number,
        Trial.status,
        Trial.value,
        Trial.parameters.is_not(None).label("is_drawn"),
        Trial.pruning.is_not(None).label("is_pruned"),
        Trial.job_id,
        Job.status.label("job_status"),
        Job.credit_cost,
        Job.started_at,
        Job.completed_at,
    )
    .join(Job, Job.id == Trial.job_id)
    .where(Trial.study_id == _STUDY_ID, Trial.status.in_(OPEN_TRIAL))
    .order_by(Job.completed_at.asc().nulls_last(), Trial.number)
)
_changes = (
    func.unnest(
        bindparam("p_ids", type_=ARRAY(Uuid)),
        bindparam("p_statuses", type_=ARRAY(Text)),
        bindparam("p_are_best", type_=ARRAY(Boolean)),
        bindparam("p_started", type_=ARRAY(DateTime(timezone=True))),
        bindparam("p_completed", type_=ARRAY(DateTime(timezone=True))),
    )
    .table_valued("id", "status", "is_best", "started_at", "completed_at", name="changes")
    .render_derived()
)
_CHANGE_TRIALS = (
    update(Trial)
    .where(Trial.id == _changes.c.id)
    .values({name: _changes.c[name] for name in ("status", "is_best", "started_at", "completed_at")})
)
_NUMBERS = func.unnest(bindparam("p_trial_ids", type_=ARRAY(Uuid)), bindparam("p_sequences", type_=ARRAY(Integer))).table_valued(
    "trial_id", "sequence", name="numbered"
)
_numbered = _NUMBERS.render_derived()
_ADD_EVENTS = insert(StudyEvent).from_select(
    ["study_id", "sequence", "trial_id"], select(_STUDY_ID, _numbered.c.sequence, _numbered.c.trial_id)
)


async def on_change(work: Work, job: Row[Any]) -> None:
    """Schedule the study of a job that has ended, once its status is committed."""
    study = job.parameters.get(STUDY_PARAMETER)
    if study is not None and job.status in TERMINAL:
        schedule_after_commit(work, UUID(study))


async def on_retry(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Copy the run of a retried training. Raises `WrongState` for a trial: its study has counted it."""
    if STUDY_PARAMETER in old.parameters:
        message = "The job is a trial of a study, which is not run again. Raise `maxTrials` of the study with `updateStudy`, or run the pipeline with its parameters."
        raise WrongState(old.status.name, message)
    await experiments.copy_run(work, old, new)


def schedule_after_commit(work: Work, study_id: UUID) -> None:
    """Schedule the study when the unit of work is committed."""
    work.after_commit(study_id, partial(_schedule, study_id=study_id))


async def schedule(database: Database, study_id: UUID) -> None:
    """Schedule a study, and cancel the jobs of its trials if it ends."""
    most: int | None = None  # trials that may be added; fewer once the account could not pay for as many
    for _ in range(MAX_ROUNDS):
        step = Step()
        try:
            async with database.work(SYSTEM) as work:
                await _advance(work, study_id, step, most)
        except InsufficientCredits:
            most = step.added // 2
            continue
        if not await _cancel(database, step.to_cancel):
            return
    return


async def _schedule(database: Database, *, study_id: UUID) -> None:
    await schedule(database, study_id)


async def schedule_due(database: Database) -> int:
    """Schedule the studies that were left: a commit was not followed by it, or time is over. Return how many there were."""
    study_ids = [row.id for row in await database.rows(_DUE)]
    for study_id in study_ids:
        await schedule(database, study_id)
    return len(study_ids)


def _due() -> Any:
    of_study = (Trial.study_id == Study.id) & Trial.status.in_(OPEN_TRIAL)
    is_uncounted = Job.status.in_(TERMINAL) | ((Trial.status == TrialStatus.PENDING) & Trial.parameters.is_not(None))
    has_uncounted = select(1).select_from(Trial).join(Job, Job.id == Trial.job_id).where(of_study, is_uncounted).exists()
    is_active = Study.status.in_((StudyStatus.PENDING, StudyStatus.RUNNING))
    has_room = (Study.open_trials < Study.max_parallel) & (Study.last_number < Study.trials_total)
    used = Study.seconds_used + func.extract("epoch", func.clock_timestamp() - Study.running_since)
    is_over = used >= Study.max_seconds
    due = or_(has_uncounted, Study.ends_as.is_not(None), is_active & has_room, is_active & is_over)
    has_not_ended = Study.status.in_((StudyStatus.PENDING, StudyStatus.RUNNING, StudyStatus.PAUSED))
    return select(Study.id).where(has_not_ended, due).order_by(Study.id)


_DUE = _due()


async def _cancel(database: Database, job_ids: Sequence[UUID]) -> bool:
    """Cancel jobs, each in a transaction of its own; return whether one ended by it."""
    has_ended = False
    for job_id in job_ids:
        try:
            async with database.work(SYSTEM) as work:
                work.origin = None  # in the audit, the end of the study stands for that of its trials
                status = await jobs.cancel(work, job_id)
                work.after_commit_actions.clear()  # the caller schedules the study once, after all of them
        except StateError:  # it has ended meanwhile
            has_ended = True
        else:
            has_ended |= status is JobStatus.CANCELLED
    return has_ended


@dataclass(slots=True)
class Step:
    """What one transaction of scheduling did: trials that it added, and jobs that are now to be cancelled."""

    added: int = 0
    to_cancel: list[UUID] = field(default_factory=list[UUID])


@dataclass(slots=True)
class State:
    """A locked study and what changes of it. `events` are the trials that changed, in order, None for the study itself."""

    row: Row[Any]
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[UUID | None] = field(default_factory=list["UUID | None"])

    def get(self, name: str) -> Any:
        return self.values.get(name, getattr(self.row, name))

    def add(self, name: str, amount: int) -> None:
        self.values[name] = self.get(name) + amount

    def set(self, **values: Any) -> None:
        """Set columns of the study; a change of its status or reason is an event."""
        changed = {name: value for name, value in values.items() if self.get(name) != value}
        self.values |= changed
        if changed.keys() & {"status", "reason"}:
            self.events.append(None)

    def stop_clock(self) -> None:
        """Add the time since it last began to run to what it has used."""
        since = self.get("running_since")
        if since is not None:
            self.values |= {
                "seconds_used": self.get("seconds_used") + max(0.0, (self.row.now - since).total_seconds()),
                "running_since": None,
            }

    @property
    def seconds(self) -> float:
        """How long it has been running, without pauses."""
        since = self.get("running_since")
        return self.get("seconds_used") + (0.0 if since is None else (self.row.now - since).total_seconds())

    @property
    def has_results(self) -> bool:
        return self.get("trials_completed") + self.get("trials_pruned") > 0

    async def write(self, work: Work) -> None:
        """Write what changed, and the events; readers are notified after the commit."""
        first = self.row.last_sequence + 1
        if self.events:
            sequences = list(range(first, first + len(self.events)))
            self.values["last_sequence"] = sequences[-1]
            await work.run(_ADD_EVENTS, {"p_study_id": self.row.id, "p_trial_ids": self.events, "p_sequences": sequences})
            work.notify(Notice(self.row.id, sequences[-1]))
        if self.values:
            await work.run(update(Study).where(Study.id == self.row.id).values(self.values))


async def lock(work: Work, study_id: UUID) -> State | None:
    """Lock a study; None if there is none."""
    row = await work.first(_LOCK, {"p_study_id": study_id})
    return None if row is None else State(row)


async def _advance(work: Work, study_id: UUID, step: Step, most: int | None) -> None:
    state = await lock(work, study_id)
    if state is None or state.row.status in STUDY_ENDS:
        return
    open_trials = await _count(work, state)
    _decide(state)
    if state.get("ends_as") is None and state.get("status") is not StudyStatus.PAUSED:
        await _top_up(work, state, open_trials, step, most)
    _end(state)
    ends_early = state.get("ends_as") is not None and state.get("open_trials") > 0
    if ends_early:
        step.to_cancel = [trial.job_id for trial in open_trials if trial.job_status is not JobStatus.CANCELLING]
    await state.write(work)


async def _count(work: Work, state: State) -> list[Row[Any]]:
    """Count the trials that began or ended; return those that have not ended, by number."""
    still_open: list[Row[Any]] = []
    changes: list[tuple[UUID, TrialStatus, bool, datetime | None, datetime | None]] = []
    for trial in await work.all(_OPEN_TRIALS, {"p_study_id": state.row.id}):
        ended_as = _ended_as(trial)
        if ended_as is None:
            still_open.append(trial)
            if trial.is_drawn and trial.status is TrialStatus.PENDING:
                changes.append((trial.id, TrialStatus.RUNNING, False, trial.started_at, None))
            continue
        is_best = ended_as is TrialStatus.COMPLETED and _is_better(state, trial.value)
        if is_best:
            state.values |= {"best_trial_id": trial.id, "best_value": trial.value}
        changes.append((trial.id, ended_as, is_best, trial.started_at, trial.completed_at))
        state.add(_COUNTERS[ended_as], 1)
        state.add("open_trials", -1)
        state.add("credits_held", -trial.credit_cost)
        if trial.job_status is JobStatus.COMPLETED:
            state.add("credits_charged", trial.credit_cost)
    if changes:
        ids, statuses, are_best, started, completed = (list(column) for column in zip(*changes, strict=True))
        parameters = {"p_ids": ids, "p_statuses": [str(status) for status in statuses], "p_are_best": are_best}
        await work.run(_CHANGE_TRIALS, {**parameters, "p_started": started, "p_completed": completed})
        state.events += ids
        begun = [moment for moment in started if isinstance(moment, datetime)]
        if state.get("started_at") is None and begun:
            state.values["started_at"] = min(begun)
        if state.get("status") is StudyStatus.PENDING and begun:
            state.values["running_since"] = state.get("started_at")
            state.set(status=StudyStatus.RUNNING)
    return sorted(still_open, key=lambda trial: trial.number)


def _ended_as(trial: Row[Any]) -> TrialStatus | None:
    status = _ENDED_AS.get(trial.job_status)
    if status is TrialStatus.COMPLETED and trial.is_pruned:
        return TrialStatus.PRUNED
    if status is TrialStatus.COMPLETED and (not trial.is_drawn or finite_or_none(trial.value) is None):
        return TrialStatus.FAILED
    return status


def _is_better(state: State, value: float) -> bool:
    best = state.get("best_value")
    return best is None or (value > best if state.row.goal is Goal.MAXIMIZE else value < best)


def _decide(state: State) -> None:
    """Decide whether the study makes no further trials; the first reason holds."""
    if state.get("ends_as") is not None:
        return
    row, best = state.row, state.get("best_value")
    ends_well = StudyStatus.COMPLETED if state.has_results else StudyStatus.FAILED
    if row.target is not None and best is not None and (best >= row.target if row.goal is Goal.MAXIMIZE else best <= row.target):
        state.set(ends_as=StudyStatus.COMPLETED, reason=StudyReason.TARGET)
    elif state.get("trials_failed") > row.max_failed:
        state.set(ends_as=StudyStatus.FAILED, reason=StudyReason.FAILURES)
    elif row.max_seconds is not None and state.seconds >= row.max_seconds:
        state.set(ends_as=ends_well, reason=StudyReason.TIME)
    elif state.get("last_number") >= row.trials_total and state.get("open_trials") == 0:
        state.set(ends_as=ends_well, reason=StudyReason.TRIALS)


def _end(state: State) -> None:
    """End the study if that is decided and no trial is left."""
    ends_as = state.get("ends_as")
    if ends_as is not None and state.get("open_trials") == 0:
        state.stop_clock()
        state.values["completed_at"] = func.clock_timestamp()
        state.set(status=ends_as)


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


async def _top_up(work: Work, state: State, open_trials: Sequence[Row[Any]], step: Step, most: int | None) -> None:
    cost = credits.price(KIND)
    wanted = _room(state, open_trials, cost)
    if wanted == 0:
        if state.get("open_trials") == 0:  # its budget pays for none, and nothing that it holds will be released
            ends_as = StudyStatus.COMPLETED if state.has_results else StudyStatus.FAILED
            state.set(ends_as=ends_as, reason=StudyReason.CREDITS)
        return
    if most == 0:
        state.stop_clock()
        state.set(status=StudyStatus.PAUSED, reason=StudyReason.CREDITS)
        return
    base = await _load_base(work, state.row)
    if base is None:
        state.set(ends_as=StudyStatus.FAILED, reason=StudyReason.FAILURES)
        return
    step.added = wanted if most is None else min(wanted, most)
    await _add_trials(work, state, base, step.added)
    state.add("open_trials", step.added)
    state.add("credits_held", step.added * cost)


async def _load_base(work: Work, row: Row[Any]) -> Row[Any] | None:
    """What all trials have in common; None if the dataset was deleted. Locks that against deletion."""
    statement = (
        select(Dataset.id, Dataset.modality, Pipeline.name.label("pipeline_name"), Pipeline.version.label("pipeline_version"))
        .select_from(DatasetVersion)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(PipelineSnapshot, PipelineSnapshot.id == row.snapshot_id)
        .join(Pipeline, Pipeline.id == PipelineSnapshot.pipeline_id)
    )
    base = await work.one(statement.where(DatasetVersion.id == row.dataset_version_id))
    of_inputs = select(DatasetVersion.dataset_id).where(DatasetVersion.id == any_(bindparam("p_inputs", type_=ARRAY(Uuid))))
    dataset_ids = {each.dataset_id for each in await work.all(of_inputs, {"p_inputs": row.input_version_ids})}
    return base if len(await datasets.lock_shared(work, *dataset_ids)) == len(dataset_ids) else None


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
    increment = update(Experiment).where(Experiment.id == row.experiment_id).values(last_number=Experiment.last_number + count)
    last_run = await work.scalar(increment.returning(Experiment.last_number))
    config: dict[str, Any] = {"pipeline": base.pipeline_name, "pipelineVersion": base.pipeline_version, "parameters": {}}
    values: dict[str, Any] = {
        "owner_id": row.owner_id,
        "experiment_id": row.experiment_id,
        "seed": row.seed,
        "config": config,
        "dataset_id": base.id,
        "dataset_version_id": row.dataset_version_id,
        "pipeline_id": row.pipeline_id,
        "study_id": row.id,
    }
    runs = await work.all(
        insert(Run)
        .values([{**values, "number": last_run - count + 1 + index, "job_id": job_id} for index, job_id in enumerate(job_ids)])
        .returning(Run.id, Run.job_id)
    )
    run_of_job = {run.job_id: run.id for run in runs}
    trials = await work.all(
        insert(Trial)
        .values(
            [
                {
                    "study_id": row.id,
                    "number": first + index,
                    "job_id": job_id,
                    "run_id": run_of_job[job_id],
                    "created_at": func.clock_timestamp(),
                }
                for index, job_id in enumerate(job_ids)
            ]
        )
        .returning(Trial.id, Trial.number)
    )
    state.values["last_number"] = first + count - 1
    state.events += [trial.id for trial in sorted(trials, key=lambda trial: trial.number)]
