"""Scheduling of a study: count the trials that have ended, decide whether it goes on, and add trials up to what its budget allows.

It is one transaction under the lock of the study's row, run after the commits that change a job of a trial, and by a maintenance task for those after
which it was not. It may be run at any time, any number of times. The row counts everything, so only the trials that have not ended are read,
however many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select

from db.core.goal import Goal
from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import InsufficientCredits, StateError, WrongState
from db.services import experiments, jobs
from db.services.studies.adding import STUDY_PARAMETER, top_up
from db.services.studies.counting import count_changes
from db.services.studies.state import State, lock
from db.tables import Job, Study, Trial
from db.tables.jobstates import TERMINAL, JobStatus
from db.tables.studies import OPEN_TRIAL, STUDY_ENDS, StudyReason, StudyStatus, TrialStatus

MAX_ROUNDS = 20


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


async def _advance(work: Work, study_id: UUID, step: Step, most: int | None) -> None:
    state = await lock(work, study_id)
    if state is None or state.row.status in STUDY_ENDS:
        return
    open_trials = await count_changes(work, state)
    _decide(state)
    if state.get("ends_as") is None and state.get("status") is not StudyStatus.PAUSED:
        step.added = await top_up(work, state, open_trials, most)
    _end(state)
    ends_early = state.get("ends_as") is not None and state.get("open_trials") > 0
    if ends_early:
        step.to_cancel = [trial.job_id for trial in open_trials if trial.job_status is not JobStatus.CANCELLING]
    await state.write(work)


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
