"""Counting the trials of a study that began or ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, DateTime, Row, Text, Uuid, bindparam, func, literal_column, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.base import finite_or_none
from db.core.goal import Goal
from db.core.work import Work
from db.services.studies.state import State
from db.tables import Job, Trial
from db.tables.jobstates import JobStatus
from db.tables.studies import OPEN_TRIAL, StudyStatus, TrialStatus

_ENDED_AS = {JobStatus.COMPLETED: TrialStatus.COMPLETED, JobStatus.FAILED: TrialStatus.FAILED, JobStatus.CANCELLED: TrialStatus.CANCELLED}
_COUNTERS = {
    TrialStatus.COMPLETED: "trials_completed",
    TrialStatus.PRUNED: "trials_pruned",
    TrialStatus.FAILED: "trials_failed",
    TrialStatus.CANCELLED: "trials_cancelled",
}

_STUDY_ID = bindparam("p_study_id", type_=Uuid())
# Written out, so that a plan that holds for all values may use the index of the trials that are open.
_IS_OPEN = Trial.status.in_([literal_column(f"'{status}'") for status in OPEN_TRIAL])
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
    .where(Trial.study_id == _STUDY_ID, _IS_OPEN)
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


async def count_changes(work: Work, state: State) -> list[Row[Any]]:
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
